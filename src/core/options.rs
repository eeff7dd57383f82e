//! The options of a command, read as the server reads them: one after the other, each with its arguments, so that no
//! argument is taken for an option. Where the server accepts an option twice, the last one counts.

/// The word of an option, and whether an argument follows it.
pub type Known = (&'static str, bool);

/// `COPY source destination [DB index] [REPLACE]` (`copyCommand`, db.c).
pub const COPY: &[Known] = &[("DB", true), ("REPLACE", false)];
/// `RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]` (`restoreCommand`, cluster.c).
pub const RESTORE: &[Known] = &[("REPLACE", false), ("ABSTTL", false), ("IDLETIME", true), ("FREQ", true)];
/// GETEX key [PERSIST | EX seconds | ...] (`parseExtendedStringArgumentsOrReply`, t_string.c).
pub const GETEX: &[Known] = &[("PERSIST", false), ("EX", true), ("PX", true), ("EXAT", true), ("PXAT", true)];
/// `SET key value [NX | XX | IFEQ value] [GET] [KEEPTTL | EX seconds | ...]` (the same).
pub const SET: &[Known] = &[
    ("NX", false),
    ("XX", false),
    ("IFEQ", true),
    ("GET", false),
    ("KEEPTTL", false),
    ("EX", true),
    ("PX", true),
    ("EXAT", true),
    ("PXAT", true),
];

/// HSETEX key [NX | XX] [FNX | FXX] [KEEPTTL | EX seconds | ...] FIELDS ... (`hsetexCommand`, t_hash.c).
pub const SET_FIELDS: &[Known] = &[
    ("NX", false),
    ("XX", false),
    ("FNX", false),
    ("FXX", false),
    ("KEEPTTL", false),
    ("EX", true),
    ("PX", true),
    ("EXAT", true),
    ("PXAT", true),
];

/// An option that was found: its word as it is known, and its argument.
pub type Found<'a> = (&'static str, Option<&'a [u8]>);

/// Reads options, in their order. `None` where one is unknown or lacks its argument: the servers that the module knows
/// then refuse the command.
pub fn parse<'a>(words: &[&'a [u8]], known: &[Known]) -> Option<Vec<Found<'a>>> {
    let mut found = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let (name, has_argument) = known.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))?;
        let argument = if *has_argument { Some(*rest.next()?) } else { None };
        found.push((*name, argument));
    }
    Some(found)
}

/// The argument of the last option of this name.
pub fn last<'a>(found: &[Found<'a>], name: &str) -> Option<&'a [u8]> {
    found.iter().rev().find(|(is, _)| *is == name)?.1
}

/// Whether there is an option of this name.
pub fn has(found: &[Found<'_>], name: &str) -> bool {
    found.iter().any(|(is, _)| *is == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(text: &'a str, known: &[Known]) -> Option<Vec<Found<'a>>> {
        parse(&text.split_ascii_whitespace().map(str::as_bytes).collect::<Vec<_>>(), known)
    }

    #[test]
    fn the_last_of_an_option_counts() {
        let found = of("DB 1 replace db 2", COPY).unwrap();
        assert_eq!((last(&found, "DB"), has(&found, "REPLACE")), (Some(&b"2"[..]), true));
        assert_eq!(last(&of("EX 1 EX 2", GETEX).unwrap(), "EX"), Some(&b"2"[..]));
    }

    #[test]
    fn arguments_are_no_options() {
        let found = of("IDLETIME ABSTTL", RESTORE).unwrap();
        assert!(!has(&found, "ABSTTL"));
        assert_eq!(last(&of("IFEQ EX GET", SET).unwrap(), "EX"), None);
    }

    #[test]
    fn what_is_not_known_is_given_up() {
        assert_eq!(of("DB", COPY), None);
        assert_eq!(of("REPLACE NEW", COPY), None);
        assert_eq!(of("", COPY), Some(Vec::new()));
    }
}

//! What follows from a row.

use super::{Blocks, CommandSpec, Early, Keys, Notifies, Rule};

impl CommandSpec {
    /// It runs through the module's command where that is possible: no keyspace event reports its effect, or its reply
    /// shows more than events do.
    pub fn is_wrapped(&self) -> bool {
        (self.is_silent() || self.rule == Rule::RandomPop) && !self.is_unknown()
    }

    /// The table does not know it.
    pub fn is_unknown(&self) -> bool {
        self.keys == Keys::Told
    }

    /// The commands that its effect may be logged with on servers where fields of hashes expire, besides
    /// `CommandSpec::logged_as`.
    pub fn logged_with_fields_as(&self) -> &'static [&'static str] {
        match self.rule {
            Rule::FieldFloat | Rule::FieldCounter => &["hset", "hpexpireat"],
            Rule::FieldExpiry | Rule::SetFields => &["hdel"],
            _ => &[],
        }
    }

    /// Whether it is complete when it raises this event, and logged as it was sent. `len` is the number of its
    /// arguments, with the name.
    pub fn is_complete_with(&self, event: &[u8], len: usize) -> bool {
        // SET without options.
        let is_plain = self.rule == Rule::Verbatim || self.rule == Rule::Set && len == 3;
        self.ends_with_event && is_plain && self.event.as_bytes() == event
    }

    /// It may block its client.
    pub fn may_block(&self) -> bool {
        self.blocks != Blocks::No
    }

    /// No keyspace event reports its effect.
    pub fn is_silent(&self) -> bool {
        matches!(
            self.rule,
            Rule::Silent
                | Rule::SilentImage
                | Rule::Pending(_)
                | Rule::Functions
                | Rule::ByServerEvent
                | Rule::CardinalityCache
        )
    }

    /// Whether it can answer before its event. `args` are its arguments, with the name.
    pub fn may_reply_early<'a>(&self, args: impl ExactSizeIterator<Item = &'a [u8]>) -> bool {
        match self.early {
            Early::No => false,
            Early::Always => true,
            Early::WithGet => args.len() > 3 && args.skip(3).any(|arg| arg.eq_ignore_ascii_case(b"GET")),
        }
    }

    /// Whether it is BITFIELD with OVERFLOW FAIL, which may lengthen a string without an event. `args` are its
    /// arguments, with the name.
    pub fn is_failing_bitfield<'a>(&self, args: impl Iterator<Item = &'a [u8]>) -> bool {
        self.rule == Rule::Bits && args.skip(2).any(|arg| arg.eq_ignore_ascii_case(b"FAIL"))
    }

    /// Whether it changes something whenever it does not fail. `args` are its arguments, with the name.
    pub fn is_effective<'a>(&self, args: impl Iterator<Item = &'a [u8]>) -> bool {
        let conditions: [&[u8]; 5] = [b"NX", b"XX", b"GET", b"IFEQ", b"IFNE"];
        let is = |arg: &[u8], word: &[u8]| arg.eq_ignore_ascii_case(word);
        match self.notifies {
            Notifies::WhenChanged => false,
            Notifies::Always => true,
            Notifies::UnlessConditional => {
                // XADD key NOMKSTREAM ..., SET key value NX ...
                let mut args = args.skip(2);
                !args.next().is_some_and(|arg| is(arg, b"NOMKSTREAM"))
                    && !args.any(|arg| conditions.iter().any(|condition| is(arg, condition)))
            }
        }
    }
}

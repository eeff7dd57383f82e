//! Expiries that the base's stream defers, until they are applied. There may be as many as the dataset has keys, so
//! they are kept on disk.

use crate::ffi::{CallMode, Ctx, ReplyKind};
use crate::machine::unix_ms;
use crate::rdb::{Before, Deferred, EarlyFields, Strip};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Seek, Write};
use std::path::PathBuf;

/// How much is kept in memory.
const BUFFER_BYTES: usize = 1 << 20;

/// The loader has looked at the clock before; how much it may have been set back since.
const CLOCK_STEP_MS: i64 = 10_000;

const EXPIRE: u8 = 0;
const EXPIRE_FIELD: u8 = 1;
const EMPTIED: u8 = 2;

/// The deferred expiries of a base, in order.
pub(super) struct Spool {
    folder: PathBuf,
    fields: EarlyFields,
    /// What the file does not have yet.
    buffer: Vec<u8>,
    /// Made when it is needed. It has no name.
    file: Option<File>,
}

impl Spool {
    /// An empty one, which may make a file in this folder.
    pub(super) fn new(folder: PathBuf, fields: EarlyFields) -> Spool {
        Spool { folder, fields, buffer: Vec::new(), file: None }
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(unnamed_file(&self.folder)?),
        };
        file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Applies all of it to the server's dataset.
    ///
    /// # Errors
    /// What could not be applied or read, for the server's log.
    pub(super) fn apply(mut self, ctx: Ctx<'_>) -> Result<(), String> {
        self.each(|deferred| apply(ctx, &deferred))
    }

    fn each(&mut self, mut use_it: impl FnMut(Deferred) -> Result<(), String>) -> Result<(), String> {
        let unreadable = |error: io::Error| format!("what expires can't be read back: {error}");
        if let Some(file) = &mut self.file {
            file.rewind().map_err(unreadable)?;
            let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
            while let Some(deferred) = decode(&mut file).map_err(unreadable)? {
                use_it(deferred)?;
            }
        }
        let mut rest = self.buffer.as_slice();
        while let Some(deferred) = decode(&mut rest).map_err(unreadable)? {
            use_it(deferred)?;
        }
        Ok(())
    }
}

impl Strip for Spool {
    fn before(&mut self) -> Before {
        let now = i64::try_from(unix_ms()).unwrap_or(i64::MAX);
        Before { ms: now.saturating_add(CLOCK_STEP_MS), fields: self.fields }
    }

    fn defer(&mut self, deferred: Deferred) -> io::Result<()> {
        encode(&mut self.buffer, &deferred)?;
        if self.buffer.len() >= BUFFER_BYTES { self.spill() } else { Ok(()) }
    }
}

/// A file that is gone when it is closed, however the process ends.
fn unnamed_file(folder: &std::path::Path) -> io::Result<File> {
    // If the process ends in between, it is a leftover that the next start removes.
    let path = folder.join(format!("temp-expiries-{}", std::process::id()));
    let make = || OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    let file = make().or_else(|error| match error.kind() {
        ErrorKind::AlreadyExists => std::fs::remove_file(&path).and_then(|()| make()),
        _ => Err(error),
    })?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn encode(out: &mut Vec<u8>, deferred: &Deferred) -> io::Result<()> {
    let (kind, db, at_ms, texts): (_, _, _, [&[u8]; 2]) = match deferred {
        Deferred::Expire { db, key, at_ms } => (EXPIRE, db, at_ms, [key, b""]),
        Deferred::ExpireField { db, key, field, at_ms } => (EXPIRE_FIELD, db, at_ms, [key, field]),
        Deferred::Emptied { db, key } => (EMPTIED, db, &0, [key, b""]),
    };
    out.push(kind);
    out.extend_from_slice(&db.to_le_bytes());
    out.extend_from_slice(&at_ms.to_le_bytes());
    for text in texts {
        let length = u32::try_from(text.len()).map_err(|_| io::Error::other("a key of more than 4 GB"))?;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(text);
    }
    Ok(())
}

/// The next one; `None` at the end.
fn decode(from: &mut impl Read) -> io::Result<Option<Deferred>> {
    let mut kind = [0];
    if from.read(&mut kind)? == 0 {
        return Ok(None);
    }
    let (mut db, mut at_ms) = ([0; 4], [0; 8]);
    from.read_exact(&mut db)?;
    from.read_exact(&mut at_ms)?;
    let (db, at_ms) = (u32::from_le_bytes(db), i64::from_le_bytes(at_ms));
    let mut text = || {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u64::from(u32::from_le_bytes(length));
        let mut text = Vec::new();
        let read = from.take(length).read_to_end(&mut text)?;
        if read as u64 == length { Ok(text) } else { Err(io::Error::from(ErrorKind::UnexpectedEof)) }
    };
    let (key, field) = (text()?, text()?);
    Ok(Some(match kind {
        [EXPIRE] => Deferred::Expire { db, key, at_ms },
        [EMPTIED] => Deferred::Emptied { db, key },
        _ => Deferred::ExpireField { db, key, field, at_ms },
    }))
}

fn apply(ctx: Ctx<'_>, deferred: &Deferred) -> Result<(), String> {
    let own = ctx.own();
    let (db, key, done) = match deferred {
        Deferred::Expire { db, key, at_ms } => {
            // A hash that the loader has emptied has expired before.
            let at_ms = |own: Ctx<'_>| own.key_expiry_ms(key).map_or(*at_ms, |earlier| earlier.min(*at_ms));
            (db, key, own.select_db(*db) && own.set_key_expiry(key, at_ms(own)))
        }
        // An expired key takes its place. The server finds it as it finds others, and that it goes is logged.
        Deferred::Emptied { db, key } => {
            (db, key, own.select_db(*db) && (own.has_key(key) || own.make_expired_key(key)))
        }
        Deferred::ExpireField { db, key, field, at_ms } => {
            let at = at_ms.to_string();
            let args = [key.as_slice(), at.as_bytes(), b"FIELDS", b"1", field];
            let reply = own.select_db(*db).then(|| own.call(CallMode::Internal, "HPEXPIREAT", args)).flatten();
            let set = |reply: crate::ffi::Reply<'_>| reply.element(0).is_some_and(|set| set.integer() == 1);
            (db, key, reply.filter(|reply| reply.kind() == ReplyKind::Array).is_some_and(set))
        }
    };
    if done {
        return Ok(());
    }
    Err(format!("the expiry of the base's key {} in database {db} could not be set", key.escape_ascii()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn much_and_little_comes_back_in_order_and_leaves_no_file() {
        let folder = std::env::temp_dir().join(format!("wbl-spool-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        for count in [0_u32, 1, 100_000] {
            let of = |number: u32| match number % 3 {
                2 => Deferred::Emptied { db: number, key: number.to_string().into_bytes() },
                0 => {
                    Deferred::Expire { db: number, key: number.to_string().into_bytes(), at_ms: i64::from(number) - 9 }
                }
                _ => Deferred::ExpireField { db: 3, key: vec![0; 20], field: number.to_le_bytes().to_vec(), at_ms: 7 },
            };
            let mut spool = Spool::new(folder.clone(), EarlyFields::Deferred);
            for number in 0..count {
                spool.defer(of(number)).unwrap();
                assert!(spool.buffer.len() <= BUFFER_BYTES);
            }
            assert_eq!(spool.file.is_some(), count == 100_000);
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "a file has a name");
            let mut next = 0;
            spool
                .each(|deferred| {
                    assert_eq!(deferred, of(next));
                    next += 1;
                    Ok(())
                })
                .unwrap();
            assert_eq!(next, count);
        }
        std::fs::remove_dir(folder).unwrap();
    }
}

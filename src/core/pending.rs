//! Pending entries of consumer groups: what XREADGROUP, XCLAIM and XAUTOCLAIM did, as commands that do it again
//! exactly.
//!
//! The server's own replication uses XCLAIM for this too (`streamPropagateXCLAIM`, t_stream.c). For a group's last
//! delivered id and its number of entries read it states both (`XGROUP SETID ... ENTRIESREAD`). A module could only ask
//! for the number with XINFO GROUPS, which shows all groups of the stream. But the server computes it from the group
//! and the stream as they are: delivering as many entries once more, to nobody (NOACK), gives the same.

use crate::core::unit::Unit;

/// A pending entry as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEntry {
    /// The entry's id.
    pub id: Vec<u8>,
    /// Its consumer.
    pub consumer: Vec<u8>,
    /// When it was delivered last, milliseconds since the epoch.
    pub delivered_ms: i64,
    /// How often it was delivered.
    pub deliveries: i64,
}

/// How a command moved what the group has been delivered: its last delivered id and its number of entries read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Moved {
    /// Not at all.
    #[default]
    No,
    /// Past this many entries, which were new to the group.
    Past(usize),
    /// To this id, unless it was there already or further; the number stays (`XCLAIM ... LASTID`).
    To(Vec<u8>),
}

/// What a command did to one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupChange {
    /// The stream's key.
    pub key: Vec<u8>,
    /// The group.
    pub group: Vec<u8>,
    /// The command's consumer.
    pub consumer: Vec<u8>,
    /// The consumer may be new.
    pub is_new: bool,
    /// Entries that the command touched and that are pending.
    pub pending: Vec<PendingEntry>,
    /// Entries that the command touched and that are not pending.
    pub gone: Vec<Vec<u8>>,
    /// What became of the group's position.
    pub moved: Moved,
}

impl GroupChange {
    /// Whether it changes nothing.
    pub fn is_nothing(&self) -> bool {
        !self.is_new && self.pending.is_empty() && self.gone.is_empty() && self.moved == Moved::No
    }

    /// Adds the commands that do the same.
    pub fn log(&self, db: u32, unit: &mut Unit) {
        let (key, group, consumer) = (self.key.as_slice(), self.group.as_slice(), self.consumer.as_slice());
        if self.is_new {
            unit.command(db, &[b"XGROUP", b"CREATECONSUMER", key, group, consumer]);
        }
        for run in self
            .pending
            .chunk_by(|a, b| (&a.consumer, a.delivered_ms, a.deliveries) == (&b.consumer, b.delivered_ms, b.deliveries))
        {
            let Some(first) = run.first() else { continue };
            let (time, count) = (first.delivered_ms.to_string(), first.deliveries.to_string());
            let mut command: Vec<&[u8]> = vec![b"XCLAIM", key, group, &first.consumer, b"0"];
            command.extend(run.iter().map(|entry| entry.id.as_slice()));
            command.extend([&b"TIME"[..], time.as_bytes(), b"RETRYCOUNT", count.as_bytes(), b"FORCE", b"JUSTID"]);
            unit.command(db, &command);
        }
        if !self.gone.is_empty() {
            let mut command: Vec<&[u8]> = vec![b"XACK", key, group];
            command.extend(self.gone.iter().map(Vec::as_slice));
            unit.command(db, &command);
        }
        match &self.moved {
            Moved::No => {}
            Moved::Past(entries) => {
                let count = entries.to_string();
                let options: [&[u8]; 5] = [b"COUNT", count.as_bytes(), b"NOACK", b"STREAMS", key];
                let mut command: Vec<&[u8]> = vec![b"XREADGROUP", b"GROUP", group, consumer];
                command.extend(options);
                command.push(b">");
                unit.command(db, &command);
            }
            Moved::To(id) => unit.command(db, &[b"XCLAIM", key, group, consumer, b"0", b"LASTID", id]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::unit::Batch;
    use crate::log::{Lsn, resp::Commands};

    fn logged(change: &GroupChange) -> Vec<String> {
        let mut unit = Unit::new(0);
        change.log(0, &mut unit);
        let mut batch = Batch::new(Lsn::ZERO);
        batch.push(&unit);
        let payload = batch.take(Vec::new());
        Commands::new(&payload)
            .map(|command| String::from_utf8_lossy(&command.expect("valid").args.join(&b' ')).into_owned())
            .collect()
    }

    fn entry(id: &str, delivered_ms: i64) -> PendingEntry {
        PendingEntry { id: id.into(), consumer: b"c".to_vec(), delivered_ms, deliveries: 1 }
    }

    #[test]
    fn entries_delivered_together_are_claimed_together() {
        let change = GroupChange {
            key: b"s".to_vec(),
            group: b"g".to_vec(),
            consumer: b"c".to_vec(),
            is_new: true,
            pending: vec![entry("1-0", 7), entry("2-0", 7), entry("3-0", 8)],
            gone: vec![b"4-0".to_vec()],
            moved: Moved::Past(3),
        };
        let words = logged(&change);
        let claims: Vec<_> = words.iter().filter(|word| word.starts_with("XCLAIM")).collect();
        assert_eq!(claims[0], "XCLAIM s g c 0 1-0 2-0 TIME 7 RETRYCOUNT 1 FORCE JUSTID");
        assert_eq!(claims[1], "XCLAIM s g c 0 3-0 TIME 8 RETRYCOUNT 1 FORCE JUSTID");
        assert!(words.contains(&"XACK s g 4-0".to_string()));
        assert!(words.contains(&"XREADGROUP GROUP g c COUNT 3 NOACK STREAMS s >".to_string()));
    }

    #[test]
    fn a_claim_with_an_id_moves_the_group_to_it_again() {
        let moved = Moved::To(b"7-0".to_vec());
        let change =
            GroupChange { key: b"s".into(), group: b"g".into(), consumer: b"c".into(), moved, ..Default::default() };
        assert!(!change.is_nothing());
        assert!(logged(&change).contains(&"XCLAIM s g c 0 LASTID 7-0".to_string()));
    }
}

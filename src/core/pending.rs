//! Pending entries of consumer groups: what XREADGROUP, XCLAIM and XAUTOCLAIM did, as commands that do it again
//! exactly.
//!
//! The server's own replication uses XCLAIM for this too (`streamPropagateXCLAIM`, t_stream.c).

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

/// What a command did to one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupChange {
    /// The stream's key.
    pub key: Vec<u8>,
    /// The group.
    pub group: Vec<u8>,
    /// A consumer that may be new.
    pub consumer: Option<Vec<u8>>,
    /// Entries that the command touched and that are pending.
    pub pending: Vec<PendingEntry>,
    /// Entries that the command touched and that are not pending.
    pub gone: Vec<Vec<u8>>,
    /// Last delivered id and number of entries read (-1: unknown), where they may have changed.
    pub position: Option<(Vec<u8>, i64)>,
}

impl GroupChange {
    /// Whether it changes nothing.
    pub fn is_nothing(&self) -> bool {
        self.consumer.is_none() && self.pending.is_empty() && self.gone.is_empty() && self.position.is_none()
    }

    /// Adds the commands that do the same.
    pub fn log(&self, db: u32, unit: &mut Unit) {
        let (key, group) = (self.key.as_slice(), self.group.as_slice());
        if let Some(consumer) = &self.consumer {
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
        if let Some((last, read)) = &self.position {
            unit.command(db, &[b"XGROUP", b"SETID", key, group, last, b"ENTRIESREAD", read.to_string().as_bytes()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::unit::Batch;
    use crate::log::{Lsn, resp::Commands};

    fn entry(id: &str, delivered_ms: i64) -> PendingEntry {
        PendingEntry { id: id.into(), consumer: b"c".to_vec(), delivered_ms, deliveries: 1 }
    }

    #[test]
    fn entries_delivered_together_are_claimed_together() {
        let change = GroupChange {
            key: b"s".to_vec(),
            group: b"g".to_vec(),
            consumer: Some(b"c".to_vec()),
            pending: vec![entry("1-0", 7), entry("2-0", 7), entry("3-0", 8)],
            gone: vec![b"4-0".to_vec()],
            position: Some((b"3-0".to_vec(), -1)),
        };
        let mut unit = Unit::new(0);
        change.log(0, &mut unit);
        let mut batch = Batch::new(Lsn::ZERO);
        batch.push(&unit);
        let payload = batch.take(Vec::new());
        let words: Vec<String> = Commands::new(&payload)
            .map(|command| String::from_utf8_lossy(&command.expect("valid").args.join(&b' ')).into_owned())
            .collect();
        let claims: Vec<_> = words.iter().filter(|word| word.starts_with("XCLAIM")).collect();
        assert_eq!(claims[0], "XCLAIM s g c 0 1-0 2-0 TIME 7 RETRYCOUNT 1 FORCE JUSTID");
        assert_eq!(claims[1], "XCLAIM s g c 0 3-0 TIME 8 RETRYCOUNT 1 FORCE JUSTID");
        assert!(words.contains(&"XACK s g 4-0".to_string()));
        assert!(words.contains(&"XGROUP SETID s g 3-0 ENTRIESREAD -1".to_string()));
    }
}

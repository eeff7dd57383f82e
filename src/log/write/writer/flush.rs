//! The flushes of a log that is written (`write/flush.rs`).

use super::LogWriter;
use crate::log::error::LogError;
use crate::log::lsn::Lsn;
use crate::log::storage::Storage;
use crate::log::write::flush::Flush;

impl<S: Storage> LogWriter<S> {
    /// Begins a flush of all that is written; `None` when there is nothing to flush, or when no flush can begin now.
    pub fn begin_flush(&mut self) -> Result<Option<Flush<S::File>>, LogError> {
        self.check_usable()?;
        if self.flights.end().unwrap_or(self.durable) == self.current.end {
            return Ok(None);
        }
        self.openings(true);
        let flush = self.current.flush(self.flights.next_number());
        flush.iter().for_each(|flush| self.flights.begin(flush));
        Ok(flush)
    }

    /// Takes the outcome of a flush; returns the position up to which all is durable now. A failure is a failure of the
    /// log: no flush that ends after it counts, because what it has lost may be what another one vouches for. Nor does
    /// one of a segment that was given up.
    pub fn end_flush(&mut self, flush: Flush<S::File>, outcome: Result<(), LogError>) -> Result<Lsn, LogError> {
        self.guarded(|writer| {
            if flush.segment != writer.current.seq {
                return Ok(writer.durable);
            }
            outcome?;
            writer.statistics.count_sync();
            if let Some(reach) = writer.flights.succeed(flush.number) {
                assert!((writer.durable..=writer.current.end).contains(&reach.end), "more is durable than was written");
                writer.durable = reach.end;
                assert_eq!(reach.segment, writer.current.seq, "no flush of another segment counts");
                writer.current.set_durable(reach.bytes);
            }
            writer.current.take_back(flush.file, flush.blocks);
            Ok(writer.durable)
        })
    }

    pub(super) fn sync_current(&mut self) -> Result<(), LogError> {
        assert!(self.flights.is_empty(), "a boundary is exact when no flush is under way");
        if self.current.is_synced() {
            return Ok(());
        }
        let Some(mut flush) = self.begin_flush()? else {
            unreachable!("an opening is idle when no flush is under way");
        };
        let outcome = flush.run(&*self.folder.storage);
        self.end_flush(flush, outcome).map(drop)
    }
}

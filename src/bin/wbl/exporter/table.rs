//! What each field of INFO wbl is to Prometheus.

use Kind::{ByReason, Counter, Gauge, IsThere, Left, Word, YesNo};

/// How a field becomes a metric.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows while the log is open. Its name ends in `_total`.
    Counter,
    /// Counters whose names begin so: one metric, with the rest as its label `reason`.
    ByReason(&'static str),
    /// One of these words, or none: a metric that is 1 with that word as its label `value`, and 0 with each other word.
    Word(&'static [&'static str]),
    /// 1 for yes.
    YesNo,
    /// A text: 1 where there is one.
    IsThere,
    /// Counts by microseconds, and the field with the sum.
    Histogram { name: &'static str, sum: &'static str },
    /// No metric: words for people, or part of another metric.
    Left,
}

/// A field, or fields that begin so where the kind is `ByReason`.
pub struct Row {
    name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

const fn of(name: &'static str, kind: Kind, help: &'static str) -> Row {
    Row { name, kind, help }
}

/// The row of a field.
pub fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| match row.kind {
        ByReason(prefix) => name.starts_with(prefix),
        _ => row.name == name,
    })
}

const STATES: &[&str] = &["starting", "recovering", "baselining", "active", "disabled", "replica", "failing", "closed"];
const FLUSHES: Kind = Kind::Histogram { name: "wbl_flush_seconds", sum: "wbl_flush_total_usec" };

const ROWS: &[Row] = &[
    of("wbl_safe", YesNo, "1 when all that was acknowledged survives a crash."),
    of("wbl_safe_why", Left, ""),
    of("wbl_safe_advice", Left, ""),
    of("wbl_state", Word(STATES), "What the module does."),
    of("wbl_replica_log", Word(&["written", "baselining", "none"]), "What a replica's log holds; all 0 on a primary."),
    of("wbl_enabled", Gauge, "The setting wbl.enabled."),
    of("wbl_failure", IsThere, "1 when there is no log, or the last base could not be written; INFO says why."),
    of("wbl_disk_error", IsThere, "1 while the log's disk fails, or the log has filled it; INFO says how."),
    of("wbl_disk_error_since_unix_ms", Gauge, "Since when the disk fails; 0 when it does not."),
    of("wbl_write_refusal", IsThere, "1 while writes are refused for lack of room."),
    of("wbl_lag_bytes", Gauge, "Bytes that were logged and are not durable yet."),
    of("wbl_lag_ms", Gauge, "For how many milliseconds the oldest of them has waited."),
    of("wbl_flush_p50_usec", Gauge, "Half of all flushes took less, in microseconds."),
    of("wbl_flush_p99_usec", Gauge, "99 of 100 flushes took less, in microseconds."),
    of("wbl_flush_max_usec", Gauge, "The longest flush, in microseconds."),
    of("wbl_flush_total_usec", Left, ""),
    of("wbl_flush_usec_histogram", FLUSHES, "How long flushes of the log take."),
    of("wbl_writes_per_flush", Gauge, "Units that share a flush, on average."),
    of("wbl_units", Counter, "Units (commands, transactions, scripts) that were logged."),
    of("wbl_log_frames", Counter, "Frames that were written to the log."),
    of("wbl_log_bytes", Counter, "Bytes of these frames."),
    of("wbl_log_syncs", Counter, "Flushes of the log."),
    of("wbl_log_sync_last_us", Gauge, "The last flush, in microseconds."),
    of("wbl_log_sync_max_us", Gauge, "The longest flush, in microseconds."),
    of("wbl_log_sync_ewma_us", Gauge, "A moving average of flushes, in microseconds."),
    of("wbl_pending_bytes", Gauge, "Bytes that wait for the disk."),
    of("wbl_inflight_flushes", Gauge, "Flushes that are under way."),
    of("wbl_clients_waiting_ack", Gauge, "Clients whose reply is held."),
    of("wbl_held_bytes", Gauge, "Bytes of the held replies that the module keeps."),
    of("wbl_uncommitted_keys", Gauge, "Keys whose last change is not durable."),
    of("wbl_previous_acked_offset", Gauge, "The durable position of the log."),
    of("wbl_appended_offset", Gauge, "The position of the last change."),
    of("wbl_primary_repl_offset", Gauge, "The server's own replication offset."),
    of("wbl_replies_held_in_event", Counter, "Replies that the server kept back for the module."),
    of("wbl_replies_held_by_module", Counter, "Replies that the module kept back, because it ran their commands."),
    of("wbl_replies_waited_for", Counter, "Replies that the main thread waited with."),
    of("wbl_write_blocked_count", Counter, "Replies of writes that were held back."),
    of("wbl_read_blocked_count", Counter, "Replies of reads that were held back."),
    of("wbl_reads_from_durable", Counter, "Reads that were answered with the newest durable value."),
    of("wbl_hot_keys", Gauge, "Keys whose durable values are kept for their readers."),
    of("wbl_hot_keys_bytes", Gauge, "Bytes that these values take."),
    of("wbl_inline_waits", Counter, "Waits of the main thread for the disk."),
    of("wbl_loop_wait_usec", Counter, "Microseconds of all these waits."),
    of("wbl_loop_wait_max_usec", Gauge, "The longest of them, in microseconds."),
    of("wbl_waits_*", ByReason("wbl_waits_"), "Replies that the main thread waited with, by the reason."),
    of("wbl_wait_usec_*", ByReason("wbl_wait_usec_"), "Microseconds that it waited, by the reason of the first reply."),
    of("wbl_commit_mode", Word(&["async", "inline"]), "How the log is made durable."),
    of("wbl_inline_commits", Counter, "Flushes of the main thread."),
    of("wbl_io_mode", Word(&["buffered", "direct"]), "How the log is written."),
    of("wbl_base_bytes", Gauge, "Size of the base."),
    of("wbl_log_bytes_since_base", Gauge, "Size of the log after the base."),
    of("wbl_recovery_estimate_ms", Gauge, "What a recovery would take now, in milliseconds."),
    of("wbl_segments", Gauge, "Files of the log after the base."),
    of("wbl_segments_after_errors", Counter, "Files that errors of the disk have begun."),
    of("wbl_checkpoint_in_progress", Gauge, "1 while a checkpoint is under way, or is to begin."),
    of("wbl_checkpoints", Counter, "Checkpoints that are done."),
    of("wbl_checkpoint_failures", Counter, "Checkpoints that failed."),
    of("wbl_last_checkpoint_status", Word(&["ok", "err"]), "How the last checkpoint ended."),
    of("wbl_reserve_bytes", Gauge, "Room that is held on the disk for the next checkpoint."),
    of("wbl_history_bytes", Gauge, "What checkpoints have replaced and is kept."),
    of("wbl_history_since_unix_ms", Gauge, "The first moment that this can bring back; 0 where nothing is kept."),
    of("wbl_disk_errors", Counter, "Errors of the disk after which the log was tried in another file."),
    of("wbl_recovered_keys", Gauge, "Keys of the base that the last recovery brought back."),
    of("wbl_recovered_commands", Gauge, "Commands of the log that it brought back."),
    of("wbl_recovery_errors", Gauge, "Commands of the log that it skipped."),
    of("wbl_recovery_total_bytes", Gauge, "Bytes of the log that it reads."),
    of("wbl_recovery_done_bytes", Gauge, "How many of these it has read."),
    of("wbl_log_generation", Gauge, "Which log the folder holds, counted from 1."),
    of("wbl_log_superseded", Gauge, "1 when the server has taken a primary's dataset since the log was written."),
    of("wbl_wrapped_commands", Counter, "Commands that the module has run."),
    of("wbl_wrapped_scripts", Counter, "Scripts and functions that it has run."),
    of("wbl_collected_commands", Counter, "Commands of pipelines that it has run, with one hold for all."),
    of("wbl_collected_transactions", Counter, "Transactions that it has run."),
    of("wbl_blocked_stream_readers", Gauge, "Clients in XREAD or XREADGROUP with BLOCK that it serves."),
    of("wbl_state_images", Counter, "Effects that were logged as the resulting state of a key."),
    of("wbl_unknown_commands", Counter, "Writes that the module does not know how to log but as images."),
    of("wbl_clients", Gauge, "Clients of which there is a record."),
    of("wbl_transaction_keys", Gauge, "Keys in these records: of queued commands, and watched ones."),
    of("wbl_notices_waiting", Gauge, "Messages of keyspace events that wait for the disk."),
    of("wbl_notices_lost", Counter, "Messages of missed keys that were not sent."),
];

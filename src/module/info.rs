//! INFO wbl and WBL.STATUS: the same fields.

use crate::core::ack::Reason;
use crate::ffi::{Ctx, InfoWriter};
use crate::log::{Flusher, Statistics};
use crate::module::config::{Setting, value};
use crate::module::gate::GatedStorage;
use crate::module::{Module, server, with};

/// A field's value.
pub enum Value {
    /// A count, position or size.
    Number(u64),
    /// A text.
    Text(String),
}

/// Names and values.
type Fields = Vec<(&'static str, Value)>;

/// The log, for its figures.
type Log = Flusher<GatedStorage>;

fn number(value: u64) -> Value {
    Value::Number(value)
}

/// All fields, always the same set, without the prefix `wbl_`.
pub fn fields(ctx: Ctx<'_>) -> Fields {
    let replication_offset = server::replication_offset(ctx);
    with(|module| module.fields(replication_offset)).unwrap_or_default()
}

/// Writes the section.
pub fn write(ctx: Ctx<'_>, writer: &mut InfoWriter<'_>) {
    writer.section();
    for (name, value) in fields(ctx) {
        match value {
            Value::Number(number) => writer.number(name, number),
            Value::Text(text) => writer.text(name, &text),
        }
    }
}

impl Module {
    /// Why there is no log, or no new base.
    fn failure(&self) -> String {
        let base = || self.bases.failure().filter(|_| self.life.logs() || !self.life.replica_log().is_empty());
        let failure = self.life.failure().or_else(base);
        failure.unwrap_or_default().to_string()
    }

    fn fields(&mut self, replication_offset: u64) -> Fields {
        let log = self.log().cloned();
        if let Some(log) = &log {
            self.dirty.clean_up_to(log.log().durable());
        }
        let log = log.as_ref().map(|log| log.log());
        let mut fields = self.fields_of_replies(log, replication_offset);
        fields.extend(self.fields_of_log(log));
        fields
            .extend(Reason::ALL.iter().zip(self.counters.waits).map(|(reason, count)| (reason.field(), number(count))));
        fields.extend(self.watched());
        fields
    }

    /// What was executed, and how its replies were kept.
    fn fields_of_replies(&self, log: Option<&Log>, replication_offset: u64) -> Fields {
        let is_direct = log.is_some_and(|log| log.statistics().is_direct());
        let (clients, transaction_keys) = self.clients.extent();
        vec![
            ("state", Value::Text(self.life.state().name().into())),
            ("replica_log", Value::Text(self.life.replica_log().into())),
            ("enabled", number(u64::from(value(Setting::Enabled) != 0))),
            ("read_blocked_count", number(self.counters.reads_blocked)),
            ("reads_from_durable", number(self.counters.reads_from_durable)),
            ("hot_keys", number(self.versions.len() as u64)),
            ("hot_keys_bytes", number(self.versions.bytes() as u64)),
            ("write_blocked_count", number(self.counters.writes_blocked)),
            ("clients_waiting_ack", number(self.log().map_or(0, |log| log.waiting() as u64))),
            ("held_bytes", number(self.log().map_or(0, |log| log.held_bytes() as u64))),
            ("uncommitted_keys", number(self.dirty.len() as u64)),
            ("previous_acked_offset", number(log.map_or(0, |log| log.durable().get()))),
            ("primary_repl_offset", number(replication_offset)),
            ("appended_offset", number(self.log().map_or(0, |_| self.appended().get()))),
            ("pending_bytes", number(log.map_or(0, |log| log.pending_bytes() + self.batch.len() as u64))),
            ("inline_waits", number(self.counters.inline_waits)),
            ("commit_mode", Value::Text(self.commits.mode().name().into())),
            ("inline_commits", number(self.counters.inline_commits)),
            ("io_mode", Value::Text(if is_direct { "direct" } else { "buffered" }.into())),
            ("wrapped_commands", number(self.counters.wrapped)),
            ("collected_commands", number(self.counters.collected)),
            ("collected_transactions", number(self.counters.collected_transactions)),
            ("wrapped_scripts", number(self.counters.scripts)),
            ("blocked_stream_readers", number(self.readers.len() as u64)),
            ("state_images", number(self.counters.state_images)),
            ("unknown_commands", number(self.counters.unknown_commands)),
            ("clients", number(clients as u64)),
            ("transaction_keys", number(transaction_keys as u64)),
            ("notices_waiting", number(self.notices.len() as u64)),
            ("notices_lost", number(self.counters.notices_lost)),
            ("units", number(self.counters.units)),
        ]
    }

    /// The log, its disk, its base, and what was recovered.
    fn fields_of_log(&self, log: Option<&Log>) -> Fields {
        let statistics = log.map(|log| log.statistics());
        let counter = |read: fn(&Statistics) -> u64| number(statistics.map_or(0, read));
        let report = self.recovered.unwrap_or_default();
        let shortage = || log.and_then(|log| log.shortage());
        let disk_error = self.disk_trouble().or_else(shortage);
        let disk_error_since_ms = match (self.disk.failing_since_ms(), &disk_error) {
            (0, Some(_)) => self.shortage.since_ms(),
            (since_ms, _) => since_ms,
        };
        vec![
            ("log_frames", counter(Statistics::frames)),
            ("log_bytes", counter(Statistics::bytes)),
            ("log_syncs", counter(Statistics::syncs)),
            ("log_sync_last_us", counter(Statistics::sync_last_us)),
            ("log_sync_max_us", counter(Statistics::sync_max_us)),
            ("log_sync_ewma_us", counter(Statistics::sync_ewma_us)),
            ("inflight_flushes", number(log.map_or(0, |log| log.in_flight() as u64))),
            ("disk_error", Value::Text(disk_error.unwrap_or_default())),
            ("disk_error_since_unix_ms", number(disk_error_since_ms)),
            ("disk_errors", counter(Statistics::disk_errors)),
            ("checkpoint_in_progress", number(u64::from(self.writes_base()))),
            ("checkpoints", number(self.bases.done)),
            ("checkpoint_failures", number(self.bases.failed)),
            ("last_checkpoint_status", Value::Text(self.bases.status().into())),
            ("base_bytes", counter(Statistics::base_bytes)),
            ("log_bytes_since_base", counter(Statistics::bytes_since_base)),
            ("segments", counter(Statistics::segments)),
            ("segments_after_errors", counter(Statistics::segments_after_errors)),
            ("write_refusal", Value::Text(self.no_room().unwrap_or_default())),
            ("reserve_bytes", number(log.map_or(0, |log| log.reserve_bytes()))),
            ("history_bytes", number(log.map_or(0, |log| log.history_extent().0))),
            ("history_since_unix_ms", number(log.map_or(0, |log| log.history_extent().1))),
            ("failure", Value::Text(self.failure())),
            ("log_generation", number(self.life.generation().map_or(0, |generation| generation.counter))),
            ("log_superseded", number(u64::from(self.life.is_superseded()))),
            ("recovered_keys", number(report.keys)),
            ("recovered_commands", number(report.commands)),
            ("recovery_errors", number(report.errors)),
            ("recovery_total_bytes", number(report.total_bytes)),
            ("recovery_done_bytes", number(report.done_bytes)),
        ]
    }
}

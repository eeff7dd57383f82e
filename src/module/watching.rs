//! What operators watch: how long the disk takes and what waits for it. INFO and WBL.LAG.

use crate::core::ack::Reason;
use crate::ffi::Ctx;
use crate::machine;
use crate::module::info::Value;
use crate::module::{Module, errors, with};

/// How far the durable position is behind the appended one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behind {
    pub(super) bytes: u64,
    /// How long the oldest change has waited, in microseconds.
    pub(super) us: u64,
}

impl Module {
    pub(super) fn behind(&mut self) -> Behind {
        let Some(durable) = self.log().map(|log| log.log().durable()) else { return Behind::default() };
        let appended = self.appended();
        let us = self.lag.us(machine::monotonic_us(), durable, appended);
        Behind { bytes: appended.get().saturating_sub(durable.get()), us }
    }

    /// The fields of INFO.
    pub(super) fn watched(&mut self) -> Vec<(&'static str, Value)> {
        let behind = self.behind();
        let safety = self.safety(behind.us / 1000);
        let log = self.log().cloned();
        let statistics = log.as_ref().map(|log| log.log().statistics());
        let quantile = |of_thousand| statistics.map_or(0, |of| of.sync_quantile_us(of_thousand));
        let per_flush = statistics.map_or(0.0, |of| of.units() as f64 / of.syncs().max(1) as f64);
        let speed = self.bases.speed;
        let estimate_ms = statistics.map_or(0, |of| speed.estimate_ms(of.base_bytes(), of.bytes_since_base()));
        let waited = &self.counters.waited;
        let mut fields = vec![
            ("safe", Value::Text(if safety.is_safe { "yes" } else { "no" }.into())),
            ("safe_why", Value::Text(safety.why)),
            ("safe_advice", Value::Text(safety.advice)),
            ("lag_bytes", Value::Number(behind.bytes)),
            ("lag_ms", Value::Number(behind.us / 1000)),
            ("flush_p50_usec", Value::Number(quantile(500))),
            ("flush_p99_usec", Value::Number(quantile(990))),
            ("flush_max_usec", Value::Number(statistics.map_or(0, |of| of.sync_max_us()))),
            ("flush_total_usec", Value::Number(statistics.map_or(0, |of| of.sync_times().total_us()))),
            ("flush_usec_histogram", Value::Text(statistics.map_or(String::new(), |of| of.sync_times().text()))),
            ("writes_per_flush", Value::Text(format!("{per_flush:.2}"))),
            ("recovery_estimate_ms", Value::Number(estimate_ms)),
            ("replies_held_in_event", Value::Number(self.counters.held_in_event)),
            ("replies_held_by_module", Value::Number(self.counters.held_by_module)),
            ("replies_waited_for", Value::Number(self.counters.waits.iter().sum())),
            ("loop_wait_usec", Value::Number(waited.total_us())),
            ("loop_wait_max_usec", Value::Number(waited.max_us())),
        ];
        fields
            .extend(waited.by_reason_us().map(|(reason, us): (Reason, u64)| (reason.time_field(), Value::Number(us))));
        fields
    }
}

/// WBL.LAG
pub(super) fn lag(ctx: Ctx<'_>, args: &[&[u8]]) {
    if args.len() != 1 {
        return ctx.reply_error(&errors::wrong_arity("wbl.lag"));
    }
    let fields = with(|module| {
        let behind = module.behind();
        let log = module.log().cloned();
        let pending = log.as_ref().map_or(0, |log| log.log().pending_bytes() + module.batch.len() as u64);
        [
            ("appended", log.as_ref().map_or(0, |_| module.appended().get())),
            ("durable", log.as_ref().map_or(0, |log| log.log().durable().get())),
            ("lag_bytes", behind.bytes),
            ("lag_ms", behind.us / 1000),
            ("pending_bytes", pending),
            ("held_replies", log.as_ref().map_or(0, |log| log.waiting() as u64)),
            ("dirty_keys", module.dirty.len() as u64),
        ]
    });
    let fields = fields.into_iter().flatten();
    ctx.reply_map(fields.clone().count());
    fields.for_each(|(name, number)| {
        ctx.reply_bulk(name.as_bytes());
        ctx.reply_integer(i64::try_from(number).unwrap_or(i64::MAX));
    });
}

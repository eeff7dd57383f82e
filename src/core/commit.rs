//! Who makes the log durable: its own threads while the server goes on (async), or the main thread at the end of each
//! iteration of the event loop, before replies leave (inline).
//!
//! Async costs two hand-overs between threads and a held reply for each write; inline stalls the server for one flush.
//! So inline is better where flushes are quick, where a single client waits, or where clients pipeline, and worse where
//! many others could be served meanwhile. [`Chooser`] decides, by rules that were found by measuring.

use crate::log::SLOW_SYNC_US;

/// Nothing is known of a disk before so many flushes.
const FLUSHES_MIN: u64 = 4;

/// The main thread flushes again after this many flushes in a row that were not slow, where a slow one would hold up
/// readers, and where it would not.
const QUICK_FLUSHES_MIN: u64 = 32;
const QUICK_FLUSHES_ALONE_MIN: u64 = 1;

/// The main thread flushes only where writes have come for so long without a rest of this length: who writes seldom
/// gains nothing, and readers lose where the disk hangs meanwhile.
const BUSY_MIN_US: u64 = 250_000;
const REST_US: u64 = 50_000;

/// How long inline is off after a slow flush, where there are readers whom the next one would hold up; twice as long
/// after each that follows soon.
const BACK_OFF_MIN_US: u64 = 250_000;
const BACK_OFF_MAX_US: u64 = 2_000_000;

/// There are readers if so many commands that wait for nothing have come within this time, each of which counts the
/// less the longer ago it was. A few are a client's first questions, or somebody who watches the server.
const READERS_REMAIN_US: u64 = 1_000_000;
const READERS_MIN: f32 = 8.0;

/// What the hand-over to another thread and back costs, and the extra cost for each client that waits.
const HAND_OVER_US: f32 = 130.0;
const HAND_OVER_EACH_US: f32 = 5.0;

/// Inline is left when flushes take longer than that by this factor.
const HYSTERESIS: f32 = 1.2;

/// What a write may cost readers: microseconds of a reader's waiting time.
const READERS_US: f32 = 100.0;

/// Flushes that are quicker than this may hold up any number of readers: with the loop so busy, readers who do not wait
/// would take the processor from writers and from the threads that flush.
const QUICK_US: f32 = 1000.0;

/// Averages move by one part in this many.
const WEIGHT: f32 = 8.0;

/// How the log is made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By its own threads.
    #[default]
    Async,
    /// By the main thread, at the end of the iteration.
    Inline,
}

impl Mode {
    /// The name that INFO shows.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Async => "async",
            Mode::Inline => "inline",
        }
    }
}

/// What the settings want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// What is better.
    Auto,
    /// Always this, where it is possible.
    Only(Mode),
}

/// The flushes so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushes {
    /// All.
    pub count: u64,
    /// Those that were slow.
    pub slow: u64,
    /// How long they take, as a moving average.
    pub average_us: u64,
}

/// What an iteration of the event loop had to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// When its first command came.
    pub began_us: u64,
    /// Clients whose replies wait.
    pub waiting: u32,
    /// Writes whose replies wait.
    pub writes: u32,
    /// Those that the main thread waits for either way, because they cannot be held, or that the module runs itself to
    /// hold them, which costs more than a held reply.
    pub unheld: u32,
    /// Commands that wait for nothing.
    pub reads: u32,
}

/// Chooses between two iterations of the event loop.
#[derive(Debug, Default)]
pub struct Chooser {
    mode: Mode,
    flushes: Flushes,
    /// Flushes when the last slow one was seen.
    slow_at: u64,
    back_off_us: u64,
    /// Nothing is inline before, where there are readers.
    async_until_us: u64,
    /// Commands that wait for nothing and have come lately, as of the last one.
    recent_reads: f32,
    read_at_us: u64,
    /// The end of the last iteration with writes, and the beginning of the first one after a rest.
    wrote_us: u64,
    busy_since_us: u64,
    waiting: f32,
    writes: f32,
    unheld: f32,
    /// Reads that come while a flush is under way.
    reads: f32,
    /// The main thread has flushed at the end of the last iteration.
    has_flushed: bool,
    /// Reads since then; in async the time since then says how many come during a flush.
    read: u32,
    read_since_us: u64,
}

impl Chooser {
    /// How the log is made durable now.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Goes over to async at once.
    pub fn turn_async(&mut self) {
        self.mode = Mode::Async;
    }

    /// Whether inline is to end before anything of an iteration runs, which begins now: there were no writes for a
    /// while.
    pub fn has_rested(&self, wish: Wish, now_us: u64) -> bool {
        self.mode == Mode::Inline && wish == Wish::Auto && self.is_rest(now_us)
    }

    fn is_rest(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.wrote_us) > REST_US
    }

    /// An iteration has ended, with everything durable if it was inline: chooses for the next one. `is_possible`:
    /// nothing speaks against inline.
    pub fn choose(&mut self, wish: Wish, is_possible: bool, flushes: Flushes, round: Round, now_us: u64) -> Mode {
        self.note_flushes(flushes, now_us);
        self.note_round(round, now_us);
        self.mode = match wish {
            _ if !is_possible => Mode::Async,
            Wish::Only(mode) => mode,
            Wish::Auto if self.is_inline_better(now_us) => Mode::Inline,
            Wish::Auto => Mode::Async,
        };
        self.mode
    }

    fn note_flushes(&mut self, flushes: Flushes, now_us: u64) {
        if flushes.count < self.flushes.count {
            // Another log.
            *self = Chooser { mode: self.mode, ..Chooser::default() };
        }
        if flushes.slow > self.flushes.slow {
            let is_soon = now_us < self.async_until_us.saturating_add(self.back_off_us);
            let twice = if is_soon { self.back_off_us * 2 } else { 0 };
            self.back_off_us = twice.clamp(BACK_OFF_MIN_US, BACK_OFF_MAX_US);
            self.async_until_us = now_us + self.back_off_us;
            self.slow_at = flushes.count;
        }
        self.flushes = flushes;
    }

    fn note_round(&mut self, round: Round, now_us: u64) {
        self.read = self.read.saturating_add(round.reads);
        if round.reads > 0 {
            self.recent_reads = self.recent_reads(now_us) + round.reads as f32;
            self.read_at_us = now_us;
        }
        let flush_us = self.flushes.average_us.max(1);
        let since_us = now_us.saturating_sub(self.read_since_us).max(1);
        match self.mode {
            // They came while the main thread flushed.
            Mode::Inline if self.has_flushed => self.note_reads(round.reads as f32, now_us),
            Mode::Inline => {}
            Mode::Async if since_us >= flush_us => {
                self.note_reads(self.read as f32 * flush_us as f32 / since_us as f32, now_us);
            }
            Mode::Async => {}
        }
        self.has_flushed = round.writes > 0;
        if round.writes > 0 {
            if self.is_rest(round.began_us) {
                self.busy_since_us = round.began_us;
            }
            self.wrote_us = now_us;
            self.waiting += (round.waiting as f32 - self.waiting) / WEIGHT;
            self.writes += (round.writes as f32 - self.writes) / WEIGHT;
            self.unheld += (round.unheld as f32 - self.unheld) / WEIGHT;
        }
    }

    fn note_reads(&mut self, reads: f32, now_us: u64) {
        self.reads += (reads - self.reads) / WEIGHT;
        (self.read, self.read_since_us) = (0, now_us);
    }

    fn recent_reads(&self, now_us: u64) -> f32 {
        let gone_us = now_us.saturating_sub(self.read_at_us).min(READERS_REMAIN_US);
        self.recent_reads * (1.0 - gone_us as f32 / READERS_REMAIN_US as f32)
    }

    fn is_inline_better(&self, now_us: u64) -> bool {
        let flush_us = self.flushes.average_us as f32;
        let has_readers = self.recent_reads(now_us) >= READERS_MIN;
        let quick_flushes_min = if has_readers { QUICK_FLUSHES_MIN } else { QUICK_FLUSHES_ALONE_MIN };
        if self.flushes.average_us > SLOW_SYNC_US
            || now_us.saturating_sub(self.busy_since_us) < BUSY_MIN_US
            || has_readers && now_us < self.async_until_us
            || self.flushes.count < FLUSHES_MIN.max(self.slow_at + quick_flushes_min)
        {
            return false;
        }
        let waiting = self.waiting.max(1.0);
        let is_inline = self.mode == Mode::Inline;
        let readers_us = READERS_US * waiting * if is_inline { 1.0 } else { 0.5 };
        if self.reads * flush_us > readers_us {
            return flush_us <= QUICK_US * if is_inline { HYSTERESIS } else { 1.0 };
        }
        // A client that pipelines is waited for either way, or costs more, and a single one holds nobody up.
        let waits_anyway = waiting < 1.5 || self.writes > 1.5 * waiting || self.unheld > 0.5 * self.writes;
        let hand_over_us = HAND_OVER_US + HAND_OVER_EACH_US * waiting;
        waits_anyway || flush_us <= hand_over_us * if is_inline { HYSTERESIS } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server with a disk and clients that do the same all the time.
    struct Trace {
        chooser: Chooser,
        flushes: Flushes,
        now_us: u64,
    }

    impl Trace {
        fn new() -> Trace {
            let now_us = 1_000_000;
            // It has been busy for long.
            let chooser = Chooser { wrote_us: now_us, ..Chooser::default() };
            Trace { chooser, flushes: Flushes::default(), now_us }
        }

        /// So many iterations, with a flush each; returns the mode at the end.
        fn run(&mut self, count: u32, flush_us: u64, round: Round) -> Mode {
            (0..count).for_each(|_| {
                let average_us = self.flushes.average_us;
                self.flushes.count += 1;
                self.flushes.slow += u64::from(flush_us > SLOW_SYNC_US);
                self.flushes.average_us =
                    if average_us == 0 { flush_us } else { average_us - average_us / 8 + flush_us / 8 };
                let began_us = self.now_us;
                self.now_us += flush_us;
                self.choose(Wish::Auto, true, Round { began_us, ..round });
            });
            self.chooser.mode()
        }

        fn choose(&mut self, wish: Wish, is_possible: bool, round: Round) -> Mode {
            self.chooser.choose(wish, is_possible, self.flushes, round, self.now_us)
        }
    }

    const ONE: Round = Round { began_us: 0, waiting: 1, writes: 1, unheld: 0, reads: 0 };
    const FIFTY: Round = Round { began_us: 0, waiting: 50, writes: 50, unheld: 0, reads: 0 };
    const PIPELINES: Round = Round { began_us: 0, waiting: 50, writes: 800, unheld: 0, reads: 0 };
    const TRANSACTIONS: Round = Round { unheld: 50, ..FIFTY };

    #[test]
    fn it_begins_async_and_turns_inline_after_quick_flushes() {
        let mut trace = Trace::new();
        assert_eq!(trace.run(FLUSHES_MIN as u32 - 1, 100, ONE), Mode::Async);
        assert_eq!(trace.run(1, 100, ONE), Mode::Inline);
        let read = Round { reads: 8, ..PIPELINES };
        let mut trace = Trace::new();
        assert_eq!(trace.run(QUICK_FLUSHES_MIN as u32 - 1, 100, read), Mode::Async);
        assert_eq!(trace.run(1, 100, read), Mode::Inline);
        assert_eq!(Trace::new().run(1000, 10_000, ONE), Mode::Async);
    }

    #[test]
    fn a_slow_flush_turns_async_at_once_and_for_a_while_where_there_are_readers() {
        let seldom = Round { reads: 8, ..PIPELINES };
        let mut trace = Trace::new();
        assert_eq!(trace.run(100, 100, seldom), Mode::Inline);
        assert_eq!(trace.run(1, SLOW_SYNC_US + 1, seldom), Mode::Async);
        let quick = (BACK_OFF_MIN_US / 100) as u32;
        assert_eq!(trace.run(quick - 2, 100, seldom), Mode::Async);
        assert_eq!(trace.run(QUICK_FLUSHES_MIN as u32, 100, seldom), Mode::Inline);
        // It comes again soon: twice as long.
        assert_eq!(trace.run(1, SLOW_SYNC_US + 1, seldom), Mode::Async);
        assert_eq!(trace.run(2 * quick - 2, 100, seldom), Mode::Async);
        assert_eq!(trace.run(2, 100, seldom), Mode::Inline);
        // And after a long time as if it were the first.
        assert_eq!(trace.run(100 * quick, 100, seldom), Mode::Inline);
        assert_eq!(trace.run(1, SLOW_SYNC_US + 1, seldom), Mode::Async);
        assert_eq!(trace.run(quick + 1, 100, seldom), Mode::Inline);
        // The last reader has gone.
        assert_eq!(trace.run(1, SLOW_SYNC_US + 1, seldom), Mode::Async);
        let remain = (READERS_REMAIN_US / 100) as u32;
        assert_eq!(trace.run(remain, 100, PIPELINES), Mode::Inline);
        assert_eq!(trace.run(1, SLOW_SYNC_US + 1, PIPELINES), Mode::Async);
        assert_eq!(trace.run(QUICK_FLUSHES_ALONE_MIN as u32, 100, PIPELINES), Mode::Inline);
    }

    #[test]
    fn many_that_wait_for_longer_flushes_are_async() {
        let mut trace = Trace::new();
        assert_eq!(trace.run(200, 200, FIFTY), Mode::Inline);
        assert_eq!(trace.run(200, 420, FIFTY), Mode::Inline);
        assert_eq!(trace.run(200, 500, FIFTY), Mode::Async);
        assert_eq!(trace.run(200, 420, FIFTY), Mode::Async);
        assert_eq!(trace.run(200, 200, FIFTY), Mode::Inline);
    }

    #[test]
    fn what_the_main_thread_waits_for_anyway_is_inline_while_no_flush_is_slow() {
        assert_eq!(Trace::new().run(200, 2000, ONE), Mode::Inline);
        assert_eq!(Trace::new().run(200, 2000, PIPELINES), Mode::Inline);
        assert_eq!(Trace::new().run(200, 2000, TRANSACTIONS), Mode::Inline);
        assert_eq!(Trace::new().run(200, 2000, FIFTY), Mode::Async);
    }

    #[test]
    fn readers_beside_writers_are_held_up_by_quick_flushes_only() {
        let readers = Round { waiting: 8, writes: 8, reads: 50, ..ONE };
        let mut trace = Trace::new();
        assert_eq!(trace.run(200, 400, Round { reads: 0, ..readers }), Mode::Async);
        assert_eq!(trace.run(200, 400, readers), Mode::Inline);
        assert_eq!(trace.run(200, 1100, readers), Mode::Inline);
        assert_eq!(trace.run(200, 1300, readers), Mode::Async);
        assert_eq!(trace.run(200, 1100, readers), Mode::Async);
        assert_eq!(trace.run(200, 900, readers), Mode::Inline);
        // Of one that writes on its own, a few are.
        assert_eq!(trace.run(200, 2000, Round { reads: 2, ..ONE }), Mode::Async);
        assert_eq!(trace.run(200, 2000, ONE), Mode::Inline);
    }

    #[test]
    fn after_a_rest_it_is_async_until_it_has_been_busy_for_a_while() {
        let mut trace = Trace::new();
        assert_eq!(trace.run(200, 100, ONE), Mode::Inline);
        let has_rested = |trace: &Trace, us| trace.chooser.has_rested(Wish::Auto, trace.now_us + us);
        assert!(!has_rested(&trace, REST_US) && has_rested(&trace, REST_US + 1));
        assert!(!trace.chooser.has_rested(Wish::Only(Mode::Inline), trace.now_us + REST_US + 1));
        // Reads are no writes.
        let read = Round { reads: 1, writes: 0, waiting: 0, ..ONE };
        trace.choose(Wish::Auto, true, read);
        assert!(has_rested(&trace, REST_US + 1));
        trace.now_us += REST_US + 1;
        trace.chooser.turn_async();
        assert_eq!(trace.run((BUSY_MIN_US / 100) as u32 - 1, 100, ONE), Mode::Async);
        assert_eq!(trace.run(1, 100, ONE), Mode::Inline);
    }

    #[test]
    fn what_speaks_against_inline_is_obeyed_at_once() {
        let mut trace = Trace::new();
        trace.run(200, 100, ONE);
        assert_eq!(trace.choose(Wish::Auto, false, ONE), Mode::Async);
        assert_eq!(trace.choose(Wish::Only(Mode::Inline), false, ONE), Mode::Async);
        assert_eq!(trace.choose(Wish::Only(Mode::Inline), true, ONE), Mode::Inline);
        assert_eq!(trace.choose(Wish::Only(Mode::Async), true, ONE), Mode::Async);
        assert_eq!(trace.choose(Wish::Auto, true, ONE), Mode::Inline);
        trace.chooser.turn_async();
        assert_eq!(trace.chooser.mode(), Mode::Async);
        // Another log has no flushes yet.
        trace.flushes = Flushes::default();
        assert_eq!(trace.choose(Wish::Auto, true, ONE), Mode::Async);
    }
}

use super::*;

fn lsn(value: u64) -> Lsn {
    Lsn::new(value)
}

fn key(name: &str) -> DbKey {
    (0, Arc::from(name.as_bytes()))
}

fn value(text: &str) -> Option<State> {
    Some(State::Value { bytes: text.as_bytes().into(), expires_ms: None })
}

/// A log in the making.
#[derive(Default)]
struct Log {
    versions: Versions,
    dirty: DirtyKeys,
    appended: u64,
}

impl Log {
    fn change(&mut self, name: &str) {
        self.appended += 10;
        self.dirty.mark(key(name), lsn(self.appended));
        self.versions.change(key(name), lsn(self.appended));
    }

    fn end_iteration(&mut self, durable: u64, state: Option<State>) -> usize {
        let due = self.versions.due(lsn(self.appended));
        let count = due.len();
        for key in due {
            self.versions.keep(key, state.clone(), &self.dirty, lsn(self.appended), lsn(durable));
        }
        count
    }

    fn at(&mut self, name: &str, durable: u64) -> Option<String> {
        let state = self.versions.at(0, name.as_bytes(), lsn(durable), 0)?;
        Some(state.value().map_or("(none)".into(), |value| String::from_utf8_lossy(value).into_owned()))
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.into())
}

#[test]
fn a_state_is_true_up_to_the_next_change() {
    let mut log = Log::default();
    log.change("k");
    assert_eq!(log.end_iteration(0, value("1")), 0, "nobody has asked");
    log.versions.want(0, b"k");
    assert_eq!(log.end_iteration(0, value("1")), 1);
    assert_eq!(log.at("k", 9), None, "what was before is not known");
    assert_eq!(log.at("k", 10), some("1"));
    log.change("k");
    assert_eq!((log.at("k", 10), log.at("k", 19)), (some("1"), some("1")));
    assert_eq!(log.at("k", 20), None, "the change has not been read yet");
    log.end_iteration(10, value("2"));
    assert_eq!((log.at("k", 19), log.at("k", 20)), (some("1"), some("2")));
    assert_eq!(log.at("k", 15), None, "what is older than what was asked for is dropped");
}

#[test]
fn states_between_changes_of_one_iteration_are_not_known() {
    let mut log = Log::default();
    log.change("k");
    log.versions.want(0, b"k");
    log.end_iteration(0, value("1"));
    log.change("k");
    log.change("k");
    log.change("other");
    log.end_iteration(10, value("3"));
    assert_eq!((log.at("k", 19), log.at("k", 29)), (some("1"), None));
    assert_eq!(log.at("k", 30), some("3"));
}

#[test]
fn nobody_is_told_that_a_value_has_expired() {
    let mut log = Log::default();
    log.change("k");
    log.versions.want(0, b"k");
    let state = State::Value { bytes: b"v".as_slice().into(), expires_ms: Some(100) };
    log.end_iteration(0, Some(state.clone()));
    log.change("k");
    assert_eq!(log.versions.at(0, b"k", lsn(10), 99), Some(&state));
    assert_eq!(log.versions.at(0, b"k", lsn(10), 100), None, "the change may have made it last");
}

#[test]
fn what_others_know_of_must_be_durable() {
    let mut log = Log::default();
    log.versions.tell();
    assert!(log.versions.may_be_shown(lsn(0)), "no key is kept whose past could be shown");
    log.change("k");
    log.versions.want(0, b"k");
    log.end_iteration(0, value("1"));
    log.versions.tell();
    assert!(!log.versions.may_be_shown(lsn(99)));
    log.change("k");
    log.end_iteration(10, value("2"));
    assert_eq!((log.versions.may_be_shown(lsn(19)), log.versions.may_be_shown(lsn(20))), (false, true));
}

#[test]
fn memory_is_bounded_and_the_oldest_key_goes_first() {
    let mut log = Log::default();
    let large = "v".repeat(VALUE_BYTES_MAX);
    let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    for name in &names {
        log.change(name);
        log.versions.want(0, name.as_bytes());
        log.end_iteration(0, value(&large));
        assert!(log.versions.bytes() <= BYTES_MAX);
    }
    let durable = log.appended;
    assert!((10..20).contains(&log.versions.len()), "{}", log.versions.len());
    assert_eq!((log.at("0", durable), log.at("19", durable)), (None, Some(large.clone())));
    log.versions.want(0, b"0");
    log.change("0");
    log.end_iteration(0, value(&(large + "v")));
    assert_eq!(log.at("0", durable + 10), None, "the value is too long");
    log.versions.clear();
    assert_eq!((log.versions.len(), log.versions.bytes()), (0, 0));
}

#[test]
fn a_key_that_nobody_reads_is_given_up() {
    let mut log = Log::default();
    log.change("k");
    log.versions.want(0, b"k");
    log.end_iteration(0, value("0"));
    for _ in 0..UNREAD_MAX {
        log.change("k");
        log.end_iteration(log.appended, value("1"));
    }
    assert_eq!(log.at("k", log.appended), some("1"));
    for _ in 0..=UNREAD_MAX {
        log.change("k");
        log.end_iteration(log.appended, value("2"));
    }
    assert!(log.versions.is_empty() && log.versions.bytes() == 0);
}

#[test]
fn keys_are_given_up_without_a_trace() {
    let mut log = Log::default();
    for db in 0..2 {
        log.appended += 10;
        log.dirty.mark((db, Arc::from(&b"k"[..])), lsn(log.appended));
        log.versions.want(db, b"k");
    }
    log.versions.want(0, b"k");
    assert_eq!(log.end_iteration(0, value("1")), 2);
    log.change("k");
    log.versions.forget_anywhere(b"k");
    assert!(log.versions.is_empty() && log.versions.bytes() == 0);
    assert_eq!(log.end_iteration(0, value("1")), 0);
}

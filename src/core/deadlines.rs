//! When blocked commands time out. The answer of such a command (nothing came) depends on its keys, as others do.

use crate::core::leaf::ClientId;
use std::collections::{BTreeSet, HashMap};

/// The times at which clients wait no longer, milliseconds since the Unix epoch.
#[derive(Debug, Default)]
pub struct Deadlines {
    by_client: HashMap<ClientId, i64>,
    by_time: BTreeSet<(i64, ClientId)>,
}

impl Deadlines {
    /// The client waits until then.
    pub fn set(&mut self, client: ClientId, at_ms: i64) {
        self.remove(client);
        self.by_client.insert(client, at_ms);
        self.by_time.insert((at_ms, client));
    }

    /// The client waits no longer.
    pub fn remove(&mut self, client: ClientId) {
        if let Some(at_ms) = self.by_client.remove(&client) {
            self.by_time.remove(&(at_ms, client));
        }
    }

    /// Whether a client is known to wait.
    pub fn contains(&self, client: ClientId) -> bool {
        self.by_client.contains_key(&client)
    }

    /// Takes out a client whose time has come.
    pub fn take_due(&mut self, now_ms: i64) -> Option<ClientId> {
        let (at_ms, client) = *self.by_time.first()?;
        if at_ms > now_ms {
            return None;
        }
        self.remove(client);
        Some(client)
    }
}

/// How long a blocking command waits, in milliseconds; `None` when it waits without a limit or its time-out is no number.
pub fn timeout_ms(name: &str, args: &[&[u8]]) -> Option<i64> {
    let place = match name {
        // BLMPOP timeout numkeys...
        "blmpop" | "bzmpop" => args.get(1),
        // BLPOP key... timeout
        _ => args.last(),
    };
    let seconds: f64 = std::str::from_utf8(place?).ok()?.parse().ok()?;
    let ms = (seconds * 1000.0).ceil();
    // Beyond this the server refuses the command.
    (ms >= 1.0 && ms < i64::MAX as f64).then_some(ms as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_due_in_the_order_of_their_times() {
        let mut deadlines = Deadlines::default();
        deadlines.set(1, 50);
        deadlines.set(2, 20);
        deadlines.set(3, 30);
        deadlines.set(3, 90);
        deadlines.remove(4);
        assert_eq!(deadlines.take_due(19), None);
        assert_eq!(deadlines.take_due(60), Some(2));
        assert!(!deadlines.contains(2));
        assert_eq!(deadlines.take_due(60), Some(1));
        assert_eq!(deadlines.take_due(60), None);
        deadlines.remove(3);
        assert_eq!(deadlines.take_due(i64::MAX), None);
    }

    #[test]
    fn time_outs_stand_first_or_last() {
        let timeout = |text: &str| {
            let args: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
            timeout_ms(&text.split(' ').next().expect("a name").to_lowercase(), &args)
        };
        assert_eq!(timeout("BLPOP a b 0.5"), Some(500));
        assert_eq!(timeout("BLMPOP 2 1 a LEFT"), Some(2000));
        assert_eq!(timeout("BLPOP a 0"), None);
        assert_eq!(timeout("BLPOP a soon"), None);
        assert_eq!(timeout("BLPOP a 1e300"), None);
        assert_eq!(timeout("BLPOP a nan"), None);
        assert_eq!(timeout("BLPOP a -1"), None);
    }
}

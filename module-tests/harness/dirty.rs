//! Keys that are dirty (changed, but not durable yet) and hold what they held before.

use super::Server;
use super::raw::RawConnection;
use super::resp::Value;

/// The commands that make one key dirty, or the function library.
pub struct Touch {
    database: u32,
    steps: Vec<Vec<Vec<u8>>>,
}

const TOUCH_ALL: &str = r#"
for _, key in ipairs(redis.call('KEYS', '*')) do
    redis.call('RESTORE', key, math.max(0, redis.call('PEXPIRETIME', key)), redis.call('DUMP', key), 'REPLACE', 'ABSTTL')
end"#;

impl Touch {
    /// Looks at a key of database 0. To be called while everything is durable.
    pub fn plan(control: &mut RawConnection, key: &[u8]) -> Touch {
        let word = |text: &str| text.as_bytes().to_vec();
        let steps = match control.call(&[b"DUMP", key]) {
            Value::Bulk(payload) => {
                let expiry = control.call(&[b"PEXPIRETIME", key]).integer().max(0).to_string();
                vec![vec![word("RESTORE"), key.to_vec(), word(&expiry), payload, word("REPLACE"), word("ABSTTL")]]
            }
            Value::Null => {
                vec![vec![word("SET"), key.to_vec(), word("passing")], vec![word("DEL"), key.to_vec()]]
            }
            other => panic!("DUMP answers {other:?}"),
        };
        Touch { database: 0, steps }
    }

    /// Writes every key of database 0 again as it is.
    pub fn all() -> Touch {
        let words = ["EVAL", TOUCH_ALL, "0"].map(|word| word.as_bytes().to_vec());
        Touch { database: 0, steps: vec![words.to_vec()] }
    }

    /// A new key of another database.
    pub fn in_database(database: u32) -> Touch {
        let words = ["SET", "elsewhere", "value"].map(|word| word.as_bytes().to_vec());
        Touch { database, steps: vec![words.to_vec()] }
    }

    /// A library that is loaded again.
    pub fn functions(control: &mut RawConnection) -> Touch {
        let payload = control.run("FUNCTION DUMP");
        let Value::Bulk(payload) = payload else { panic!("FUNCTION DUMP answers {payload:?}") };
        Touch {
            database: 0,
            steps: vec![vec![b"FUNCTION".to_vec(), b"RESTORE".to_vec(), payload, b"REPLACE".to_vec()]],
        }
    }

    /// Runs the commands, each on a connection of its own because the replies may be held, and has each settle. Returns
    /// those connections.
    pub fn run(&self, server: &Server, mut settle: impl FnMut()) -> Vec<RawConnection> {
        let step = |words: &Vec<Vec<u8>>| {
            let mut connection = server.raw();
            if self.database != 0 {
                connection.run(&format!("SELECT {}", self.database));
            }
            connection.send(words);
            settle();
            connection
        };
        self.steps.iter().map(step).collect()
    }
}

/// Waits until the server has executed what other connections have sent before.
pub fn settle(control: &mut RawConnection) {
    for _ in 0..2 {
        // A server that is busy answers with an error, and has executed it all the same.
        control.call(&["PING"]);
    }
}

/// The names of all keys of database 0.
pub fn all_keys(control: &mut RawConnection) -> Vec<Vec<u8>> {
    control.run("KEYS *").items().iter().map(bytes).collect()
}

/// The keys that the server finds in a command's arguments.
pub fn keys_of(control: &mut RawConnection, words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut question = vec![b"COMMAND".to_vec(), b"GETKEYS".to_vec()];
    question.extend_from_slice(words);
    match control.call(&question) {
        Value::Array(keys) => keys.iter().map(bytes).collect(),
        _ => Vec::new(),
    }
}

fn bytes(key: &Value) -> Vec<u8> {
    match key {
        Value::Bulk(bytes) => bytes.clone(),
        other => panic!("not a key: {other:?}"),
    }
}

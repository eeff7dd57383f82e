//! Datasets with one label in all of their keys, so that a mixture of two shows.

use super::{RawConnection, Value};

const KEYS: usize = 40;

/// Gives every key this label.
pub fn fill(client: &mut RawConnection, label: &str) {
    for number in 0..KEYS {
        client.run(&format!("SET key:{number} {label}"));
    }
}

/// The label of a whole dataset, empty where it has no keys. A mixture fails the test.
pub fn label(client: &mut RawConnection) -> String {
    let mut words: Vec<String> = (0..KEYS).map(|number| format!("key:{number}")).collect();
    words.insert(0, "MGET".into());
    let values = client.call(&words);
    let first = values.items()[0].clone();
    assert!(values.items().iter().all(|value| *value == first), "a mixture: {values:?}");
    if first == Value::Null { String::new() } else { first.text() }
}

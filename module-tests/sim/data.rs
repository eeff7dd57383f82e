//! The dataset of the fake server, with a digest that follows each change.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{Hash, Hasher};

pub type Bytes = Vec<u8>;
pub type StreamId = (u64, u64);

/// Databases.
pub const DATABASES: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    String(Bytes),
    List(VecDeque<Bytes>),
    Set(BTreeSet<Bytes>),
    Stream(Stream),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stream {
    pub entries: BTreeMap<StreamId, Vec<Bytes>>,
    pub last: StreamId,
    pub groups: BTreeMap<Bytes, Group>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Group {
    pub last: StreamId,
    /// Entries that were delivered and not acknowledged, and to whom.
    pub pending: BTreeMap<StreamId, Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub value: Value,
    pub expires_ms: Option<i64>,
}

/// A key in a database.
pub type Place = (usize, Bytes);

#[derive(Clone, Debug, Default)]
pub struct Data {
    dbs: [BTreeMap<Bytes, Entry>; DATABASES],
    hashes: HashMap<Place, u64>,
    changed: BTreeSet<Place>,
    sum: u64,
}

impl Data {
    pub fn get(&self, db: usize, key: &[u8]) -> Option<&Entry> {
        self.dbs[db].get(key)
    }

    /// The entry, to be changed.
    pub fn get_mut(&mut self, db: usize, key: &[u8]) -> Option<&mut Entry> {
        self.changed.insert((db, key.to_vec()));
        self.dbs[db].get_mut(key)
    }

    pub fn put(&mut self, db: usize, key: &[u8], entry: Entry) {
        self.changed.insert((db, key.to_vec()));
        self.dbs[db].insert(key.to_vec(), entry);
    }

    pub fn remove(&mut self, db: usize, key: &[u8]) -> bool {
        self.changed.insert((db, key.to_vec()));
        self.dbs[db].remove(key).is_some()
    }

    /// Removes the whole database; returns whether it held anything.
    pub fn clear(&mut self, db: usize) -> bool {
        let keys: Vec<Bytes> = self.dbs[db].keys().cloned().collect();
        keys.iter().for_each(|key| {
            self.remove(db, key);
        });
        !keys.is_empty()
    }

    pub fn keys(&self, db: usize) -> impl Iterator<Item = (&Bytes, &Entry)> {
        self.dbs[db].iter()
    }

    pub fn len(&self, db: usize) -> usize {
        self.dbs[db].len()
    }

    pub fn total(&self) -> usize {
        self.dbs.iter().map(BTreeMap::len).sum()
    }

    /// What was changed since the last call, as far as it is different now.
    pub fn take_changed(&mut self) -> Vec<Place> {
        let changed = std::mem::take(&mut self.changed);
        let mut different = Vec::new();
        for place in changed {
            let hash = self.dbs[place.0].get(&place.1).map_or(0, |entry| {
                let mut hasher = DefaultHasher::new();
                (&place, entry).hash(&mut hasher);
                hasher.finish() | 1
            });
            let before = if hash == 0 { self.hashes.remove(&place) } else { self.hashes.insert(place.clone(), hash) };
            let before = before.unwrap_or(0);
            if hash != before {
                self.sum = self.sum.wrapping_sub(before).wrapping_add(hash);
                different.push(place);
            }
        }
        different
    }

    /// A number that stands for all of it, as of the last `take_changed`.
    pub fn digest(&self) -> u64 {
        self.sum
    }

    /// All of it, for messages.
    pub fn show(&self) -> String {
        let mut text = String::new();
        for (db, keys) in self.dbs.iter().enumerate() {
            for (key, entry) in keys {
                text += &format!("  {db} {} {:?} {:?}\n", key.escape_ascii(), entry.value, entry.expires_ms);
            }
        }
        text
    }
}

/// Value and type in one string, for DUMP.
pub fn dump(value: &Value) -> Bytes {
    let mut out = Vec::new();
    let push = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(bytes);
    };
    let id = |out: &mut Vec<u8>, id: StreamId| {
        out.extend(id.0.to_le_bytes());
        out.extend(id.1.to_le_bytes());
    };
    match value {
        Value::String(bytes) => {
            out.push(0);
            push(&mut out, bytes);
        }
        Value::List(items) => {
            out.push(1);
            items.iter().for_each(|item| push(&mut out, item));
        }
        Value::Set(items) => {
            out.push(2);
            items.iter().for_each(|item| push(&mut out, item));
        }
        Value::Stream(stream) => {
            out.push(3);
            id(&mut out, stream.last);
            out.extend((stream.entries.len() as u32).to_le_bytes());
            for (at, fields) in &stream.entries {
                id(&mut out, *at);
                out.extend((fields.len() as u32).to_le_bytes());
                fields.iter().for_each(|field| push(&mut out, field));
            }
            out.extend((stream.groups.len() as u32).to_le_bytes());
            for (name, group) in &stream.groups {
                push(&mut out, name);
                id(&mut out, group.last);
                out.extend((group.pending.len() as u32).to_le_bytes());
                for (at, consumer) in &group.pending {
                    id(&mut out, *at);
                    push(&mut out, consumer);
                }
            }
        }
    }
    out
}

/// Reads what [`dump`] has written.
pub fn undump(bytes: &[u8]) -> Option<Value> {
    let (kind, rest) = bytes.split_first()?;
    let mut rest = rest;
    fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
        let (head, tail) = rest.split_at_checked(len)?;
        *rest = tail;
        Some(head)
    }
    fn number(rest: &mut &[u8]) -> Option<usize> {
        Some(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?) as usize)
    }
    fn bytes_of(rest: &mut &[u8]) -> Option<Bytes> {
        let len = number(rest)?;
        Some(take(rest, len)?.to_vec())
    }
    fn id(rest: &mut &[u8]) -> Option<StreamId> {
        let ms = u64::from_le_bytes(take(rest, 8)?.try_into().ok()?);
        Some((ms, u64::from_le_bytes(take(rest, 8)?.try_into().ok()?)))
    }
    let mut items = Vec::new();
    if *kind < 3 {
        while !rest.is_empty() {
            items.push(bytes_of(&mut rest)?);
        }
    }
    Some(match kind {
        0 => Value::String(items.pop()?),
        1 => Value::List(items.into()),
        2 => Value::Set(items.into_iter().collect()),
        _ => {
            let mut stream = Stream { last: id(&mut rest)?, ..Stream::default() };
            for _ in 0..number(&mut rest)? {
                let at = id(&mut rest)?;
                let fields = (0..number(&mut rest)?).map(|_| bytes_of(&mut rest)).collect::<Option<_>>()?;
                stream.entries.insert(at, fields);
            }
            for _ in 0..number(&mut rest)? {
                let name = bytes_of(&mut rest)?;
                let mut group = Group { last: id(&mut rest)?, ..Group::default() };
                for _ in 0..number(&mut rest)? {
                    let at = id(&mut rest)?;
                    group.pending.insert(at, bytes_of(&mut rest)?);
                }
                stream.groups.insert(name, group);
            }
            Value::Stream(stream)
        }
    })
}

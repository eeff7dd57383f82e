//! RDB files, with strings only: values of other types are strings that begin with a mark.

use crate::commands::LOADED;
use crate::data::{Entry, Value, dump, undump};
use crate::exec;
use crate::server::server;
use std::fs::File;
use std::io::{BufReader, Read};
use valkey_wbl::log::{Storage, StorageFile};

const DUMPED: &[u8] = b"dumped:";
const EXPIRES_MS: u8 = 0xfc;
const SELECT_DB: u8 = 0xfe;
const END: u8 = 0xff;

fn byte(file: &mut impl Read) -> Option<u8> {
    let mut byte = [0];
    file.read_exact(&mut byte).ok()?;
    Some(byte[0])
}

fn length(file: &mut impl Read) -> Option<usize> {
    let first = byte(file)?;
    match first >> 6 {
        0 => Some(usize::from(first & 63)),
        1 => Some(usize::from(first & 63) << 8 | usize::from(byte(file)?)),
        _ if first == 0x80 => {
            let mut bytes = [0; 4];
            file.read_exact(&mut bytes).ok()?;
            Some(u32::from_be_bytes(bytes) as usize)
        }
        _ => None,
    }
}

fn string(file: &mut impl Read) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length(file)?];
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(0x80);
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

/// `VM_RdbSave`, to the base that was begun last; whether all went well.
pub fn save() -> bool {
    let (s, mut out) = (server(), b"REDIS0011".to_vec());
    for db in 0..crate::data::DATABASES {
        out.extend([SELECT_DB, db as u8]);
        for (key, entry) in s.data.borrow().keys(db) {
            if let Some(at_ms) = entry.expires_ms {
                out.push(EXPIRES_MS);
                out.extend(at_ms.to_le_bytes());
            }
            out.push(0);
            push(&mut out, key);
            push(&mut out, &[DUMPED, &dump(&entry.value)].concat());
        }
    }
    out.push(END);
    // No checksum.
    out.extend([0; 8]);
    let disk = s.disk.borrow();
    let number = |name: &String| name.strip_prefix("temp-base-")?.strip_suffix(".rdb")?.parse::<u64>().ok();
    let newest = disk.names().into_iter().filter(|name| number(name).is_some()).max_by_key(number);
    newest.is_some_and(|name| disk.open_write(&name).is_ok_and(|mut file| file.write_all_at(0, &out).is_ok()))
}

/// `VM_RdbLoad`; whether all went well.
pub fn load(path: &str) -> bool {
    let s = server();
    let Ok(file) = File::open(path) else { return false };
    let mut file = BufReader::with_capacity(1 << 16, file);
    for db in 0..crate::data::DATABASES {
        s.data.borrow_mut().clear(db);
    }
    s.loading.set(true);
    let loaded = read(&mut file).is_some();
    s.loading.set(false);
    loaded
}

fn read(file: &mut impl Read) -> Option<()> {
    let s = server();
    file.read_exact(&mut [0; 9]).ok()?;
    let (mut db, mut expires_ms) = (0, None);
    loop {
        match byte(file)? {
            0xfa => drop((string(file)?, string(file)?)),
            SELECT_DB => db = length(file)?,
            0xfb => drop((length(file)?, length(file)?)),
            EXPIRES_MS => {
                let mut at_ms = [0; 8];
                file.read_exact(&mut at_ms).ok()?;
                expires_ms = Some(i64::from_le_bytes(at_ms));
            }
            END => break,
            0 => {
                let (key, value) = (string(file)?, string(file)?);
                let value = match value.strip_prefix(DUMPED) {
                    Some(dumped) => undump(dumped)?,
                    None => Value::String(value),
                };
                s.data.borrow_mut().put(db, &key, Entry { value, expires_ms: expires_ms.take() });
                exec::notify(LOADED, "loaded", &key, db);
            }
            other => panic!("an opcode that is not simulated: {other}"),
        }
    }
    // The checksum.
    file.read_to_end(&mut Vec::new()).ok()?;
    Some(())
}

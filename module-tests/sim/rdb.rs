//! Loading an RDB file, as far as a recovery without a base needs it.

use crate::commands::LOADED;
use crate::data::{Entry, Value};
use crate::exec;
use crate::server::server;
use std::fs::File;
use std::io::{BufReader, Read};

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
    let mut db = 0;
    loop {
        match byte(file)? {
            0xfa => drop((string(file)?, string(file)?)),
            0xfe => db = length(file)?,
            0xfb => drop((length(file)?, length(file)?)),
            0xff => break,
            0 => {
                let (key, value) = (string(file)?, string(file)?);
                s.data.borrow_mut().put(db, &key, Entry { value: Value::String(value), expires_ms: None });
                exec::notify(LOADED, "loaded", &key, db);
            }
            other => panic!("an opcode that is not simulated: {other}"),
        }
    }
    // The checksum.
    file.read_to_end(&mut Vec::new()).ok()?;
    Some(())
}

//! The walk: header, records, end.

use std::io::{Read, Write};

use super::error::RdbError;
use super::format::*;
use super::found::{Before, Deferred, EarlyFields, Needs, Strip, Summary};
use super::stream::{Route, Stream};
use super::value;

/// What becomes of the stream.
pub(super) struct Splice<'io> {
    sentinel: &'io [u8],
    strip: &'io mut dyn Strip,
    /// Known when the header has been passed on.
    before: Before,
}

impl<'io> Splice<'io> {
    pub(super) fn new(sentinel: &'io [u8], strip: &'io mut dyn Strip) -> Self {
        Self { sentinel, strip, before: Before::all(i64::MIN) }
    }
}

/// What precedes a key and belongs to it.
#[derive(Default)]
struct Attributes {
    expire_at_ms: Option<i64>,
    idle_s: Option<u64>,
    frequency: Option<u8>,
}

impl Attributes {
    fn is_empty(&self) -> bool {
        self.expire_at_ms.is_none() && self.idle_s.is_none() && self.frequency.is_none()
    }

    /// The attributes in the order in which servers write them.
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(at_ms) = self.expire_at_ms {
            out.push(OPCODE_EXPIRETIME_MS);
            out.extend_from_slice(&at_ms.to_le_bytes());
        }
        if let Some(idle_s) = self.idle_s {
            out.push(OPCODE_IDLE);
            put_length(&mut out, idle_s);
        }
        if let Some(frequency) = self.frequency {
            out.extend_from_slice(&[OPCODE_FREQ, frequency]);
        }
        out
    }
}

/// One walk over one base.
pub(super) struct Walker<'io> {
    stream: Stream<'io>,
    /// `None`: the walk only verifies, and whatever it emits goes nowhere.
    splice: Option<Splice<'io>>,
    version: u16,
    db: u32,
    attributes: Attributes,
    key: Vec<u8>,
    field: Vec<u8>,
    summary: Summary,
    /// Of libraries only where the walk verifies: they are kept whole.
    needs: Needs,
}

impl<'io> Walker<'io> {
    pub(super) fn new(
        base: &'io mut dyn Read,
        out: &'io mut dyn Write,
        window_bytes: usize,
        splice: Option<Splice<'io>>,
    ) -> Self {
        Self {
            stream: Stream::new(base, out, window_bytes),
            splice,
            version: 0,
            db: 0,
            attributes: Attributes::default(),
            key: Vec::new(),
            field: Vec::new(),
            summary: Summary::default(),
            needs: Needs::default(),
        }
    }

    /// Walks the base from its first to its last byte.
    pub(super) fn run(mut self) -> Result<(Summary, Needs), RdbError> {
        self.header()?;
        while self.record()? {}
        self.end()?;
        if let Some(splice) = &self.splice {
            self.stream.emit(&tail(splice.sentinel))?;
        }
        self.stream.flush()?;
        self.summary.bytes = self.stream.offset();
        Ok((self.summary, self.needs))
    }

    fn valkey_magic(&self) -> bool {
        self.version >= *VALKEY_VERSIONS.start()
    }

    fn header(&mut self) -> Result<(), RdbError> {
        let magic: [u8; 9] = self.stream.array()?;
        let [name @ .., hundreds, tens, ones] = magic;
        let version = [hundreds, tens, ones]
            .iter()
            .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u16::from(digit - b'0')))
            .unwrap_or(0);
        let known = match &name {
            b"REDIS0" => REDIS_VERSIONS.contains(&version),
            b"VALKEY" if version > *VALKEY_VERSIONS.end() => return Err(RdbError::Newer { offset: 0, version }),
            b"VALKEY" => VALKEY_VERSIONS.contains(&version),
            _ => false,
        };
        if !known {
            return Err(RdbError::Version { offset: 0, magic });
        }
        self.version = version;
        if let Some(splice) = &mut self.splice {
            self.stream.emit(&padding(PADDING_BYTES))?;
            self.stream.flush()?;
            splice.before = splice.strip.before();
        }
        Ok(())
    }

    /// Walks one record; `false` at the end mark, which stays unread.
    fn record(&mut self) -> Result<bool, RdbError> {
        let offset = self.stream.offset();
        let byte = self.stream.peek()?;
        match byte {
            OPCODE_EXPIRETIME_MS | OPCODE_EXPIRETIME | OPCODE_IDLE | OPCODE_FREQ => {
                self.attribute()?;
                return Ok(true);
            }
            OPCODE_EOF | OPCODE_SELECTDB | OPCODE_RESIZEDB | OPCODE_AUX | OPCODE_MODULE_AUX | OPCODE_FUNCTION2
            | OPCODE_SLOT_INFO => {}
            OPCODE_SLOT_IMPORT if self.valkey_magic() => {}
            kind if value::is_known(kind, self.valkey_magic()) => {
                self.key_and_value(kind)?;
                return Ok(true);
            }
            byte => return Err(RdbError::Unknown { offset, byte }),
        }
        if !self.attributes.is_empty() {
            return Err(RdbError::Corrupt { offset, what: "attributes of a key without the key" });
        }
        match byte {
            OPCODE_EOF => return Ok(false),
            OPCODE_SLOT_IMPORT => self.slot_import()?,
            _ => {
                self.stream.byte()?;
                self.opcode(byte, offset)?;
            }
        }
        Ok(true)
    }

    /// An import of slots that was under way in the server that wrote the file, and ended with it. A loader would go on
    /// with it: nothing would ever end it, its keys would stay hidden, and outside a cluster it crashes the server. The
    /// cluster's own configuration says who owns the slots now.
    fn slot_import(&mut self) -> Result<(), RdbError> {
        self.stream.set_route(Route::Drop)?;
        self.stream.byte()?;
        value::skip_slot_import(&mut self.stream)?;
        self.stream.set_route(Route::Pass)
    }

    /// The operand of an opcode that does not belong to a key.
    fn opcode(&mut self, opcode: u8, offset: u64) -> Result<(), RdbError> {
        match opcode {
            OPCODE_SELECTDB => {
                self.db = u32::try_from(self.stream.number()?)
                    .map_err(|_| RdbError::Corrupt { offset, what: "a database number beyond 32 bits" })?;
                self.needs.last_database = self.needs.last_database.max(self.db);
            }
            OPCODE_RESIZEDB => {
                self.stream.number()?;
                self.stream.number()?;
            }
            OPCODE_AUX => {
                self.stream.skip_string()?;
                self.stream.skip_string()?;
            }
            OPCODE_MODULE_AUX => {
                // What follows the type (first when it was written) is annotated like a value.
                self.module_value()?;
            }
            OPCODE_FUNCTION2 => {
                self.library()?;
                self.summary.functions += 1;
            }
            OPCODE_SLOT_INFO => {
                self.stream.number()?;
                self.stream.number()?;
                self.stream.number()?;
            }
            byte => return Err(RdbError::Unknown { offset, byte }),
        }
        Ok(())
    }

    /// Takes an attribute out of the stream; it goes back in before the key.
    fn attribute(&mut self) -> Result<(), RdbError> {
        self.stream.set_route(Route::Drop)?;
        match self.stream.byte()? {
            OPCODE_EXPIRETIME_MS => self.attributes.expire_at_ms = Some(i64::from_le_bytes(self.stream.array()?)),
            OPCODE_EXPIRETIME => {
                self.attributes.expire_at_ms = Some(i64::from(i32::from_le_bytes(self.stream.array()?)) * 1000);
            }
            OPCODE_IDLE => self.attributes.idle_s = Some(self.stream.number()?),
            _ => self.attributes.frequency = Some(self.stream.byte()?),
        }
        self.stream.set_route(Route::Pass)
    }

    fn key_and_value(&mut self, kind: u8) -> Result<(), RdbError> {
        let mut attributes = std::mem::take(&mut self.attributes);
        // Loaders read it as "no expiry".
        if attributes.expire_at_ms == Some(NO_EXPIRY) {
            attributes.expire_at_ms = None;
        }
        self.summary.keys += 1;
        self.summary.fields_expire |= kind == TYPE_HASH_2;
        let before = self.splice.as_ref().map_or(Before::all(i64::MIN), |splice| splice.before);
        let stripped = attributes.expire_at_ms.filter(|at_ms| *at_ms < before.ms);
        attributes.expire_at_ms = stripped.map(|_| NEVER).or(attributes.expire_at_ms);
        if !attributes.is_empty() {
            self.stream.emit(&attributes.bytes())?;
        }
        match &self.splice {
            Some(_) if kind == TYPE_HASH_2 => self.hash_with_expiries(before)?,
            _ => self.pass_key_and_value(kind)?,
        }
        match stripped {
            Some(at_ms) => self.defer(Deferred::Expire { db: self.db, key: self.key.clone(), at_ms }),
            None => Ok(()),
        }
    }

    /// Passes on an expiry that is applied after the key is loaded.
    fn defer(&mut self, deferred: Deferred) -> Result<(), RdbError> {
        let offset = self.stream.offset();
        match &mut self.splice {
            Some(splice) => splice.strip.defer(deferred).map_err(|source| RdbError::Defer { offset, source }),
            None => Ok(()),
        }
    }

    fn pass_key_and_value(&mut self, kind: u8) -> Result<(), RdbError> {
        let offset = self.stream.offset();
        self.stream.byte()?;
        self.key()?;
        match kind {
            TYPE_MODULE_2 => self.module_value(),
            kind => value::skip(&mut self.stream, kind, offset),
        }
    }

    /// The id of a module's type, and what the module wrote.
    fn module_value(&mut self) -> Result<(), RdbError> {
        let id = self.stream.number()?;
        self.needs.module_types.insert(type_name(id));
        value::skip_module_value(&mut self.stream)
    }

    fn library(&mut self) -> Result<(), RdbError> {
        if self.splice.is_some() {
            return self.stream.skip_string();
        }
        let mut code = Vec::new();
        self.stream.string(&mut code)?;
        self.needs.libraries.push(code);
        Ok(())
    }

    /// Reads a key.
    fn key(&mut self) -> Result<(), RdbError> {
        let offset = self.stream.offset();
        self.stream.string(&mut self.key)?;
        match &self.splice {
            Some(splice) if self.db == 0 && self.key == splice.sentinel => Err(RdbError::SentinelExists { offset }),
            _ => Ok(()),
        }
    }

    /// A hash with field expiries.
    fn hash_with_expiries(&mut self, before: Before) -> Result<(), RdbError> {
        self.stream.byte()?;
        self.key()?;
        let mut stays = false;
        for _ in 0..self.stream.number()? {
            self.stream.string(&mut self.field)?;
            self.stream.skip_string()?;
            match (value::field_expiry(&mut self.stream, before)?, before.fields) {
                (Some(at_ms), EarlyFields::Deferred) => {
                    let (key, field) = (self.key.clone(), self.field.clone());
                    self.defer(Deferred::ExpireField { db: self.db, key, field, at_ms })?;
                }
                (Some(_), EarlyFields::LeftOut) => {}
                (None, _) => stays = true,
            }
        }
        match before.fields {
            EarlyFields::LeftOut if !stays => self.defer(Deferred::Emptied { db: self.db, key: self.key.clone() }),
            _ => Ok(()),
        }
    }

    /// The end mark, the checksum, and nothing after it. None of it is passed on.
    fn end(&mut self) -> Result<(), RdbError> {
        self.stream.set_route(Route::Drop)?;
        self.stream.byte()?;
        let computed = self.stream.checksum();
        let offset = self.stream.offset();
        let stored = u64::from_le_bytes(self.stream.array()?);
        self.summary.checked = stored != 0;
        self.summary.checksum = computed;
        if self.summary.checked && stored != computed {
            return Err(RdbError::Checksum { offset, stored, computed });
        }
        match self.stream.peek_or_end()? {
            Some(_) => Err(RdbError::Trailing { offset: offset + 8 }),
            None => Ok(()),
        }
    }
}

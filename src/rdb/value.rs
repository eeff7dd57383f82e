//! The shape of each type of value, as far as is needed to find its end.

use super::error::RdbError;
use super::format::*;
use super::found::{Before, EarlyFields};
use super::stream::Stream;

/// Whether `kind` is a value's type in a file of the given magic. Versions with the magic `REDIS` end before
/// [`TYPE_HASH_2`]: what foreign servers write from there on means something else.
pub(super) fn is_known(kind: u8, valkey_magic: bool) -> bool {
    matches!(kind, TYPE_STRING..=TYPE_ZSET_2 | TYPE_MODULE_2 | TYPE_HASH_ZIPMAP..=TYPE_STREAM_3)
        || (kind == TYPE_HASH_2 && valkey_magic)
}

/// Skips a value of a type that [`is_known`], except those of modules; the type was at `offset`.
pub(super) fn skip(stream: &mut Stream<'_>, kind: u8, offset: u64) -> Result<(), RdbError> {
    match kind {
        TYPE_STRING | TYPE_HASH_ZIPMAP | TYPE_LIST_ZIPLIST | TYPE_SET_INTSET | TYPE_ZSET_ZIPLIST
        | TYPE_HASH_ZIPLIST | TYPE_HASH_LISTPACK | TYPE_ZSET_LISTPACK | TYPE_SET_LISTPACK => stream.skip_string(),
        TYPE_LIST | TYPE_SET | TYPE_LIST_QUICKLIST => each(stream, Stream::skip_string),
        TYPE_LIST_QUICKLIST_2 => each(stream, |stream| {
            stream.number()?;
            stream.skip_string()
        }),
        TYPE_ZSET => each(stream, |stream| {
            stream.skip_string()?;
            // The score in digits, after their number; the highest three mean the infinities and NaN.
            match stream.byte()? {
                253..=255 => Ok(()),
                digits => stream.skip(u64::from(digits)),
            }
        }),
        TYPE_ZSET_2 => each(stream, |stream| {
            stream.skip_string()?;
            stream.skip(8)
        }),
        TYPE_HASH => each(stream, |stream| {
            stream.skip_string()?;
            stream.skip_string()
        }),
        TYPE_HASH_2 => each(stream, |stream| {
            stream.skip_string()?;
            stream.skip_string()?;
            field_expiry(stream, Before::all(i64::MIN)).map(drop)
        }),
        TYPE_STREAM | TYPE_STREAM_2 | TYPE_STREAM_3 => skip_stream(stream, kind),
        byte => Err(RdbError::Unknown { offset, byte }),
    }
}

/// Reads a count and skips as many items. Every item takes at least a byte, so a wrong count ends with the file.
fn each<'io>(
    stream: &mut Stream<'io>,
    mut item: impl FnMut(&mut Stream<'io>) -> Result<(), RdbError>,
) -> Result<(), RdbError> {
    let count = stream.number()?;
    for _ in 0..count {
        item(stream)?;
    }
    Ok(())
}

fn skip_numbers(stream: &mut Stream<'_>, count: usize) -> Result<(), RdbError> {
    for _ in 0..count {
        stream.number()?;
    }
    Ok(())
}

/// Skips the expiry of a hash's field. One that is early is returned, and is [`NEVER`] in the output if it is deferred.
pub(super) fn field_expiry(stream: &mut Stream<'_>, before: Before) -> Result<Option<i64>, RdbError> {
    let offset = stream.offset();
    let is_early = |at_ms: i64| at_ms > NO_EXPIRY && at_ms < before.ms;
    let is_deferred = before.fields == EarlyFields::Deferred;
    let at_ms = stream.i64_or(|at_ms| (is_deferred && is_early(at_ms)).then_some(NEVER))?;
    if at_ms < NO_EXPIRY {
        return Err(RdbError::Corrupt { offset, what: "a negative field expiry" });
    }
    Ok(is_early(at_ms).then_some(at_ms))
}

/// Skips what a module wrote: annotated values up to an end mark.
pub(super) fn skip_module_value(stream: &mut Stream<'_>) -> Result<(), RdbError> {
    loop {
        let offset = stream.offset();
        let byte = stream.peek()?;
        match stream.number()? {
            MODULE_EOF => return Ok(()),
            MODULE_SINT | MODULE_UINT => skip_numbers(stream, 1)?,
            MODULE_FLOAT => stream.skip(4)?,
            MODULE_DOUBLE => stream.skip(8)?,
            MODULE_STRING => stream.skip_string()?,
            _ => return Err(RdbError::Unknown { offset, byte }),
        }
    }
}

/// Skips an import of slots: the job's name, and pairs of slots.
pub(super) fn skip_slot_import(stream: &mut Stream<'_>) -> Result<(), RdbError> {
    stream.skip_string()?;
    each(stream, |stream| skip_numbers(stream, 2))
}

/// Skips a stream. Version 2 added the first and the highest deleted id, the number of entries ever added and the
/// groups' number of entries read; version 3 the consumers' active time.
fn skip_stream(stream: &mut Stream<'_>, kind: u8) -> Result<(), RdbError> {
    let version_2 = kind != TYPE_STREAM;
    // Nodes: the id they start at, and a listpack.
    each(stream, |stream| {
        stream.skip_string()?;
        stream.skip_string()
    })?;
    // Length and last id; first id, highest deleted id, entries added.
    skip_numbers(stream, if version_2 { 8 } else { 3 })?;
    each(stream, |stream| {
        stream.skip_string()?;
        // Last id; entries read.
        skip_numbers(stream, if version_2 { 3 } else { 2 })?;
        // What is pending in the group: id, delivery time, delivery count.
        each(stream, |stream| {
            stream.skip(16 + 8)?;
            skip_numbers(stream, 1)
        })?;
        each(stream, |stream| {
            stream.skip_string()?;
            // Seen time; active time.
            stream.skip(if kind == TYPE_STREAM_3 { 16 } else { 8 })?;
            // What is pending at the consumer: ids of the group's entries.
            each(stream, |stream| stream.skip(16))
        })
    })
}

//! What neither a command's arguments nor its event show, so that the server is asked at the time of the event.

use crate::core::event::{Keeps, Outcome, Query};
use crate::ffi::{Ctx, KeyKind, ReplyKind};

/// What HPEXPIRETIME says about a field that is not there, or has expired.
const NO_FIELD: i64 = -2;

/// Asks the server what neither event nor arguments show. In an event callback nothing expires, so this changes
/// nothing.
pub(super) fn ask(ctx: Ctx<'_>, query: &Query, key: &[u8]) -> Option<Outcome> {
    let value = |bytes: &[u8]| Some(Outcome::Value(bytes.to_vec()));
    match query {
        Query::LastStreamId => {
            let (ms, seq) = ctx.last_stream_id(key)?;
            value(format!("{ms}-{seq}").as_bytes())
        }
        Query::StreamLength => value(ctx.key_length(key, KeyKind::Stream)?.to_string().as_bytes()),
        Query::ListLength => value(ctx.key_length(key, KeyKind::List)?.to_string().as_bytes()),
        Query::Field(field, may_expire) => {
            let found = ctx.hash_field(key, field)?;
            let at = if may_expire.0 { field_expiries(ctx, key, std::slice::from_ref(field))?.pop()?.1 } else { -1 };
            Some(Outcome::Field(found, (at >= 0).then_some(at)))
        }
        Query::Value => value(ctx.ask("GET", [key])?.bytes()),
        Query::FieldExpiries(fields) => field_expiries(ctx, key, fields).map(Outcome::FieldExpiries),
        Query::RemovedFields(fields, may_expire) => {
            let (gone, left): (Vec<_>, Vec<_>) =
                field_expiries(ctx, key, fields)?.into_iter().partition(|(_, at)| *at == NO_FIELD);
            let survives = !may_expire.0 || !left.is_empty() || has_live_field(ctx, key);
            Some(Outcome::RemovedFields(gone.into_iter().map(|(field, _)| field).collect(), survives))
        }
        Query::Survives => Some(Outcome::Survives(has_live_field(ctx, key))),
    }
}

/// When each field expires, in milliseconds since the epoch.
fn field_expiries(ctx: Ctx<'_>, key: &[u8], fields: &[Vec<u8>]) -> Option<Vec<(Vec<u8>, i64)>> {
    let count = fields.len().to_string();
    let args = [key, b"FIELDS", count.as_bytes()].into_iter().chain(fields.iter().map(Vec::as_slice));
    let reply = ctx.ask("HPEXPIRETIME", args)?;
    let expiry = |index: usize| reply.element(index).map(|expiry| expiry.integer());
    fields.iter().enumerate().map(|(index, field)| Some((field.clone(), expiry(index)?))).collect()
}

/// Whether the hash is seen to have a field that has not expired. The server looks at random ones, so it may miss the
/// last few; it must not be asked about a hash without any field.
fn has_live_field(ctx: Ctx<'_>, key: &[u8]) -> bool {
    let has_any = ctx.key_length(key, KeyKind::Hash).is_some_and(|fields| fields > 0);
    has_any && ctx.ask("HRANDFIELD", [key]).is_some_and(|field| field.kind() == ReplyKind::String)
}

/// Which keys that have expired the server keeps, and treats as missing.
pub(super) fn keeps_expired(ctx: Ctx<'_>, imports: bool) -> Keeps {
    match imports {
        _ if ctx.writes_are_paused() => Keeps::All,
        true => Keeps::Read,
        false => Keeps::None,
    }
}

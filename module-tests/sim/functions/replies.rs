//! Replies, and clients that the module blocks.

use super::*;

unsafe extern "C" fn block_client(
    raw: Raw,
    reply: Option<CommandCallback>,
    timeout: Option<CommandCallback>,
    free: Option<unsafe extern "C" fn(Raw, Raw)>,
    timeout_ms: c_longlong,
) -> *mut Blocked {
    let blocked = Blocked {
        client: RefCell::new(None),
        reply,
        timeout,
        free,
        disconnected: Cell::new(None),
        private_data: Cell::new(std::ptr::null_mut()),
        released: Cell::new(false),
    };
    held::block(unsafe { ctx(raw) }, blocked, timeout_ms)
}

unsafe extern "C" fn unblock_client(blocked: *mut Blocked, data: Raw) -> c_int {
    let handle = unsafe { &*blocked };
    assert!(!handle.released.replace(true), "a client is released twice");
    handle.private_data.set(data);
    server().released.borrow_mut().push_back(blocked);
    OK
}

unsafe extern "C" fn set_disconnected(blocked: *mut Blocked, callback: Option<unsafe extern "C" fn(Raw, Raw)>) {
    unsafe { &*blocked }.disconnected.set(callback);
}

unsafe extern "C" fn blocked_data(raw: Raw) -> Raw {
    unsafe { ctx(raw) }.private_data
}

unsafe extern "C" fn reply_integer(raw: Raw, value: c_longlong) -> c_int {
    write(&unsafe { ctx(raw) }.client, &resp::int(value));
    OK
}

unsafe extern "C" fn reply_error(raw: Raw, message: *const c_char) -> c_int {
    let client = &unsafe { ctx(raw) }.client;
    write(client, &resp::error(unsafe { text(message) }));
    server().error_replies.set(server().error_replies.get() + 1);
    exec::commit_deferred(client, true);
    OK
}

unsafe extern "C" fn reply_custom_error(raw: Raw, _: c_int, _format: *const c_char, message: *const c_char) -> c_int {
    unsafe { reply_error(raw, message) }
}

unsafe extern "C" fn reply_simple(raw: Raw, message: *const c_char) -> c_int {
    write(&unsafe { ctx(raw) }.client, format!("+{}\r\n", unsafe { text(message) }).as_bytes());
    OK
}

unsafe extern "C" fn reply_null(raw: Raw) -> c_int {
    let client = &unsafe { ctx(raw) }.client;
    write(client, resp::null_for(resp::NULL, client.resp3.get()));
    OK
}

unsafe extern "C" fn reply_array(raw: Raw, len: c_longlong) -> c_int {
    write(&unsafe { ctx(raw) }.client, &resp::header(len as usize));
    OK
}

unsafe extern "C" fn reply_null_array(raw: Raw) -> c_int {
    let client = &unsafe { ctx(raw) }.client;
    write(client, resp::null_for(resp::NULL_ARRAY, client.resp3.get()));
    OK
}

unsafe extern "C" fn reply_bulk(raw: Raw, bytes: *const u8, len: usize) -> c_int {
    write(&unsafe { ctx(raw) }.client, &resp::bulk(unsafe { std::slice::from_raw_parts(bytes, len) }));
    OK
}

unsafe extern "C" fn reply_map(raw: Raw, len: c_longlong) -> c_int {
    let client = &unsafe { ctx(raw) }.client;
    write(client, &resp::map_header(len as usize, client.resp3.get()));
    OK
}

unsafe extern "C" fn reply_with_call(raw: Raw, reply: *const CallReply) -> c_int {
    let (client, reply) = unsafe { (&ctx(raw).client, &*reply) };
    assert!(!reply.is_missing, "a client is answered without a byte");
    write(client, &reply.bytes);
    if matches!(reply.resp, Resp::Error(_)) {
        exec::commit_deferred(client, true);
    }
    OK
}

pub fn find(name: &str) -> Option<*const c_void> {
    Some(match name {
        "BlockClient" => block_client as _,
        "UnblockClient" => unblock_client as _,
        "SetDisconnectCallback" => set_disconnected as _,
        "GetBlockedClientPrivateData" => blocked_data as _,
        "ReplyWithLongLong" => reply_integer as _,
        "ReplyWithError" => reply_error as _,
        "ReplyWithCustomErrorFormat" if server().is_9_1 => reply_custom_error as _,
        "ReplyWithSimpleString" => reply_simple as _,
        "ReplyWithNull" => reply_null as _,
        "ReplyWithArray" => reply_array as _,
        "ReplyWithNullArray" => reply_null_array as _,
        "ReplyWithStringBuffer" => reply_bulk as _,
        "ReplyWithMap" => reply_map as _,
        "ReplyWithCallReply" => reply_with_call as _,
        _ => return None,
    })
}

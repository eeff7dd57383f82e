//! A module for tests, in Rust: counts events whose changes are durable, by `api/valkey_wbl.rs`.
//!
//! - `counter.start` begins to count events of keys of any type (`del`...).
//! - `counter.stop` ends that.
//! - `counter.read` returns how many there were, and of how many asked-for positions it was told.
//! - `counter.ask` asks to be told when all is durable.

#[path = "../../api/valkey_wbl.rs"]
mod valkey_wbl;

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_longlong, c_void};
use std::rc::Rc;
use valkey_wbl::{Subscription, Wbl};

const GENERIC: u32 = 1 << 2;
const NAME: &CStr = c"counter";

type Context = c_void;
type Command = unsafe extern "C" fn(*mut Context, *mut *mut c_void, c_int) -> c_int;
type GetApi = unsafe extern "C" fn(*const c_char, *mut *const c_void) -> c_int;
type SetAttributes = unsafe extern "C" fn(*mut Context, *const c_char, c_int, c_int);
type CreateCommand =
    unsafe extern "C" fn(*mut Context, *const c_char, Command, *const c_char, c_int, c_int, c_int) -> c_int;

#[derive(Clone, Copy)]
struct Api {
    get_shared: unsafe extern "C" fn(*mut Context, *const c_char) -> *mut c_void,
    reply: unsafe extern "C" fn(*mut Context, c_longlong) -> c_int,
}

#[derive(Default)]
struct State {
    counted: Rc<RefCell<i64>>,
    subscription: Option<Subscription>,
}

thread_local! {
    static API: RefCell<Option<Api>> = const { RefCell::new(None) };
    static STATE: RefCell<State> = RefCell::default();
}

unsafe fn function<F>(get_api: GetApi, name: &CStr) -> F {
    let mut found = std::ptr::null();
    unsafe {
        assert_eq!(get_api(name.as_ptr(), &raw mut found), 0, "{name:?}");
        std::mem::transmute_copy(&found)
    }
}

fn run(ctx: *mut Context, act: impl FnOnce(Wbl, &mut State)) -> c_int {
    let api = API.with_borrow(|api| api.unwrap());
    let wbl = unsafe { Wbl::find(ctx, api.get_shared) };
    STATE.with_borrow_mut(|state| {
        let Some(wbl) = wbl else { return unsafe { (api.reply)(ctx, -1) } };
        act(wbl, state);
        unsafe { (api.reply)(ctx, *state.counted.borrow()) }
    })
}

unsafe extern "C" fn start(ctx: *mut Context, _: *mut *mut c_void, _: c_int) -> c_int {
    run(ctx, |wbl, state| {
        let counted = Rc::clone(&state.counted);
        state.subscription = wbl.subscribe(NAME, GENERIC, move |event| {
            assert!(event.name == b"del" && event.key.starts_with(b"k") && event.db == Some(0), "{event:?}");
            *counted.borrow_mut() += 1;
        });
    })
}

unsafe extern "C" fn stop(ctx: *mut Context, _: *mut *mut c_void, _: c_int) -> c_int {
    run(ctx, |wbl, state| state.subscription.take().into_iter().for_each(|subscription| wbl.cancel(subscription)))
}

unsafe extern "C" fn read(ctx: *mut Context, _: *mut *mut c_void, _: c_int) -> c_int {
    run(ctx, |_, _| {})
}

unsafe extern "C" fn ask(ctx: *mut Context, _: *mut *mut c_void, _: c_int) -> c_int {
    run(ctx, |wbl, state| {
        let counted = Rc::clone(&state.counted);
        let (appended, durable) = wbl.positions().unwrap();
        assert!(appended >= durable);
        assert!(wbl.when_durable(NAME, None, move |position, is_durable| {
            assert!(is_durable && position >= appended);
            *counted.borrow_mut() += 100;
        }));
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ValkeyModule_OnLoad(ctx: *mut Context, _: *mut *mut c_void, _: c_int) -> c_int {
    unsafe {
        let get_api = *ctx.cast::<GetApi>();
        let set_attributes: SetAttributes = function(get_api, c"ValkeyModule_SetModuleAttribs");
        let create: CreateCommand = function(get_api, c"ValkeyModule_CreateCommand");
        set_attributes(ctx, NAME.as_ptr(), 1, 1);
        let (get_shared, reply) =
            (function(get_api, c"ValkeyModule_GetSharedAPI"), function(get_api, c"ValkeyModule_ReplyWithLongLong"));
        API.set(Some(Api { get_shared, reply }));
        let commands: [(&CStr, Command); 4] =
            [(c"counter.start", start), (c"counter.stop", stop), (c"counter.read", read), (c"counter.ask", ask)];
        let refused =
            commands.iter().filter(|(name, run)| create(ctx, name.as_ptr(), *run, c"".as_ptr(), 0, 0, 0) != 0);
        refused.count() as c_int
    }
}

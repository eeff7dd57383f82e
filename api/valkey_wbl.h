/* What valkey-wbl offers to other modules: how far the log is durable, a call when a position is, and keyspace events
 * when the changes that they report are durable (change data capture, audit).
 *
 * Include it after valkeymodule.h. Ask for it when it is needed, not only at load, as valkey-wbl may be loaded later:
 *
 *     const WblApi *wbl = WblApi_Get(ctx);
 *     if (wbl == NULL) return ValkeyModule_ReplyWithError(ctx, "ERR valkey-wbl is not loaded");
 *
 * The context must be one of your module's (a command's, or of GetDetachedThreadSafeContext), and what it returns may be
 * kept as long as your module is loaded.
 *
 * - All functions are to be called on the server's main thread, or with the server's global lock. All calls of yours
 *   come on the main thread, at the end of an iteration of the event loop, with no command running.
 * - A call of yours may use the API, and run commands in a context of its own. It must not block, nor let an exception
 *   or panic out.
 * - `owner` is the name of your module. When it is unloaded all that it has asked for is forgotten: no call comes after
 *   its OnUnload. None comes at a SHUTDOWN. The server refuses to unload valkey-wbl while a module that has asked for the API is loaded.
 */
#ifndef VALKEY_WBL_H
#define VALKEY_WBL_H

#include <stddef.h>
#include <stdint.h>

#define WBL_API_VERSION 1

/* For when_durable: all that has been executed, the running command or script included. */
#define WBL_ALL UINT64_MAX

/* A keyspace event. What it points to lives until the call returns. */
typedef struct {
    /* The durable position after the unit (command, transaction, script) that it belongs to. Units come in the order in
     * which they were executed, and so do the events of one. After a restart the positions go on. */
    uint64_t position;
    /* The database, or -1: all of them. */
    int32_t db;
    /* VALKEYMODULE_NOTIFY_..., or 0: `flushdb`, `flushall` and `swapdb` (the key is the other database's number), which
     * no keyspace event reports, and which all subscribers get. */
    uint32_t classes;
    const char *name;
    size_t name_len;
    const char *key;
    size_t key_len;
} WblEvent;

/* A position is durable (1), or nobody knows what became of it (0): the server has become a replica, or goes on without
 * a log. */
typedef void (*WblDurable)(uint64_t position, int is_durable, void *data);
typedef void (*WblOnEvent)(const WblEvent *event, void *data);

typedef struct {
    int version;
    /* The position after all that was logged, and that up to which it is durable. 0 where no log protects the server now
     * (wbl_state is not active), and nothing is written. */
    int (*positions)(uint64_t *appended, uint64_t *durable);
    /* Calls once, when this position (or WBL_ALL) is durable. Returns a token, or 0 as positions does. */
    uint64_t (*when_durable)(const char *owner, uint64_t position, WblDurable call, void *data);
    /* Calls for each event of these classes (VALKEYMODULE_NOTIFY_...) that is raised from now on and becomes durable,
     * until that is cancelled. Events that are raised while no log protects the server come never. */
    uint64_t (*subscribe)(const char *owner, uint32_t classes, WblOnEvent call, void *data);
    /* Forgets what has this token; 1 if there was something. No call comes afterwards. */
    int (*cancel)(uint64_t token);
} WblApi;

/* The API; NULL where valkey-wbl is not loaded, or is too old. */
static inline const WblApi *WblApi_Get(ValkeyModuleCtx *ctx) {
    const WblApi *(*get)(int) = (const WblApi *(*)(int))(uintptr_t)ValkeyModule_GetSharedAPI(ctx, "valkey_wbl_api");
    return get ? get(WBL_API_VERSION) : NULL;
}

#endif

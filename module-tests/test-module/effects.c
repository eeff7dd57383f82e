/* A module for tests: changes data in every way that a module can, and blocks clients itself.
 *
 *   effects.value KEY NUMBER TEXT     stores a value of the module's own type
 *   effects.add KEY DELTA             changes such a value in place
 *   effects.get KEY                   reads such a value
 *   effects.string KEY VALUE          writes a string through the key API
 *   effects.fields KEY FIELD VALUE    writes a hash through the key API
 *   effects.push KEY VALUE            writes a list through the key API
 *   effects.score KEY SCORE MEMBER    writes a sorted set through the key API, with an expiry time
 *   effects.remove KEY                deletes a key through the key API
 *   effects.call COMMAND...           runs a command
 *   effects.timer COMMAND...          runs a command from a timer; answers at once
 *   effects.thread COMMAND...         runs a command from a thread; answers when it has run
 *   effects.inside COMMAND...         runs a command before the next XACK does, from within the command filter
 *   effects.block COMMAND...          runs a command at once; answers on effects.release
 *   effects.release                   releases all clients that the module holds
 *   effects.free KEY                  the same; KEY is not looked at
 *   effects.peek KEY                  reads a string through the key API, without a word of its key to the server
 *   effects.later KEY                 reads a string through the key API; answers on effects.release, with what it
 *                                     holds then
 *
 * Changes of keys with these prefixes do more:
 *   echo:     SADD echoes KEY, from within the event's callback
 *   later:    SADD echoes KEY, when the unit has ended
 *   held:     the client is held until effects.release
 *   beside:   writes 7 to the string low:KEY through the key API, from within the event's callback
 *   again:    writes the string 7 to the key itself through the key API, from within the event's callback
 *   undone:   DEL KEY, when the unit has ended
 *
 * Keys that are a command's first argument and begin with mapped: become keys that begin with to:.
 *
 * Settings:
 *   effects.text-bytes-max            values of the module's own type with a longer text are not loaded
 *   effects.refused                   yes is refused, when all values of a CONFIG SET have been accepted
 */
#include "valkeymodule.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HELD_MAX 64

typedef struct {
    long long number;
    ValkeyModuleString *text;
} Value;

typedef struct {
    ValkeyModuleBlockedClient *client;
    int argc;
    ValkeyModuleString **argv;
} Work;

static ValkeyModuleType *value_type;
static ValkeyModuleBlockedClient *held[HELD_MAX];
static int held_count;
static long long text_bytes_max;
static int refused;
static Work *work_inside;

/* The type. */

static void value_free(void *data) {
    Value *value = data;
    ValkeyModule_FreeString(NULL, value->text);
    ValkeyModule_Free(value);
}

static void *value_load(ValkeyModuleIO *io, int encver) {
    if (encver != 0) return NULL;
    Value *value = ValkeyModule_Alloc(sizeof(*value));
    value->number = ValkeyModule_LoadSigned(io);
    value->text = ValkeyModule_LoadString(io);
    size_t length;
    ValkeyModule_StringPtrLen(value->text, &length);
    if ((long long)length > text_bytes_max) {
        value_free(value);
        return NULL;
    }
    return value;
}

static void value_save(ValkeyModuleIO *io, void *data) {
    Value *value = data;
    ValkeyModule_SaveSigned(io, value->number);
    ValkeyModule_SaveString(io, value->text);
}

static void value_rewrite(ValkeyModuleIO *aof, ValkeyModuleString *key, void *data) {
    Value *value = data;
    ValkeyModule_EmitAOF(aof, "effects.value", "sls", key, value->number, value->text);
}

static void *value_copy(ValkeyModuleString *from, ValkeyModuleString *to, const void *data) {
    VALKEYMODULE_NOT_USED(from);
    VALKEYMODULE_NOT_USED(to);
    const Value *value = data;
    Value *copy = ValkeyModule_Alloc(sizeof(*copy));
    copy->number = value->number;
    copy->text = ValkeyModule_CreateStringFromString(NULL, value->text);
    return copy;
}

static void value_digest(ValkeyModuleDigest *digest, void *data) {
    Value *value = data;
    size_t length;
    const char *text = ValkeyModule_StringPtrLen(value->text, &length);
    ValkeyModule_DigestAddLongLong(digest, value->number);
    ValkeyModule_DigestAddStringBuffer(digest, text, length);
    ValkeyModule_DigestEndSequence(digest);
}

static ValkeyModuleKey *open_key(ValkeyModuleCtx *ctx, ValkeyModuleString *name) {
    return ValkeyModule_OpenKey(ctx, name, VALKEYMODULE_READ | VALKEYMODULE_WRITE);
}

static int written(ValkeyModuleCtx *ctx, ValkeyModuleKey *key, int class, const char *event, ValkeyModuleString *name) {
    ValkeyModule_CloseKey(key);
    ValkeyModule_NotifyKeyspaceEvent(ctx, class, event, name);
    ValkeyModule_ReplicateVerbatim(ctx);
    return ValkeyModule_ReplyWithSimpleString(ctx, "OK");
}

static int set_value(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    long long number;
    if (argc != 4) return ValkeyModule_WrongArity(ctx);
    if (ValkeyModule_StringToLongLong(argv[2], &number) != VALKEYMODULE_OK)
        return ValkeyModule_ReplyWithError(ctx, "ERR not a number");
    Value *value = ValkeyModule_Alloc(sizeof(*value));
    value->number = number;
    value->text = ValkeyModule_CreateStringFromString(NULL, argv[3]);
    ValkeyModuleKey *key = open_key(ctx, argv[1]);
    ValkeyModule_ModuleTypeSetValue(key, value_type, value);
    return written(ctx, key, VALKEYMODULE_NOTIFY_MODULE, "effects.value", argv[1]);
}

static Value *value_of(ValkeyModuleKey *key) {
    return ValkeyModule_ModuleTypeGetType(key) == value_type ? ValkeyModule_ModuleTypeGetValue(key) : NULL;
}

static int add(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    long long delta;
    if (argc != 3) return ValkeyModule_WrongArity(ctx);
    ValkeyModuleKey *key = open_key(ctx, argv[1]);
    Value *value = value_of(key);
    if (!value || ValkeyModule_StringToLongLong(argv[2], &delta) != VALKEYMODULE_OK) {
        ValkeyModule_CloseKey(key);
        return ValkeyModule_ReplyWithError(ctx, "ERR no such value or no number");
    }
    value->number += delta;
    return written(ctx, key, VALKEYMODULE_NOTIFY_MODULE, "effects.add", argv[1]);
}

static int get(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    if (argc != 2) return ValkeyModule_WrongArity(ctx);
    ValkeyModuleKey *key = ValkeyModule_OpenKey(ctx, argv[1], VALKEYMODULE_READ);
    Value *value = key ? value_of(key) : NULL;
    if (value) {
        ValkeyModule_ReplyWithArray(ctx, 2);
        ValkeyModule_ReplyWithLongLong(ctx, value->number);
        ValkeyModule_ReplyWithString(ctx, value->text);
    } else {
        ValkeyModule_ReplyWithNull(ctx);
    }
    if (key) ValkeyModule_CloseKey(key);
    return VALKEYMODULE_OK;
}

/* The key API. */

static int string(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    if (argc != 3) return ValkeyModule_WrongArity(ctx);
    ValkeyModuleKey *key = open_key(ctx, argv[1]);
    ValkeyModule_StringSet(key, argv[2]);
    return written(ctx, key, VALKEYMODULE_NOTIFY_STRING, "set", argv[1]);
}

static int fields(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    if (argc != 4) return ValkeyModule_WrongArity(ctx);
    ValkeyModuleKey *key = open_key(ctx, argv[1]);
    ValkeyModule_HashSet(key, VALKEYMODULE_HASH_NONE, argv[2], argv[3], NULL);
    return written(ctx, key, VALKEYMODULE_NOTIFY_HASH, "hset", argv[1]);
}

static int push(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    if (argc != 3) return ValkeyModule_WrongArity(ctx);
    ValkeyModuleKey *key = open_key(ctx, argv[1]);
    ValkeyModule_ListPush(key, VALKEYMODULE_LIST_TAIL, argv[2]);
    return written(ctx, key, VALKEYMODULE_NOTIFY_LIST, "rpush", argv[1]);
}

static int score(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    double number;
    if (argc != 4) return ValkeyModule_WrongArity(ctx);
    if (ValkeyModule_StringToDouble(argv[2], &number) != VALKEYMODULE_OK)
        return ValkeyModule_ReplyWithError(ctx, "ERR not a number");
    ValkeyModuleKey *key = open_key(ctx, argv[1]);
    ValkeyModule_ZsetAdd(key, number, argv[3], NULL);
    ValkeyModule_SetAbsExpire(key, 9000000000123);
    return written(ctx, key, VALKEYMODULE_NOTIFY_ZSET, "zadd", argv[1]);
}

static int remove_key(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    if (argc != 2) return ValkeyModule_WrongArity(ctx);
    ValkeyModuleKey *key = open_key(ctx, argv[1]);
    ValkeyModule_DeleteKey(key);
    return written(ctx, key, VALKEYMODULE_NOTIFY_GENERIC, "del", argv[1]);
}

/* Commands run by the module. */

static void run(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc, int with_reply) {
    const char *name = ValkeyModule_StringPtrLen(argv[0], NULL);
    ValkeyModuleCallReply *reply = ValkeyModule_Call(ctx, name, "!Ev", argv + 1, (size_t)argc - 1);
    if (with_reply && reply) ValkeyModule_ReplyWithCallReply(ctx, reply);
    if (with_reply && !reply) ValkeyModule_ReplyWithError(ctx, "ERR the command was refused");
    if (reply) ValkeyModule_FreeCallReply(reply);
}

static int call(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    if (argc < 2) return ValkeyModule_WrongArity(ctx);
    run(ctx, argv + 1, argc - 1, 1);
    return VALKEYMODULE_OK;
}

static Work *work_of(ValkeyModuleString **argv, int argc) {
    Work *work = ValkeyModule_Alloc(sizeof(*work));
    work->client = NULL;
    work->argc = argc - 1;
    work->argv = ValkeyModule_Alloc(sizeof(*argv) * (size_t)work->argc);
    for (int i = 0; i < work->argc; i++) work->argv[i] = ValkeyModule_CreateStringFromString(NULL, argv[i + 1]);
    return work;
}

static void do_work(ValkeyModuleCtx *ctx, Work *work) {
    run(ctx, work->argv, work->argc, 0);
    for (int i = 0; i < work->argc; i++) ValkeyModule_FreeString(NULL, work->argv[i]);
    ValkeyModule_Free(work->argv);
    ValkeyModule_Free(work);
}

static void on_timer(ValkeyModuleCtx *ctx, void *data) {
    do_work(ctx, data);
}

static int timer(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    if (argc < 2) return ValkeyModule_WrongArity(ctx);
    ValkeyModule_CreateTimer(ctx, 1, on_timer, work_of(argv, argc));
    return ValkeyModule_ReplyWithSimpleString(ctx, "OK");
}

/* The next XACK may be one that a module's command runs. */
static int inside(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    if (argc < 2) return ValkeyModule_WrongArity(ctx);
    if (work_inside) abort();
    work_inside = work_of(argv, argc);
    return ValkeyModule_ReplyWithSimpleString(ctx, "OK");
}

static void map_key(ValkeyModuleCommandFilterCtx *filter) {
    char name[64];
    size_t length;
    if (ValkeyModule_CommandFilterArgsCount(filter) < 2) return;
    const ValkeyModuleString *key = ValkeyModule_CommandFilterArgGet(filter, 1);
    const char *old = ValkeyModule_StringPtrLen((ValkeyModuleString *)key, &length);
    if (length >= sizeof(name) || strncmp(old, "mapped:", 7) != 0) return;
    snprintf(name, sizeof(name), "to:%s", old + 7);
    ValkeyModule_CommandFilterArgReplace(filter, 1, ValkeyModule_CreateString(NULL, name, strlen(name)));
}

static void on_command(ValkeyModuleCommandFilterCtx *filter) {
    map_key(filter);
    ValkeyModuleString *name = (ValkeyModuleString *)ValkeyModule_CommandFilterArgGet(filter, 0);
    Work *work = work_inside;
    if (!work || strcasecmp(ValkeyModule_StringPtrLen(name, NULL), "xack") != 0) return;
    work_inside = NULL;
    ValkeyModuleCtx *ctx = ValkeyModule_GetThreadSafeContext(NULL);
    do_work(ctx, work);
    ValkeyModule_FreeThreadSafeContext(ctx);
}

static int blocked_reply(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    VALKEYMODULE_NOT_USED(argv);
    VALKEYMODULE_NOT_USED(argc);
    return ValkeyModule_ReplyWithSimpleString(ctx, "DONE");
}

static void *on_thread(void *data) {
    Work *work = data;
    ValkeyModuleBlockedClient *client = work->client;
    ValkeyModuleCtx *ctx = ValkeyModule_GetThreadSafeContext(client);
    ValkeyModule_ThreadSafeContextLock(ctx);
    do_work(ctx, work);
    ValkeyModule_ThreadSafeContextUnlock(ctx);
    ValkeyModule_FreeThreadSafeContext(ctx);
    ValkeyModule_UnblockClient(client, NULL);
    return NULL;
}

static int thread(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    pthread_t id;
    if (argc < 2) return ValkeyModule_WrongArity(ctx);
    Work *work = work_of(argv, argc);
    work->client = ValkeyModule_BlockClient(ctx, blocked_reply, NULL, NULL, 0);
    if (pthread_create(&id, NULL, on_thread, work) != 0) abort();
    pthread_detach(id);
    return VALKEYMODULE_OK;
}

static void hold(ValkeyModuleBlockedClient *client) {
    /* Null: the client can't be blocked here, or another module has blocked it already. */
    if (!client) return;
    if (held_count == HELD_MAX) abort();
    held[held_count++] = client;
}

static int block(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    if (argc < 2) return ValkeyModule_WrongArity(ctx);
    hold(ValkeyModule_BlockClient(ctx, blocked_reply, NULL, NULL, 0));
    run(ctx, argv + 1, argc - 1, 0);
    return VALKEYMODULE_OK;
}

static int peek(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    if (argc != 2) return ValkeyModule_WrongArity(ctx);
    ValkeyModuleKey *key = ValkeyModule_OpenKey(ctx, argv[1], VALKEYMODULE_READ);
    size_t length;
    const char *value = key ? ValkeyModule_StringDMA(key, &length, VALKEYMODULE_READ) : NULL;
    if (value) {
        ValkeyModule_ReplyWithStringBuffer(ctx, value, length);
    } else {
        ValkeyModule_ReplyWithNull(ctx);
    }
    if (key) ValkeyModule_CloseKey(key);
    return VALKEYMODULE_OK;
}

static int later(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    VALKEYMODULE_NOT_USED(argv);
    if (argc != 2) return ValkeyModule_WrongArity(ctx);
    hold(ValkeyModule_BlockClient(ctx, peek, NULL, NULL, 0));
    return VALKEYMODULE_OK;
}

static int release(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    VALKEYMODULE_NOT_USED(argv);
    VALKEYMODULE_NOT_USED(argc);
    int count = held_count;
    while (held_count > 0) ValkeyModule_UnblockClient(held[--held_count], NULL);
    return ValkeyModule_ReplyWithLongLong(ctx, count);
}

/* Events. */

static void echo_key(ValkeyModuleCtx *ctx, ValkeyModuleString *key) {
    ValkeyModuleCallReply *reply = ValkeyModule_Call(ctx, "SADD", "!cs", "echoes", key);
    if (reply) ValkeyModule_FreeCallReply(reply);
}

static void echo_later(ValkeyModuleCtx *ctx, void *data) {
    echo_key(ctx, data);
}

static void undo_later(ValkeyModuleCtx *ctx, void *data) {
    ValkeyModuleCallReply *reply = ValkeyModule_Call(ctx, "DEL", "!s", data);
    if (reply) ValkeyModule_FreeCallReply(reply);
}

/* Writes a string, and is told of it itself. */
static void write_low(ValkeyModuleCtx *ctx, ValkeyModuleString *name) {
    static int writes;
    if (writes) return;
    writes = 1;
    ValkeyModuleString *value = ValkeyModule_CreateString(ctx, "7", 1);
    ValkeyModuleKey *key = open_key(ctx, name);
    ValkeyModule_StringSet(key, value);
    ValkeyModule_CloseKey(key);
    ValkeyModule_NotifyKeyspaceEvent(ctx, VALKEYMODULE_NOTIFY_STRING, "set", name);
    ValkeyModule_FreeString(ctx, value);
    writes = 0;
}

static void free_key(void *data) {
    ValkeyModule_FreeString(NULL, data);
}

static int on_event(ValkeyModuleCtx *ctx, int class, const char *event, ValkeyModuleString *key) {
    VALKEYMODULE_NOT_USED(class);
    const char *name = ValkeyModule_StringPtrLen(key, NULL);
    if (ValkeyModule_GetContextFlags(ctx) & VALKEYMODULE_CTX_FLAGS_LOADING) return VALKEYMODULE_OK;
    if (strncmp(name, "echo:", 5) == 0) {
        echo_key(ctx, key);
    } else if (strncmp(name, "later:", 6) == 0) {
        ValkeyModuleString *copy = ValkeyModule_CreateStringFromString(NULL, key);
        ValkeyModule_AddPostNotificationJob(ctx, echo_later, copy, free_key);
    } else if (strncmp(name, "undone:", 7) == 0 && strcmp(event, "del") != 0) {
        ValkeyModuleString *copy = ValkeyModule_CreateStringFromString(NULL, key);
        ValkeyModule_AddPostNotificationJob(ctx, undo_later, copy, free_key);
    } else if (strncmp(name, "beside:", 7) == 0) {
        ValkeyModuleString *low = ValkeyModule_CreateStringPrintf(ctx, "low:%s", name);
        write_low(ctx, low);
        ValkeyModule_FreeString(ctx, low);
    } else if (strncmp(name, "again:", 6) == 0) {
        write_low(ctx, key);
    } else if (strncmp(name, "held:", 5) == 0) {
        if (!(ValkeyModule_GetContextFlags(ctx) & VALKEYMODULE_CTX_FLAGS_DENY_BLOCKING))
            hold(ValkeyModule_BlockClient(ctx, NULL, NULL, NULL, 0));
    }
    return VALKEYMODULE_OK;
}

/* Settings. */

static long long get_text_bytes_max(const char *name, void *data) {
    VALKEYMODULE_NOT_USED(name);
    VALKEYMODULE_NOT_USED(data);
    return text_bytes_max;
}

static int set_text_bytes_max(const char *name, long long value, void *data, ValkeyModuleString **error) {
    VALKEYMODULE_NOT_USED(name);
    VALKEYMODULE_NOT_USED(data);
    VALKEYMODULE_NOT_USED(error);
    text_bytes_max = value;
    return VALKEYMODULE_OK;
}

static int get_refused(const char *name, void *data) {
    VALKEYMODULE_NOT_USED(name);
    VALKEYMODULE_NOT_USED(data);
    return refused;
}

static int set_refused(const char *name, int value, void *data, ValkeyModuleString **error) {
    VALKEYMODULE_NOT_USED(name);
    VALKEYMODULE_NOT_USED(data);
    VALKEYMODULE_NOT_USED(error);
    refused = value;
    return VALKEYMODULE_OK;
}

static int apply_refused(ValkeyModuleCtx *ctx, void *data, ValkeyModuleString **error) {
    VALKEYMODULE_NOT_USED(ctx);
    VALKEYMODULE_NOT_USED(data);
    VALKEYMODULE_NOT_USED(error);
    return refused ? VALKEYMODULE_ERR : VALKEYMODULE_OK;
}

int ValkeyModule_OnLoad(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    VALKEYMODULE_NOT_USED(argv);
    VALKEYMODULE_NOT_USED(argc);
    if (ValkeyModule_Init(ctx, "effects", 1, VALKEYMODULE_APIVER_1) != VALKEYMODULE_OK) return VALKEYMODULE_ERR;
    ValkeyModuleTypeMethods methods = {
        .version = VALKEYMODULE_TYPE_METHOD_VERSION,
        .rdb_load = value_load,
        .rdb_save = value_save,
        .aof_rewrite = value_rewrite,
        .free = value_free,
        .digest = value_digest,
        .copy = value_copy,
    };
    value_type = ValkeyModule_CreateDataType(ctx, "effects-v", 0, &methods);
    if (!value_type) return VALKEYMODULE_ERR;

    const struct {
        const char *name;
        ValkeyModuleCmdFunc function;
        const char *flags;
        int key;
    } commands[] = {
        {"effects.value", set_value, "write deny-oom", 1},
        {"effects.add", add, "write", 1},
        {"effects.get", get, "readonly", 1},
        {"effects.string", string, "write deny-oom", 1},
        {"effects.fields", fields, "write deny-oom", 1},
        {"effects.push", push, "write deny-oom", 1},
        {"effects.score", score, "write deny-oom", 1},
        {"effects.remove", remove_key, "write", 1},
        {"effects.call", call, "write", 0},
        {"effects.timer", timer, "write", 0},
        {"effects.thread", thread, "write", 0},
        {"effects.inside", inside, "write", 0},
        {"effects.block", block, "write", 0},
        {"effects.release", release, "readonly allow-busy", 0},
        {"effects.free", release, "readonly allow-busy", 1},
        {"effects.peek", peek, "readonly", 0},
        {"effects.later", later, "readonly", 0},
    };
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        int key = commands[i].key;
        if (ValkeyModule_CreateCommand(ctx, commands[i].name, commands[i].function, commands[i].flags, key, key, key) !=
            VALKEYMODULE_OK)
            return VALKEYMODULE_ERR;
    }
    if (ValkeyModule_RegisterNumericConfig(ctx, "text-bytes-max", 1000, VALKEYMODULE_CONFIG_DEFAULT, 0, 1 << 30,
            get_text_bytes_max, set_text_bytes_max, NULL, NULL) != VALKEYMODULE_OK ||
        ValkeyModule_RegisterBoolConfig(ctx, "refused", 0, VALKEYMODULE_CONFIG_DEFAULT, get_refused, set_refused,
            apply_refused, NULL) != VALKEYMODULE_OK ||
        ValkeyModule_LoadConfigs(ctx) != VALKEYMODULE_OK)
        return VALKEYMODULE_ERR;
    if (!ValkeyModule_RegisterCommandFilter(ctx, on_command, VALKEYMODULE_CMDFILTER_NOSELF)) return VALKEYMODULE_ERR;
    return ValkeyModule_SubscribeToKeyspaceEvents(ctx,
        VALKEYMODULE_NOTIFY_STRING | VALKEYMODULE_NOTIFY_SET | VALKEYMODULE_NOTIFY_MODULE, on_event);
}

/* A module for tests: a user of what valkey-wbl offers to other modules.
 *
 *   listener.positions                the appended and the durable position
 *   listener.when [POSITION]          notes when that, or all that has been executed, is durable; returns a token
 *   listener.incr KEY                 increments a key, and notes when that is durable
 *   listener.then KEY                 the same; increments KEY then from within the call, which it notes, too
 *   listener.subscribe CLASSES        notes events of these classes (a number); returns a token
 *   listener.cancel TOKEN             ends either
 *   listener.cancel-in-call TOKEN     ends either in the next call
 *
 * Notes go to the file listener.notes, a line each: its commands wait for all that is not durable.
 */
#include "valkeymodule.h"

#include "valkey_wbl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWNER "listener"

static FILE *notes;
static uint64_t cancel_in_call;
static ValkeyModuleCtx *own;
static const WblApi *wbl;

static void cancel_now(void) {
    if (cancel_in_call) wbl->cancel(cancel_in_call);
    cancel_in_call = 0;
}

static void run(ValkeyModuleCtx *ctx, const char *key) {
    ValkeyModuleCallReply *reply = ValkeyModule_Call(ctx, "INCR", "c!", key);
    if (reply) ValkeyModule_FreeCallReply(reply);
}

static void on_durable(uint64_t position, int is_durable, void *data) {
    fprintf(notes, "%s %llu\n", is_durable ? "durable" : "lost", (unsigned long long)position);
    fflush(notes);
    char *key = data;
    if (key) {
        run(own, key);
        wbl->when_durable(OWNER, WBL_ALL, on_durable, NULL);
        free(key);
    }
    cancel_now();
}

static void on_event(const WblEvent *event, void *data) {
    (void)data;
    fprintf(notes, "%llu db%d %u %.*s %.*s\n", (unsigned long long)event->position, event->db, event->classes,
            (int)event->name_len, event->name, (int)event->key_len, event->key);
    fflush(notes);
    cancel_now();
}

static int reply_token(ValkeyModuleCtx *ctx, uint64_t token) {
    if (token == 0) return ValkeyModule_ReplyWithError(ctx, "ERR no log protects the server");
    return ValkeyModule_ReplyWithLongLong(ctx, (long long)token);
}

static int command(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    const char *name = ValkeyModule_StringPtrLen(argv[0], NULL);
    const char *word = strchr(name, '.') + 1;
    const char *arg = argc > 1 ? ValkeyModule_StringPtrLen(argv[1], NULL) : NULL;
    if (wbl == NULL) wbl = WblApi_Get(ctx);
    if (wbl == NULL) return ValkeyModule_ReplyWithError(ctx, "ERR valkey-wbl is not loaded");
    if (strcmp(word, "positions") == 0) {
        uint64_t appended, durable;
        if (!wbl->positions(&appended, &durable)) return reply_token(ctx, 0);
        ValkeyModule_ReplyWithArray(ctx, 2);
        ValkeyModule_ReplyWithLongLong(ctx, (long long)appended);
        return ValkeyModule_ReplyWithLongLong(ctx, (long long)durable);
    }
    if (strcmp(word, "when") == 0) {
        uint64_t position = arg ? strtoull(arg, NULL, 10) : WBL_ALL;
        return reply_token(ctx, wbl->when_durable(OWNER, position, on_durable, NULL));
    }
    if (arg == NULL) return ValkeyModule_WrongArity(ctx);
    if (strcmp(word, "incr") == 0 || strcmp(word, "then") == 0) {
        run(ctx, arg);
        void *data = strcmp(word, "then") == 0 ? strdup(arg) : NULL;
        return reply_token(ctx, wbl->when_durable(OWNER, WBL_ALL, on_durable, data));
    }
    if (strcmp(word, "subscribe") == 0) {
        return reply_token(ctx, wbl->subscribe(OWNER, (uint32_t)strtoul(arg, NULL, 10), on_event, NULL));
    }
    if (strcmp(word, "cancel") == 0) {
        return ValkeyModule_ReplyWithLongLong(ctx, wbl->cancel(strtoull(arg, NULL, 10)));
    }
    cancel_in_call = strtoull(arg, NULL, 10);
    return ValkeyModule_ReplyWithSimpleString(ctx, "OK");
}

int ValkeyModule_OnLoad(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    (void)argv;
    (void)argc;
    const char *names[] = {"positions", "when", "incr", "then", "subscribe", "cancel", "cancel-in-call"};
    if (ValkeyModule_Init(ctx, OWNER, 1, VALKEYMODULE_APIVER_1) != VALKEYMODULE_OK) return VALKEYMODULE_ERR;
    notes = fopen("listener.notes", "a");
    if (notes == NULL) return VALKEYMODULE_ERR;
    own = ValkeyModule_GetDetachedThreadSafeContext(ctx);
    for (size_t index = 0; index < sizeof names / sizeof *names; index++) {
        char name[64];
        snprintf(name, sizeof name, "listener.%s", names[index]);
        int is_write = strcmp(names[index], "incr") == 0 || strcmp(names[index], "then") == 0;
        int key = is_write ? 1 : 0;
        if (ValkeyModule_CreateCommand(ctx, name, command, is_write ? "write" : "readonly", key, key, key) !=
            VALKEYMODULE_OK)
            return VALKEYMODULE_ERR;
    }
    return VALKEYMODULE_OK;
}

/* All that it has asked for goes by itself. */
int ValkeyModule_OnUnload(ValkeyModuleCtx *ctx) {
    (void)ctx;
    ValkeyModule_FreeThreadSafeContext(own);
    fclose(notes);
    return VALKEYMODULE_OK;
}

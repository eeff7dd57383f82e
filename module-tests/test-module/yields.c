/* A module for tests: has the server serve other clients (Yield) where it may, for as long as a file exists.
 *
 *   yields.timer FILE     from a timer, in this iteration of the event loop
 *   yields.event FILE     from the event of the next change of a key that begins with yield:
 *   yields.sleep FILE     at the end of this iteration
 *
 * With FILE as its argument it does so when it is loaded.
 */
#include "valkeymodule.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *event_file;
static char *sleep_file;

static void yield(ValkeyModuleCtx *ctx, char *file) {
    while (access(file, F_OK) == 0) {
        ValkeyModule_Yield(ctx, VALKEYMODULE_YIELD_FLAG_CLIENTS, "yields");
        usleep(1000);
    }
    free(file);
}

static char *copy(ValkeyModuleString *file) {
    return strdup(ValkeyModule_StringPtrLen(file, NULL));
}

static void on_timer(ValkeyModuleCtx *ctx, void *data) {
    yield(ctx, data);
}

static int timer(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    if (argc != 2) return ValkeyModule_WrongArity(ctx);
    ValkeyModule_CreateTimer(ctx, 0, on_timer, copy(argv[1]));
    return ValkeyModule_ReplyWithSimpleString(ctx, "OK");
}

static int event(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    if (argc != 2) return ValkeyModule_WrongArity(ctx);
    event_file = copy(argv[1]);
    return ValkeyModule_ReplyWithSimpleString(ctx, "OK");
}

static int before_sleep(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    if (argc != 2) return ValkeyModule_WrongArity(ctx);
    sleep_file = copy(argv[1]);
    return ValkeyModule_ReplyWithSimpleString(ctx, "OK");
}

static void yield_once(ValkeyModuleCtx *ctx, char **file) {
    char *taken = *file;
    *file = NULL;
    if (taken) yield(ctx, taken);
}

static int on_event(ValkeyModuleCtx *ctx, int class, const char *name, ValkeyModuleString *key) {
    VALKEYMODULE_NOT_USED(class);
    VALKEYMODULE_NOT_USED(name);
    if (strncmp(ValkeyModule_StringPtrLen(key, NULL), "yield:", 6) == 0) yield_once(ctx, &event_file);
    return VALKEYMODULE_OK;
}

static void on_loop(ValkeyModuleCtx *ctx, ValkeyModuleEvent id, uint64_t moment, void *data) {
    VALKEYMODULE_NOT_USED(id);
    VALKEYMODULE_NOT_USED(data);
    if (moment == VALKEYMODULE_SUBEVENT_EVENTLOOP_BEFORE_SLEEP) yield_once(ctx, &sleep_file);
}

int ValkeyModule_OnLoad(ValkeyModuleCtx *ctx, ValkeyModuleString **argv, int argc) {
    if (ValkeyModule_Init(ctx, "yields", 1, VALKEYMODULE_APIVER_1) != VALKEYMODULE_OK) return VALKEYMODULE_ERR;
    if (argc == 1) yield(ctx, copy(argv[0]));
    if (ValkeyModule_CreateCommand(ctx, "yields.timer", timer, "fast", 0, 0, 0) != VALKEYMODULE_OK ||
        ValkeyModule_CreateCommand(ctx, "yields.event", event, "fast", 0, 0, 0) != VALKEYMODULE_OK ||
        ValkeyModule_CreateCommand(ctx, "yields.sleep", before_sleep, "fast", 0, 0, 0) != VALKEYMODULE_OK ||
        ValkeyModule_SubscribeToServerEvent(ctx, ValkeyModuleEvent_EventLoop, on_loop) != VALKEYMODULE_OK)
        return VALKEYMODULE_ERR;
    return ValkeyModule_SubscribeToKeyspaceEvents(ctx, VALKEYMODULE_NOTIFY_STRING, on_event);
}

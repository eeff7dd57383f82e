/* Module API of newer servers that the header in the crate valkey-module lacks (Valkey 9.1). Declarations of our own. */
#include <stdint.h>

/* An option of SetModuleOptions and a flag of GetContextFlags (9.0 and later). */
#define WBL_OPTIONS_HANDLE_ATOMIC_SLOT_MIGRATION (1 << 5)
#define WBL_CTX_FLAGS_SLOT_IMPORT_CLIENT (1 << 25)

#define WBL_EVENT_COMMAND_RESULT_SUCCESS 20
#define WBL_EVENT_COMMAND_RESULT_FAILURE 21

/* Data of those two events, version 1. */
typedef struct WblCommandResultInfo {
    uint64_t version;
    const char *command_name;
    long long duration_us;
    long long dirty; /* changes that the command made, as the server counts them */
    uint64_t client_id;
    int is_module_client;
    int argc;
    void **argv;
    void *rejection_context;
} WblCommandResultInfo;

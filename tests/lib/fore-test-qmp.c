/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/lib/fore-test-qmp.h"

#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fore-channel.h"

#define MAX_SLOTS 256
#define CPU_TYPE  "qemu64-x86_64-cpu"

static const char greeting[] =
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10}, \"package\": "
    "\"scripted\"}, \"capabilities\": [\"oob\"]}}\r\n";

typedef enum {
    FAULT_NONE,
    FAULT_CUT,
    FAULT_SWALLOW,
    FAULT_REFUSE,
    FAULT_PRETEND,
    FAULT_ANSWER,
    FAULT_RETURN
} FaultKind;

typedef struct {
    FaultKind kind;
    char *command;
    size_t bytes;
    char *desc;
    GString *text;
    json_t *value;
} Fault;

struct ForeTestQmp {
    GMainContext *context;
    char *path, *greet;
    ForeTestQmpSeen seen;
    gpointer data;
    int fd;
    GSource *source; /* of fd, while no client is there */
    ForeChannel *client;
    GString *line;
    GHashTable *counts; /* command -> number */
    Fault fault;
    unsigned connections, added, n_slots;
    char *slots[MAX_SLOTS]; /* device id, NULL = free */
    uint64_t vmem, requested, limit;
    bool running, negotiated;
};

static void accept_next(ForeTestQmp *q);

/* --- faults --- */

static void clear_fault(Fault *fault)
{
    g_free(fault->command);
    g_free(fault->desc);
    if (fault->text != NULL) {
        g_string_free(fault->text, TRUE);
    }
    json_decref(fault->value);
    *fault = (Fault){0};
}

static Fault *set_fault(ForeTestQmp *q, FaultKind kind, const char *command)
{
    clear_fault(&q->fault);
    q->fault.kind = kind;
    q->fault.command = g_strdup(command);
    return &q->fault;
}

void fore_test_qmp_cut(ForeTestQmp *q, const char *command, size_t bytes)
{
    set_fault(q, FAULT_CUT, command)->bytes = bytes;
}

void fore_test_qmp_swallow(ForeTestQmp *q, const char *command)
{
    set_fault(q, FAULT_SWALLOW, command);
}

void fore_test_qmp_refuse(ForeTestQmp *q, const char *command, const char *desc)
{
    set_fault(q, FAULT_REFUSE, command)->desc = g_strdup(desc);
}

void fore_test_qmp_pretend(ForeTestQmp *q, const char *command)
{
    set_fault(q, FAULT_PRETEND, command);
}

void fore_test_qmp_answer(ForeTestQmp *q, const char *command, GString *text)
{
    set_fault(q, FAULT_ANSWER, command)->text = text;
}

void fore_test_qmp_return(ForeTestQmp *q, const char *command, json_t *value)
{
    set_fault(q, FAULT_RETURN, command)->value = value;
}

bool fore_test_qmp_fault_is_spent(const ForeTestQmp *q)
{
    return q->fault.kind == FAULT_NONE;
}

/* --- the machine --- */

unsigned fore_test_qmp_vcpus(const ForeTestQmp *q)
{
    unsigned n = 0;

    for (unsigned i = 0; i < q->n_slots; i++) {
        n += q->slots[i] != NULL;
    }
    return n;
}

const char *fore_test_qmp_id(const ForeTestQmp *q, unsigned slot)
{
    return q->slots[slot];
}

uint64_t fore_test_qmp_vmem(const ForeTestQmp *q)
{
    return q->vmem;
}

uint64_t fore_test_qmp_requested(const ForeTestQmp *q)
{
    return q->requested;
}

void fore_test_qmp_limit(ForeTestQmp *q, uint64_t bytes)
{
    q->limit = bytes;
    q->vmem = MIN(q->requested, q->limit);
}

void fore_test_qmp_plug(ForeTestQmp *q, unsigned slot, const char *id)
{
    g_assert(slot < q->n_slots && q->slots[slot] == NULL);
    q->slots[slot] = g_strdup(id);
}

void fore_test_qmp_run(ForeTestQmp *q, bool running)
{
    q->running = running;
}

static json_t *generic_error(const char *format, ...) G_GNUC_PRINTF(1, 2);
static json_t *generic_error(const char *format, ...)
{
    g_autofree char *desc = NULL;
    va_list args;

    va_start(args, format);
    desc = g_strdup_vprintf(format, args);
    va_end(args);
    return json_pack("{s:{s:s,s:s}}", "error", "class", "GenericError", "desc", desc);
}

static json_t *success(json_t *value)
{
    return json_pack("{s:o}", "return", value);
}

/* Highest slot first, as QEMU lists them. */
static json_t *list_slots(const ForeTestQmp *q)
{
    json_t *list = json_array();

    for (unsigned i = q->n_slots; i-- > 0;) {
        json_t *slot =
            json_pack("{s:{s:i,s:i,s:i},s:i,s:s}", "props", "core-id", (int)i, "thread-id", 0,
                      "socket-id", 0, "vcpus-count", 1, "type", CPU_TYPE);
        if (q->slots[i] != NULL) {
            g_autofree char *path = q->slots[i][0] != '\0'
                                        ? g_strdup_printf("/machine/peripheral/%s", q->slots[i])
                                        : g_strdup("/machine/unattached/device[0]");
            json_object_set_new(slot, "qom-path", json_string(path));
        }
        json_array_append_new(list, slot);
    }
    return list;
}

static json_t *list_memory(const ForeTestQmp *q)
{
    return json_pack("[{s:s,s:{s:s,s:I,s:I,s:I,s:I,s:s}}]", "type", "virtio-mem", "data", "id",
                     "vmem0", "size", (json_int_t)q->vmem, "requested-size",
                     (json_int_t)q->requested, "max-size", (json_int_t)FORE_TEST_QMP_VMEM,
                     "block-size", (json_int_t)FORE_TEST_QMP_BLOCK, "memdev", "/objects/vmem0-ram");
}

static json_t *add_device(ForeTestQmp *q, const json_t *args)
{
    const char *id = json_string_value(json_object_get(args, "id"));
    const char *driver = json_string_value(json_object_get(args, "driver"));
    json_int_t core = json_integer_value(json_object_get(args, "core-id"));

    for (unsigned i = 0; i < q->n_slots; i++) {
        if (id == NULL || (q->slots[i] != NULL && strcmp(q->slots[i], id) == 0)) {
            return generic_error("Duplicate device ID '%s'", id);
        }
    }
    if (g_strcmp0(driver, CPU_TYPE) != 0) {
        return generic_error("'%s' is not a valid device model name", driver);
    }
    if (core < 0 || core >= (json_int_t)q->n_slots || q->slots[core] != NULL) {
        return generic_error("CPU[%d] with APIC ID %d exists", (int)core, (int)core);
    }
    q->slots[core] = g_strdup(id);
    q->added++;
    return success(json_object());
}

static json_t *set_property(ForeTestQmp *q, const json_t *args)
{
    const char *path = json_string_value(json_object_get(args, "path"));
    const char *property = json_string_value(json_object_get(args, "property"));
    json_int_t value = json_integer_value(json_object_get(args, "value"));

    if (g_strcmp0(path, "/machine/peripheral/vmem0") != 0 ||
        g_strcmp0(property, "requested-size") != 0) {
        return generic_error("Device '%s' not found", path);
    }
    if (value < 0 || (uint64_t)value > FORE_TEST_QMP_VMEM ||
        (uint64_t)value % FORE_TEST_QMP_BLOCK != 0) {
        return generic_error("'requested-size' cannot be %" G_GINT64_FORMAT, (gint64)value);
    }
    q->requested = (uint64_t)value;
    q->vmem = MIN(q->requested, q->limit);
    return success(json_object());
}

static json_t *carry_out(ForeTestQmp *q, const char *command, const json_t *args)
{
    if (strcmp(command, "qmp_capabilities") == 0) {
        q->negotiated = true;
        return success(json_object());
    }
    if (!q->negotiated) {
        return json_pack("{s:{s:s,s:s}}", "error", "class", "CommandNotFound", "desc",
                         "Expecting capabilities negotiation with 'qmp_capabilities'");
    }
    if (strcmp(command, "query-hotpluggable-cpus") == 0) {
        return success(list_slots(q));
    }
    if (strcmp(command, "query-memory-devices") == 0) {
        return success(list_memory(q));
    }
    if (strcmp(command, "query-memory-size-summary") == 0) {
        return success(json_pack("{s:I,s:I}", "base-memory", (json_int_t)FORE_TEST_QMP_BASE,
                                 "plugged-memory", (json_int_t)q->vmem));
    }
    if (strcmp(command, "query-status") == 0) {
        return success(json_pack("{s:b,s:s}", "running", (int)q->running, "status",
                                 q->running ? "running" : "paused"));
    }
    if (strcmp(command, "device_add") == 0) {
        return add_device(q, args);
    }
    if (strcmp(command, "qom-set") == 0) {
        return set_property(q, args);
    }
    return json_pack("{s:{s:s,s:s}}", "error", "class", "CommandNotFound", "desc",
                     "The command has not been found");
}

/* --- the wire --- */

static void end_client(ForeTestQmp *q)
{
    g_clear_pointer(&q->client, fore_channel_free);
    g_string_truncate(q->line, 0);
    q->negotiated = false;
}

static void send_text(ForeTestQmp *q, const char *text, size_t size)
{
    if (q->client != NULL && size > 0) {
        fore_channel_send(q->client, text, size);
    }
}

static void send_object(ForeTestQmp *q, const json_t *object, size_t at_most)
{
    char *text = json_dumps(object, 0);
    g_autofree char *line = g_strconcat(text, "\r\n", NULL);

    send_text(q, line, MIN(strlen(line), at_most));
    free(text);
}

/* Carries @command out, or lets it meet its fault, and answers. */
static void run_command(ForeTestQmp *q, const char *command, const json_t *object)
{
    const json_t *args = json_object_get(object, "arguments");
    bool hit = q->fault.kind != FAULT_NONE && strcmp(q->fault.command, command) == 0;
    Fault fault = hit ? q->fault : (Fault){0};
    g_autofree char *name = g_strdup(command);
    json_t *answer;

    if (hit) {
        q->fault = (Fault){0};
    }
    answer = fault.kind == FAULT_REFUSE    ? generic_error("%s", fault.desc)
             : fault.kind == FAULT_PRETEND ? success(json_object())
                                           : carry_out(q, command, args);
    if (fault.kind == FAULT_RETURN) {
        json_decref(answer);
        answer = success(json_incref(fault.value));
    }
    if (json_object_get(object, "id") != NULL) {
        json_object_set(answer, "id", json_object_get(object, "id"));
    }
    if (q->seen != NULL) {
        q->seen(q, name, args, q->data);
    }
    if (fault.kind == FAULT_ANSWER) {
        send_text(q, fault.text->str, fault.text->len);
    } else if (fault.kind != FAULT_SWALLOW) {
        send_object(q, answer, fault.kind == FAULT_CUT ? fault.bytes : SIZE_MAX);
    }
    if (fault.kind == FAULT_CUT && q->client != NULL) {
        fore_channel_close_after_flush(q->client);
    }
    json_decref(answer);
    clear_fault(&fault);
}

static void on_line(ForeTestQmp *q, const char *line, size_t size)
{
    json_t *object = json_loadb(line, size, 0, NULL);
    const char *command = json_string_value(json_object_get(object, "execute"));

    if (command != NULL) {
        gpointer n = g_hash_table_lookup(q->counts, command);
        g_hash_table_replace(q->counts, g_strdup(command),
                             GUINT_TO_POINTER(GPOINTER_TO_UINT(n) + 1));
        run_command(q, command, object);
    }
    json_decref(object);
}

static void on_ready(ForeChannel *ch, gpointer data)
{
    ForeTestQmp *q = data;
    const char *text = q->greet != NULL ? q->greet : greeting;

    send_text(q, text, strlen(text));
}

static void on_bytes(ForeChannel *ch, const char *bytes, size_t size, gpointer data)
{
    ForeTestQmp *q = data;
    char *end;

    g_string_append_len(q->line, bytes, (gssize)size);
    while (q->client == ch && (end = strchr(q->line->str, '\n')) != NULL) {
        size_t n = (size_t)(end - q->line->str);
        g_autofree char *line = g_strndup(q->line->str, n);
        g_string_erase(q->line, 0, (gssize)n + 1);
        on_line(q, line, n);
    }
}

static void on_closed(ForeChannel *ch, const GError *why, gpointer data)
{
    ForeTestQmp *q = data;

    end_client(q);
    accept_next(q);
}

static gboolean on_connection(gint fd, GIOCondition condition, gpointer data)
{
    static const ForeChannelOps ops = {on_ready, on_bytes, on_closed};
    ForeChannelConfig config = {.mode = FORE_CHANNEL_PLAIN, .max_queue = 64u << 20};
    ForeTestQmp *q = data;
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (client < 0) {
        return G_SOURCE_CONTINUE;
    }
    q->connections++;
    g_clear_pointer(&q->source, g_source_unref); /* the next one waits, ungreeted */
    q->client = fore_channel_new(q->context, client, &config, &ops, q);
    return G_SOURCE_REMOVE;
}

static void accept_next(ForeTestQmp *q)
{
    if (q->fd >= 0 && q->source == NULL && q->client == NULL) {
        q->source = g_unix_fd_source_new(q->fd, G_IO_IN);
        g_source_set_callback(q->source, G_SOURCE_FUNC(on_connection), q, NULL);
        g_source_attach(q->source, q->context);
    }
}

void fore_test_qmp_listen(ForeTestQmp *q, bool on)
{
    g_autofree char *address = g_strconcat("unix:", q->path, NULL);
    g_autoptr(GError) err = NULL;

    if (on && q->fd < 0) {
        q->fd = fore_listen(address, &err);
        g_assert_no_error(err);
        accept_next(q);
    } else if (!on && q->fd >= 0) {
        if (q->source != NULL) {
            g_source_destroy(q->source);
            g_clear_pointer(&q->source, g_source_unref);
        }
        end_client(q);
        close(q->fd);
        unlink(q->path);
        q->fd = -1;
    }
}

void fore_test_qmp_drop(ForeTestQmp *q)
{
    end_client(q);
    accept_next(q);
}

void fore_test_qmp_greet(ForeTestQmp *q, const char *text)
{
    g_free(q->greet);
    q->greet = g_strdup(text);
}

void fore_test_qmp_event(ForeTestQmp *q, const char *event, json_t *ev_data)
{
    json_t *object = json_pack("{s:s,s:o,s:{s:i,s:i}}", "event", event, "data",
                               ev_data != NULL ? ev_data : json_object(), "timestamp", "seconds", 1,
                               "microseconds", 2);

    send_object(q, object, SIZE_MAX);
    json_decref(object);
}

/* --- what was seen; life --- */

unsigned fore_test_qmp_count(const ForeTestQmp *q, const char *command)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(q->counts, command));
}

unsigned fore_test_qmp_added(const ForeTestQmp *q)
{
    return q->added;
}

unsigned fore_test_qmp_connections(const ForeTestQmp *q)
{
    return q->connections;
}

bool fore_test_qmp_has_client(const ForeTestQmp *q)
{
    return q->client != NULL && q->negotiated;
}

ForeTestQmp *fore_test_qmp_new(GMainContext *context, const char *path, unsigned slots,
                               ForeTestQmpSeen seen, gpointer data)
{
    ForeTestQmp *q = g_new0(ForeTestQmp, 1);

    g_assert(slots >= 1 && slots <= MAX_SLOTS);
    q->context = context;
    q->path = g_strdup(path);
    q->seen = seen;
    q->data = data;
    q->fd = -1;
    q->line = g_string_new(NULL);
    q->counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    q->n_slots = slots;
    q->slots[0] = g_strdup("");
    q->limit = FORE_TEST_QMP_VMEM;
    q->running = true;
    fore_test_qmp_listen(q, true);
    return q;
}

void fore_test_qmp_free(ForeTestQmp *q)
{
    if (q == NULL) {
        return;
    }
    fore_test_qmp_listen(q, false);
    clear_fault(&q->fault);
    for (unsigned i = 0; i < q->n_slots; i++) {
        g_free(q->slots[i]);
    }
    g_hash_table_unref(q->counts);
    g_string_free(q->line, TRUE);
    g_free(q->greet);
    g_free(q->path);
    g_free(q);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Each operation is a small struct that walks from one reply to the next; only one
 * operation of a kind runs at a time per VM (the loop has one plan in flight).  An operation that
 * meets a lost connection ends with that error; the owner re-queries when the link is back.
 */
#include "qmp-agent/fore-qmp.h"

#include <string.h>

#include "common/fore-error.h"
#include "common/fore-flow.h"

#define QUERY_MS        1000
#define ADD_MS          5000
#define POLL_MS         100
#define MISSES          2 /* checks without an answer, then the connection counts as lost */
#define MAX_SLOTS       1024
#define MAX_MEM_DEVICES 512

typedef struct {
    int64_t socket, die, cluster, core, thread; /* -1: the machine has no such level */
    char *type;
    json_t *props; /* as QEMU gave them */
    unsigned count;
    bool plugged;
} Slot;

struct ForeQmp {
    ForeLink *link;
    GMainContext *context;
    char *vmem_device;
    const ForeQmpOps *ops;
    gpointer data;
    bool up, checking;
    unsigned misses; /* checks in a row */
    ForeQmpTruth truth;
    GArray *slots;                  /* Slot, lowest first */
    GSList *waits;                  /* GSource: poll timers, so that free can end them */
    GSList *refreshes, *operations; /* Refresh, Operation: under way, so that free can free them */
};

typedef struct {
    ForeQmp *qmp;
    ForeQmpDone done;
    gpointer data;
    unsigned left; /* replies still to come */
    GError *why;
} Refresh;

typedef struct {
    ForeQmp *qmp;
    ForeQmpDone done;
    gpointer data;
    unsigned total; /* vCPUs */
    unsigned tries; /* device_add commands sent */
    uint64_t bytes; /* virtio-mem */
    gint64 deadline_us;
} Operation;

static void slot_clear(gpointer p)
{
    Slot *slot = p;

    g_free(slot->type);
    json_decref(slot->props);
}

static gint by_position(gconstpointer a, gconstpointer b)
{
    const Slot *x = a, *y = b;
    const int64_t kx[] = {x->socket, x->die, x->cluster, x->core, x->thread};
    const int64_t ky[] = {y->socket, y->die, y->cluster, y->core, y->thread};

    for (unsigned i = 0; i < G_N_ELEMENTS(kx); i++) {
        if (kx[i] != ky[i]) {
            return kx[i] < ky[i] ? -1 : 1;
        }
    }
    return 0;
}

static int64_t position(const json_t *props, const char *key)
{
    const json_t *v = json_object_get(props, key);

    return json_is_integer(v) ? json_integer_value(v) : -1;
}

/* --- the truth --- */

/* An answer is taken whole or not at all: half a list would look like half a machine. */
static bool read_slots(ForeQmp *qmp, const json_t *list, GError **error)
{
    g_autoptr(GArray) slots = g_array_new(FALSE, TRUE, sizeof(Slot));
    unsigned plugged = 0, max = 0;
    size_t i;
    json_t *item;

    if (!json_is_array(list) || json_array_size(list) > MAX_SLOTS) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "query-hotpluggable-cpus: not a list of at most %d slots", MAX_SLOTS);
        return false;
    }
    g_array_set_clear_func(slots, slot_clear);
    json_array_foreach ((json_t *)list, i, item) {
        const char *type = json_string_value(json_object_get(item, "type"));
        json_t *props = json_object_get(item, "props");
        int64_t count = 0;
        Slot slot = {0};
        if (type == NULL || !json_is_object(props) ||
            !fore_json_get_int(item, "vcpus-count", 1, 1024, &count, error)) {
            g_prefix_error(error, "query-hotpluggable-cpus: slot %zu: ", i);
            if (error != NULL && *error == NULL) {
                g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                            "query-hotpluggable-cpus: slot %zu has no type or props", i);
            }
            return false;
        }
        slot = (Slot){position(props, "socket-id"),
                      position(props, "die-id"),
                      position(props, "cluster-id"),
                      position(props, "core-id"),
                      position(props, "thread-id"),
                      g_strdup(type),
                      json_incref(props),
                      (unsigned)count,
                      json_object_get(item, "qom-path") != NULL};
        g_array_append_val(slots, slot);
        max += slot.count;
        plugged += slot.plugged ? slot.count : 0;
    }
    g_array_sort(slots, by_position);
    g_array_unref(qmp->slots);
    qmp->slots = g_steal_pointer(&slots);
    qmp->truth.vcpus_plugged = plugged;
    qmp->truth.vcpus_max = max;
    return true;
}

static bool read_vmem(ForeQmp *qmp, const json_t *list, GError **error)
{
    ForeQmpTruth truth = qmp->truth;
    size_t i;
    json_t *item;

    if (!json_is_array(list) || json_array_size(list) > MAX_MEM_DEVICES) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "query-memory-devices: not a list of at most %d devices", MAX_MEM_DEVICES);
        return false;
    }
    truth.has_vmem = false;
    truth.vmem_bytes = truth.vmem_requested = truth.vmem_max = 0;
    json_array_foreach ((json_t *)list, i, item) {
        const json_t *d = json_object_get(item, "data");
        const char *type = json_string_value(json_object_get(item, "type"));
        const char *id = json_string_value(json_object_get(d, "id"));
        int64_t size = 0, requested = 0, max = 0, block = 0;
        if (g_strcmp0(type, "virtio-mem") != 0 || g_strcmp0(id, qmp->vmem_device) != 0) {
            continue;
        }
        if (!fore_json_get_int(d, "size", 0, INT64_MAX, &size, error) ||
            !fore_json_get_int(d, "requested-size", 0, INT64_MAX, &requested, error) ||
            !fore_json_get_int(d, "max-size", 0, INT64_MAX, &max, error) ||
            !fore_json_get_int(d, "block-size", 1, INT64_MAX, &block, error)) {
            g_prefix_error(error, "query-memory-devices: '%s': ", id);
            return false;
        }
        truth.has_vmem = true;
        truth.vmem_bytes = (uint64_t)size;
        truth.vmem_requested = (uint64_t)requested;
        truth.vmem_max = (uint64_t)max;
        truth.vmem_block = (uint64_t)block;
    }
    qmp->truth = truth;
    return true;
}

static void refresh_free(gpointer data)
{
    Refresh *r = data;

    g_clear_error(&r->why);
    g_free(r);
}

static void refresh_part(Refresh *r, GError *why)
{
    if (why != NULL && r->why == NULL) {
        r->why = why;
    } else {
        g_clear_error(&why);
    }
    if (--r->left == 0) {
        r->qmp->refreshes = g_slist_remove(r->qmp->refreshes, r);
        if (r->done != NULL) {
            r->done(r->qmp, r->why, r->data);
        }
        refresh_free(r);
    }
}

static void on_slots(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    Refresh *r = data;
    GError *why = error != NULL ? g_error_copy(error) : NULL;

    if (ret != NULL) {
        read_slots(r->qmp, ret, &why);
    }
    refresh_part(r, why);
}

static void on_mem_devices(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    Refresh *r = data;
    GError *why = error != NULL ? g_error_copy(error) : NULL;

    if (ret != NULL) {
        read_vmem(r->qmp, ret, &why);
    }
    refresh_part(r, why);
}

static void on_mem_summary(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    Refresh *r = data;
    GError *why = error != NULL ? g_error_copy(error) : NULL;
    int64_t base = 0;

    if (ret != NULL && fore_json_get_int(ret, "base-memory", 0, INT64_MAX, &base, &why)) {
        r->qmp->truth.base_bytes = (uint64_t)base;
    }
    refresh_part(r, why);
}

static void on_status(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    Refresh *r = data;
    GError *why = error != NULL ? g_error_copy(error) : NULL;

    if (ret != NULL) {
        fore_json_get_bool(ret, "running", &r->qmp->truth.running, &why);
    }
    refresh_part(r, why);
}

void fore_qmp_refresh(ForeQmp *qmp, ForeQmpDone done, gpointer data)
{
    Refresh *r = g_new0(Refresh, 1);

    *r = (Refresh){.qmp = qmp, .done = done, .data = data, .left = 4};
    qmp->refreshes = g_slist_prepend(qmp->refreshes, r);
    fore_link_execute(qmp->link, "query-hotpluggable-cpus", NULL, QUERY_MS, on_slots, r);
    fore_link_execute(qmp->link, "query-memory-devices", NULL, QUERY_MS, on_mem_devices, r);
    fore_link_execute(qmp->link, "query-memory-size-summary", NULL, QUERY_MS, on_mem_summary, r);
    fore_link_execute(qmp->link, "query-status", NULL, QUERY_MS, on_status, r);
}

static void on_checked(ForeQmp *qmp, const GError *error, gpointer data)
{
    bool missed = g_error_matches(error, FORE_ERROR, FORE_ERROR_TIMEOUT);

    qmp->checking = false;
    qmp->misses = missed ? qmp->misses + 1 : 0;
    if (qmp->misses >= MISSES) {
        qmp->misses = 0;
        fore_link_reset(qmp->link, "QEMU does not answer; is it stopped?");
    }
}

void fore_qmp_check(ForeQmp *qmp)
{
    if (qmp->up && !qmp->checking) {
        qmp->checking = true;
        fore_qmp_refresh(qmp, on_checked, NULL);
    }
}

/* --- operations --- */

static void operation_end(Operation *op, const GError *why)
{
    op->qmp->operations = g_slist_remove(op->qmp->operations, op);
    op->done(op->qmp, why, op->data);
    g_free(op);
}

static Operation *operation_new(ForeQmp *qmp, ForeQmpDone done, gpointer data)
{
    Operation *op = g_new0(Operation, 1);

    *op = (Operation){.qmp = qmp, .done = done, .data = data};
    qmp->operations = g_slist_prepend(qmp->operations, op);
    return op;
}

static void add_next(Operation *op);

static void on_added(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    Operation *op = data;

    /* "Duplicate device ID" means that an earlier command whose answer was lost was executed.  The
     * count is re-read in any case, so what QEMU says here only matters when it is still short. */
    if (error != NULL && strstr(error->message, "Duplicate device ID") == NULL) {
        operation_end(op, error);
        return;
    }
    add_next(op);
}

static void on_slots_known(ForeQmp *qmp, const GError *error, gpointer data)
{
    Operation *op = data;

    if (error != NULL) {
        operation_end(op, error);
        return;
    }
    if (qmp->truth.vcpus_plugged >= op->total) {
        operation_end(op, NULL);
        return;
    }
    if (op->tries++ > op->total) {
        g_autoptr(GError) stuck = g_error_new(
            FORE_ERROR, FORE_ERROR_FAILED, "QEMU accepts vCPUs but shows %u of %u; look at its log",
            qmp->truth.vcpus_plugged, op->total);
        operation_end(op, stuck);
        return;
    }
    for (guint i = 0; i < qmp->slots->len; i++) {
        const Slot *slot = &g_array_index(qmp->slots, Slot, i);
        json_t *arguments;
        g_autofree char *id = NULL;
        if (slot->plugged || qmp->truth.vcpus_plugged + slot->count > op->total) {
            continue;
        }
        id = g_strdup_printf("fore-cpu-%" G_GINT64_FORMAT "-%" G_GINT64_FORMAT "-%" G_GINT64_FORMAT,
                             MAX(slot->socket, 0), MAX(slot->core, 0), MAX(slot->thread, 0));
        arguments = json_pack("{s:s,s:s}", "driver", slot->type, "id", id);
        json_object_update(arguments, slot->props);
        fore_link_execute(qmp->link, "device_add", arguments, ADD_MS, on_added, op);
        return;
    }
    {
        g_autoptr(GError) full = g_error_new(
            FORE_ERROR, FORE_ERROR_LIMIT,
            "QEMU has %u vCPUs in %u slots; %u do not fit: start it with a larger maxcpus",
            qmp->truth.vcpus_plugged, qmp->truth.vcpus_max, op->total);
        operation_end(op, full);
    }
}

static void add_next(Operation *op)
{
    fore_qmp_refresh(op->qmp, on_slots_known, op);
}

void fore_qmp_plug_vcpus(ForeQmp *qmp, unsigned total, ForeQmpDone done, gpointer data)
{
    Operation *op = operation_new(qmp, done, data);

    op->total = total;
    add_next(op);
}

static gboolean on_poll(gpointer data);
static void on_polled(ForeQmp *qmp, const GError *error, gpointer data);

static void poll_later(Operation *op)
{
    GSource *timer = g_timeout_source_new(POLL_MS);

    g_source_set_callback(timer, on_poll, op, NULL);
    g_source_attach(timer, op->qmp->context);
    op->qmp->waits = g_slist_prepend(op->qmp->waits, timer);
}

static gboolean on_poll(gpointer data)
{
    Operation *op = data;
    GSource *self = g_main_current_source();

    op->qmp->waits = g_slist_remove(op->qmp->waits, self);
    g_source_unref(self);
    fore_qmp_refresh(op->qmp, on_polled, op);
    return G_SOURCE_REMOVE;
}

static void on_polled(ForeQmp *qmp, const GError *error, gpointer data)
{
    Operation *op = data;
    g_autoptr(GError) late = NULL;

    if (error != NULL || qmp->truth.vmem_bytes == op->bytes) {
        operation_end(op, error);
        return;
    }
    if (g_get_monotonic_time() < op->deadline_us) {
        poll_later(op);
        return;
    }
    late = g_error_new(FORE_ERROR, FORE_ERROR_TIMEOUT,
                       "virtio-mem '%s' has %" G_GUINT64_FORMAT " MiB of %" G_GUINT64_FORMAT
                       " MiB asked for; the guest did not follow in time",
                       qmp->vmem_device, qmp->truth.vmem_bytes >> 20, op->bytes >> 20);
    operation_end(op, late);
}

static void on_vmem_asked(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    Operation *op = data;

    if (error != NULL) {
        operation_end(op, error);
        return;
    }
    fore_qmp_refresh(op->qmp, on_polled, op);
}

void fore_qmp_set_vmem(ForeQmp *qmp, uint64_t bytes, unsigned timeout_ms, ForeQmpDone done,
                       gpointer data)
{
    Operation *op = operation_new(qmp, done, data);
    g_autofree char *path = g_strdup_printf("/machine/peripheral/%s", qmp->vmem_device);

    op->bytes = bytes;
    op->deadline_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    fore_link_execute(qmp->link, "qom-set",
                      json_pack("{s:s,s:s,s:I}", "path", path, "property", "requested-size",
                                "value", (json_int_t)bytes),
                      ADD_MS, on_vmem_asked, op);
}

/* --- life --- */

static void on_first_truth(ForeQmp *qmp, const GError *error, gpointer data)
{
    if (error != NULL) {
        fore_link_reset(qmp->link, error->message);
        return;
    }
    qmp->up = true;
    qmp->ops->on_up(qmp, qmp->data);
}

static void on_link_up(ForeLink *link, gpointer data)
{
    fore_qmp_refresh(data, on_first_truth, NULL);
}

static void on_link_down(ForeLink *link, const GError *why, gpointer data)
{
    ForeQmp *qmp = data;

    qmp->up = false;
    qmp->ops->on_down(qmp, why, qmp->data);
}

static void on_link_event(ForeLink *link, const char *event, const json_t *ev_data, gpointer data)
{
    ForeQmp *qmp = data;

    if (qmp->up) {
        qmp->ops->on_event(qmp, event, ev_data, qmp->data);
    }
}

ForeQmp *fore_qmp_new(GMainContext *context, const char *address, const char *vmem_device,
                      const ForeQmpOps *ops, gpointer data)
{
    static const ForeLinkOps link_ops = {on_link_up, on_link_down, on_link_event};
    ForeWireConfig config = {.json = fore_json_limits_qmp, .greeting_timeout_ms = 2000};
    ForeQmp *qmp = g_new0(ForeQmp, 1);

    qmp->context = g_main_context_ref(context);
    qmp->vmem_device = g_strdup(vmem_device);
    qmp->ops = ops;
    qmp->data = data;
    qmp->slots = g_array_new(FALSE, TRUE, sizeof(Slot));
    g_array_set_clear_func(qmp->slots, slot_clear);
    qmp->link = fore_link_new(context, address, NULL, &config, &link_ops, qmp);
    return qmp;
}

static void wait_free(gpointer p)
{
    g_source_destroy(p);
    g_source_unref(p);
}

void fore_qmp_free(ForeQmp *qmp)
{
    if (qmp == NULL) {
        return;
    }
    g_slist_free_full(qmp->waits, wait_free);
    fore_link_free(qmp->link); /* answers nothing any more: what waits for an answer goes too */
    g_slist_free_full(qmp->refreshes, refresh_free);
    g_slist_free_full(qmp->operations, g_free);
    g_array_unref(qmp->slots);
    g_main_context_unref(qmp->context);
    g_free(qmp->vmem_device);
    g_free(qmp);
}

bool fore_qmp_is_up(const ForeQmp *qmp)
{
    return qmp->up;
}

const char *fore_qmp_reason(const ForeQmp *qmp)
{
    return fore_link_reason(qmp->link);
}

const ForeQmpTruth *fore_qmp_truth(const ForeQmp *qmp)
{
    return &qmp->truth;
}

ForeLink *fore_qmp_link(ForeQmp *qmp)
{
    return qmp->link;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works: every change ends in update(), which has the worker bring online what is allowed
 * and look again.  While one look runs, further reasons to look are folded into one more.  Reasons
 * are a grant, a uevent of the kernel (netlink group 1, works without udev), a poll every 100 ms
 * for 10 s after a grant where there are no uevents or after a write that failed, and a cheap check
 * every second.  Nothing is ever brought online while no grant is open, so an administrator who
 * takes a CPU away keeps it away.
 */
#include "guest-agent/fore-sea-gate.h"

#include <errno.h>
#include <glib-unix.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "guest-agent/fore-sea-text.h"
#include "guest-agent/fore-sea-worker.h"

#define POLL_MS         100
#define POLLS_GRANT     100 /* 10 s after a grant without uevents */
#define POLLS_FAILED    20  /* 2 s after a write that failed */
#define CHECKS_PER_SCAN 10  /* a full look every 10 s, whatever happens */
#define MEMORY_TRIES    32  /* blocks that one release tries to take offline */

typedef struct {
    ForeSeaCapacity capacity;
    unsigned vcpus;
    uint64_t mem_bytes;
} Shown;

struct ForeSeaGate {
    GMainContext *context;
    char *sysfs_root, *lists;
    bool offline_memory;
    const ForeSeaGateOps *ops;
    gpointer data;
    ForeSeaWorker *worker;
    ForeSeaCapacity capacity;
    ForeSeaAllowed allowed;
    Shown shown;                /* what on_change told last */
    bool updating, again, sore; /* sore: in a spell of trouble */
    int uevent_fd;              /* -1: none */
    GSource *uevents, *poll, *trouble_soon;
    GError *hold_error;
    unsigned polls_left, checks;
};

typedef struct {
    ForeSeaJob job;
    ForeSeaGate *gate;
    bool grow, shrink, scanned;
    unsigned vcpus;
    uint64_t mem_bytes;
    ForeSeaCapacity capacity;
    GError *error; /* the first one */
    ForeSeaReleased done;
    gpointer data;
} GateJob;

static void update(ForeSeaGate *gate);

static void drop_source(GSource **source)
{
    if (*source) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

static void run_job(ForeSeaJob *base)
{
    GateJob *job = (GateJob *)base;
    const char *root = job->gate->sysfs_root; /* never changes */

    if (job->grow) {
        fore_sea_hotplug_grow(root, job->vcpus, job->mem_bytes, &job->error);
    }
    if (job->shrink) {
        fore_sea_hotplug_shrink_cpus(root, job->vcpus, &job->error);
    }
    if (job->shrink && job->gate->offline_memory) {
        fore_sea_hotplug_shrink_memory(root, job->mem_bytes, MEMORY_TRIES,
                                       job->error ? NULL : &job->error);
    }
    job->scanned = fore_sea_hotplug_scan(root, &job->capacity, job->error ? NULL : &job->error);
}

static void tell_change(ForeSeaGate *gate)
{
    Shown now = {gate->capacity, gate->allowed.vcpus, gate->allowed.mem_bytes};
    const Shown *was = &gate->shown;
    bool same = now.vcpus == was->vcpus && now.mem_bytes == was->mem_bytes &&
                now.capacity.vcpus_present == was->capacity.vcpus_present &&
                now.capacity.vcpus_online == was->capacity.vcpus_online &&
                now.capacity.blocks_present == was->capacity.blocks_present &&
                now.capacity.blocks_online == was->capacity.blocks_online;

    gate->shown = now;
    if (!same) {
        gate->ops->on_change(gate, gate->data);
    }
}

static gboolean on_poll(gpointer data)
{
    ForeSeaGate *gate = data;

    if (gate->polls_left == 0) {
        drop_source(&gate->poll);
        return G_SOURCE_REMOVE;
    }
    gate->polls_left--;
    update(gate);
    return G_SOURCE_CONTINUE;
}

static void poll_for(ForeSeaGate *gate, unsigned polls)
{
    gate->polls_left = MAX(gate->polls_left, polls);
    if (gate->polls_left > 0 && !gate->poll) {
        gate->poll = g_timeout_source_new(POLL_MS);
        g_source_set_callback(gate->poll, on_poll, gate, NULL);
        g_source_attach(gate->poll, gate->context);
    }
}

static void judge_trouble(ForeSeaGate *gate, const GError *error)
{
    bool first = error && !gate->sore;

    gate->sore = error != NULL;
    if (first) { /* later failures of the same spell are left to the check each second */
        poll_for(gate, POLLS_FAILED);
        gate->ops->on_trouble(gate, error, gate->data);
    }
}

static void job_done(ForeSeaJob *base, bool ran)
{
    GateJob *job = (GateJob *)base;
    ForeSeaGate *gate = job->gate;
    bool again = false;

    if (ran) {
        if (job->scanned) {
            gate->capacity = job->capacity;
        }
        if (!job->shrink) {
            again = gate->again;
            gate->updating = gate->again = false;
        }
        judge_trouble(gate, job->error);
        tell_change(gate);
    } else {
        g_clear_error(&job->error);
        job->error = g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "the agent is stopping");
    }
    if (job->done) {
        job->done(gate, job->error, job->data);
    }
    if (again) {
        update(gate);
    }
    g_clear_error(&job->error);
    g_free(job);
}

static void update(ForeSeaGate *gate)
{
    GateJob *job;

    if (gate->updating) {
        gate->again = true;
        return;
    }
    job = g_new0(GateJob, 1);
    job->job = (ForeSeaJob){run_job, job_done};
    job->gate = gate;
    job->grow = gate->allowed.open;
    job->vcpus = gate->allowed.vcpus;
    job->mem_bytes = gate->allowed.mem_bytes;
    gate->updating = fore_sea_worker_push(gate->worker, &job->job);
    if (!gate->updating) { /* releases fill the queue; the next check comes back here */
        g_free(job);
    }
}

static gboolean on_uevent(gint fd, GIOCondition condition, gpointer data)
{
    ForeSeaGate *gate = data;
    bool ours = false;
    char message[4096];

    for (unsigned i = 0; i < 256; i++) {
        struct sockaddr_nl from = {0};
        struct iovec iov = {message, sizeof message};
        struct msghdr header = {
            .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n = recvmsg(fd, &header, MSG_DONTWAIT);
        if (n < 0) {
            ours |= errno == ENOBUFS; /* some were lost: look */
            break;
        }
        /* Port 0 is the kernel; any process may send to the group if it is privileged. */
        ours |= from.nl_pid == 0 && fore_sea_text_uevent(message, (size_t)n);
    }
    if (ours) {
        update(gate);
    }
    return G_SOURCE_CONTINUE;
}

static void listen_uevents(ForeSeaGate *gate)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};

    gate->uevent_fd =
        socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (gate->uevent_fd < 0) {
        return;
    }
    if (bind(gate->uevent_fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(gate->uevent_fd);
        gate->uevent_fd = -1;
        return;
    }
    gate->uevents = g_unix_fd_source_new(gate->uevent_fd, G_IO_IN);
    g_source_set_callback(gate->uevents, G_SOURCE_FUNC(on_uevent), gate, NULL);
    g_source_attach(gate->uevents, gate->context);
}

static gboolean on_trouble_soon(gpointer data)
{
    ForeSeaGate *gate = data;

    drop_source(&gate->trouble_soon);
    gate->ops->on_trouble(gate, gate->hold_error, gate->data);
    g_clear_error(&gate->hold_error);
    return G_SOURCE_REMOVE;
}

ForeSeaGate *fore_sea_gate_new(GMainContext *context, const char *sysfs_root, bool offline_memory,
                               const ForeSeaGateOps *ops, gpointer data, GError **error)
{
    ForeSeaCapacity capacity;
    ForeSeaGate *gate;

    if (!fore_sea_hotplug_scan(sysfs_root, &capacity, error)) {
        return NULL;
    }
    gate = g_new0(ForeSeaGate, 1);
    gate->context =
        context ? g_main_context_ref(context) : g_main_context_ref(g_main_context_default());
    gate->sysfs_root = g_strdup(sysfs_root);
    gate->lists = fore_sea_hotplug_lists(sysfs_root);
    gate->offline_memory = offline_memory;
    gate->ops = ops;
    gate->data = data;
    gate->worker = fore_sea_worker_new(gate->context);
    gate->capacity = capacity;
    gate->uevent_fd = -1;
    fore_sea_allowed_init(&gate->allowed, &capacity);
    gate->shown = (Shown){capacity, gate->allowed.vcpus, gate->allowed.mem_bytes};
    if (!fore_sea_hotplug_hold(sysfs_root, &gate->hold_error)) {
        gate->trouble_soon = g_idle_source_new();
        g_source_set_callback(gate->trouble_soon, on_trouble_soon, gate, NULL);
        g_source_attach(gate->trouble_soon, gate->context);
    }
    if (g_str_equal(sysfs_root, "/sys")) {
        listen_uevents(gate);
    }
    return gate;
}

void fore_sea_gate_free(ForeSeaGate *gate)
{
    if (!gate) {
        return;
    }
    drop_source(&gate->uevents);
    drop_source(&gate->poll);
    drop_source(&gate->trouble_soon);
    fore_sea_worker_free(gate->worker);
    if (gate->uevent_fd >= 0) {
        close(gate->uevent_fd);
    }
    g_clear_error(&gate->hold_error);
    g_main_context_unref(gate->context);
    g_free(gate->sysfs_root);
    g_free(gate->lists);
    g_free(gate);
}

const ForeSeaCapacity *fore_sea_gate_capacity(const ForeSeaGate *gate)
{
    return &gate->capacity;
}

const ForeSeaAllowed *fore_sea_gate_allowed(const ForeSeaGate *gate)
{
    return &gate->allowed;
}

static void set_int(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

json_t *fore_sea_gate_json(const ForeSeaGate *gate, bool ungranted)
{
    const ForeSeaCapacity *capacity = &gate->capacity;
    unsigned vcpus, blocks;
    json_t *data = json_object(), *held;

    set_int(data, "vcpus-present", capacity->vcpus_present);
    set_int(data, "vcpus-online", capacity->vcpus_online);
    set_int(data, "memory-present-bytes", capacity->block_bytes * capacity->blocks_present);
    set_int(data, "memory-online-bytes", fore_sea_capacity_online_bytes(capacity));
    set_int(data, "vcpus-granted", gate->allowed.vcpus);
    set_int(data, "memory-granted-bytes", gate->allowed.mem_bytes);
    if (ungranted) {
        fore_sea_allowed_held(&gate->allowed, capacity, &vcpus, &blocks);
        held = json_object();
        set_int(held, "vcpus", vcpus);
        set_int(held, "memory-blocks", blocks);
        json_object_set_new(data, "ungranted", held);
    }
    return data;
}

void fore_sea_gate_grant(ForeSeaGate *gate, const ForeGrant *grant)
{
    fore_sea_allowed_grant(&gate->allowed, grant, g_get_monotonic_time(),
                           g_get_real_time() / G_USEC_PER_SEC);
    gate->sore = false;
    if (!gate->uevents) {
        poll_for(gate, POLLS_GRANT);
    }
    update(gate);
}

bool fore_sea_gate_release(ForeSeaGate *gate, unsigned vcpus, uint64_t mem_bytes,
                           ForeSeaReleased done, gpointer data, GError **error)
{
    GateJob *job = g_new0(GateJob, 1);

    job->job = (ForeSeaJob){run_job, job_done};
    job->gate = gate;
    job->shrink = true;
    job->vcpus = MAX(vcpus, 1);
    job->mem_bytes = mem_bytes;
    job->done = done;
    job->data = data;
    if (!fore_sea_worker_push(gate->worker, &job->job)) {
        g_free(job);
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "%d releases wait already; wait for their answers", FORE_SEA_JOBS_MAX);
        return false;
    }
    fore_sea_allowed_release(&gate->allowed, vcpus, mem_bytes);
    return true;
}

/* Where no uevent would tell: cheaper than a scan. */
static bool lists_moved(ForeSeaGate *gate)
{
    g_autofree char *lists = fore_sea_hotplug_lists(gate->sysfs_root);

    if (g_str_equal(lists, gate->lists)) {
        return false;
    }
    g_free(gate->lists);
    gate->lists = g_steal_pointer(&lists);
    return true;
}

void fore_sea_gate_check(ForeSeaGate *gate)
{
    bool moved = !gate->uevents && lists_moved(gate);

    if (fore_sea_allowed_expire(&gate->allowed, &gate->capacity, g_get_monotonic_time(),
                                g_get_real_time() / G_USEC_PER_SEC)) {
        tell_change(gate);
    }
    if (moved || ++gate->checks >= CHECKS_PER_SCAN) {
        gate->checks = 0;
        update(gate);
    }
}

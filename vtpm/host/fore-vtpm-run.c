/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One process runs one vTPM.  It waits for three things: a signal, a change in the state directory,
 * the end of swtpm.  swtpm is not tied to this process: when the supervisor dies, the guest keeps
 * its TPM, and the next supervisor takes it over by its pid file.  State changes seldom (start,
 * first signature, NV writes, shutdown), so a digest of it at each change costs nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "vtpm/host/fore-vtpm-priv.h"

#define SETTLE_MS     200 /* a burst of writes is one change */
#define RESTARTS_MAX  5   /* within */
#define RESTARTS_US   (60 * G_USEC_PER_SEC)
#define STOP_WAIT_MS  10000
#define CHANGE_EVENTS (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MODIFY)

typedef struct {
    const ForeVtpmHost *host;
    const char *uuid;
    ForeVtpmPaths paths;
    ForeSwtpm *swtpm; /* ours; NULL when taken over */
    int pid, pidfd, signals, changes, lock;
    bool adopted;
} Run;

static int pidfd_open_of(int pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* The instance that outlived its supervisor; 0: there is none. */
static int find_orphan(const char *socket)
{
    g_autofree char *file = g_strconcat(socket, ".pid", NULL), *text = NULL, *proc = NULL,
                    *cmdline = NULL;
    gsize size = 0;
    gint64 pid = 0;

    if (!g_file_get_contents(file, &text, NULL, NULL) ||
        !g_ascii_string_to_signed(g_strstrip(text), 10, 2, G_MAXINT, &pid, NULL)) {
        return 0;
    }
    proc = g_strdup_printf("/proc/%d/cmdline", (int)pid);
    if (!g_file_get_contents(proc, &cmdline, &size, NULL)) {
        return 0;
    }
    for (gsize i = 0; i + 1 < size; i++) {
        cmdline[i] = cmdline[i] == '\0' ? ' ' : cmdline[i];
    }
    return size > 0 && strstr(cmdline, "swtpm") != NULL && strstr(cmdline, socket) != NULL
               ? (int)pid
               : 0;
}

static bool watch_pid(Run *r, GError **error)
{
    r->pidfd = pidfd_open_of(r->pid);
    if (r->pidfd < 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "cannot watch swtpm (pid %d) of VM %s: %s", r->pid, r->uuid, g_strerror(errno));
        return false;
    }
    return true;
}

static bool start(Run *r, GError **error)
{
    ForeSwtpmConfig config = {
        .state_dir = r->paths.state, .vm_uuid = r->uuid, .ca_dir = r->host->ca_dir};
    g_autoptr(ForeTpm) tpm = fore_tpm_open(r->host->tcti, error);
    g_autoptr(GBytes) key = NULL;

    if (tpm == NULL) {
        g_prefix_error(error, "host TPM: ");
        return false;
    }
    key = fore_vtpm_key(tpm, &r->paths, error);
    if (key == NULL || !fore_vtpm_admit(r->host, tpm, &r->paths, r->uuid, error)) {
        return false;
    }
    g_clear_pointer(&tpm, fore_tpm_close); /* an emulator serves one client at a time */
    config.key = key;
    r->swtpm = fore_swtpm_start(&config, FORE_SWTPM_FOR_QEMU, r->paths.socket, false, error);
    if (r->swtpm == NULL) {
        return false;
    }
    r->pid = fore_swtpm_pid(r->swtpm);
    return watch_pid(r, error);
}

static bool adopt_or_start(Run *r, GError **error)
{
    r->pid = find_orphan(r->paths.socket);
    if (r->pid == 0) {
        return start(r, error);
    }
    r->adopted = true;
    return watch_pid(r, error) && fore_vtpm_record(r->host, &r->paths, r->uuid, true, error);
}

static bool open_fds(Run *r, sigset_t *ret_old, GError **error)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, ret_old);
    r->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    r->changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (r->signals < 0 || r->changes < 0 ||
        inotify_add_watch(r->changes, r->paths.state, CHANGE_EVENTS) < 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot watch '%s': %s",
                    r->paths.state, g_strerror(errno));
        return false;
    }
    return true;
}

static void drain(int fd)
{
    char buffer[4096];

    while (read(fd, buffer, sizeof(buffer)) > 0) {
    }
}

/* SIGTERM, SIGKILL when that is not heard. */
static void end_instance(Run *r)
{
    struct pollfd p = {r->pidfd, POLLIN, 0};

    if (r->swtpm != NULL) {
        fore_swtpm_stop(r->swtpm);
        return;
    }
    kill(r->pid, SIGTERM);
    if (poll(&p, 1, 3000) == 0) {
        kill(r->pid, SIGKILL);
        poll(&p, 1, 3000);
    }
}

typedef enum { ENDED, STOPPED, FAILED } Outcome;

/* Until the instance ends or we are told to stop; every change goes into the ledger. */
static Outcome supervise(Run *r, GError **error)
{
    struct pollfd fds[] = {{r->signals, POLLIN, 0}, {r->pidfd, POLLIN, 0}, {r->changes, POLLIN, 0}};
    bool changed = false;

    for (;;) {
        int n = poll(fds, G_N_ELEMENTS(fds), changed ? SETTLE_MS : -1);

        if (n < 0 && errno != EINTR) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED, "poll: %s", g_strerror(errno));
            return FAILED;
        }
        if (n == 0 && changed) {
            changed = false;
            if (!fore_vtpm_record(r->host, &r->paths, r->uuid, true, error)) {
                return FAILED;
            }
        }
        if (n > 0 && fds[0].revents != 0) {
            drain(r->signals); /* or it would strike when the mask is restored */
            return STOPPED;
        }
        if (n > 0 && fds[1].revents != 0) {
            return ENDED;
        }
        if (n > 0 && fds[2].revents != 0) {
            drain(r->changes);
            changed = true;
        }
    }
}

/* QEMU's going away ends swtpm with 0 and removes its socket; anything else is a crash. */
static bool crashed(const Run *r)
{
    return g_file_test(r->paths.socket, G_FILE_TEST_EXISTS);
}

static void close_instance(Run *r)
{
    if (r->pidfd >= 0) {
        close(r->pidfd);
    }
    r->pidfd = -1;
    g_clear_pointer(&r->swtpm, fore_swtpm_free);
}

static bool run_instances(Run *r, ForeVtpmReady ready, gpointer data, GError **error)
{
    gint64 window = g_get_monotonic_time();
    unsigned restarts = 0;

    for (;;) {
        Outcome outcome;
        bool crash;

        if (!adopt_or_start(r, error)) {
            return false;
        }
        if (ready != NULL) {
            ready(r->paths.socket, r->adopted, data);
        }
        r->adopted = false;
        outcome = supervise(r, error);
        crash = outcome == ENDED && crashed(r);
        if (outcome != ENDED) {
            end_instance(r);
        }
        close_instance(r);
        if (outcome == FAILED || !fore_vtpm_record(r->host, &r->paths, r->uuid, false, error)) {
            return false;
        }
        if (!crash) {
            return true;
        }
        if (g_get_monotonic_time() - window > RESTARTS_US) {
            window = g_get_monotonic_time();
            restarts = 0;
        }
        if (++restarts > RESTARTS_MAX) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED,
                        "swtpm of VM %s ended %u times within a minute; see '%s/swtpm.log'",
                        r->uuid, restarts, r->paths.state);
            return false;
        }
    }
}

bool fore_vtpm_run(const ForeVtpmHost *host, const char *uuid, ForeVtpmReady ready, gpointer data,
                   GError **error)
{
    Run r = {.host = host, .uuid = uuid, .pidfd = -1, .signals = -1, .changes = -1};
    sigset_t old;
    bool ok;

    if (g_mkdir_with_parents(host->run_dir, 0755) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot make '%s': %s",
                    host->run_dir, g_strerror(errno));
        return false;
    }
    fore_vtpm_paths_init(&r.paths, host, uuid);
    r.lock = fore_vtpm_lock(&r.paths, uuid, error);
    if (r.lock < 0) {
        fore_vtpm_paths_done(&r.paths);
        return false;
    }
    ok = open_fds(&r, &old, error) && run_instances(&r, ready, data, error);
    close_instance(&r);
    if (r.signals >= 0) {
        close(r.signals);
    }
    if (r.changes >= 0) {
        close(r.changes);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    close(r.lock);
    fore_vtpm_paths_done(&r.paths);
    return ok;
}

bool fore_vtpm_stop(const ForeVtpmHost *host, const char *uuid, GError **error)
{
    g_auto(ForeVtpmPaths) p = {0};
    g_autofree char *text = NULL;
    gint64 until = g_get_monotonic_time() + STOP_WAIT_MS * 1000, pid = 0;

    fore_vtpm_paths_init(&p, host, uuid);
    if (!fore_vtpm_is_running(host, uuid) || !g_file_get_contents(p.lock, &text, NULL, NULL) ||
        !g_ascii_string_to_signed(g_strstrip(text), 10, 2, G_MAXINT, &pid, NULL)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND, "the vTPM of VM %s does not run",
                    uuid);
        return false;
    }
    kill((pid_t)pid, SIGTERM);
    while (fore_vtpm_is_running(host, uuid)) {
        if (g_get_monotonic_time() > until) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_TIMEOUT,
                        "the supervisor (pid %d) of VM %s's vTPM did not end within %d s", (int)pid,
                        uuid, STOP_WAIT_MS / 1000);
            return false;
        }
        g_usleep(10000);
    }
    return true;
}

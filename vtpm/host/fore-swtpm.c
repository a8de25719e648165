/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Facts that shaped this file, measured with swtpm 0.7.1: a relative state directory puts the TPM
 * into failure mode; swtpm writes its pid file after its sockets listen and before it opens its
 * state, so for QEMU the file is the sign that it is ready (a probe connection would end a
 * --terminate instance), and for TSS one answered command is; a wrong key ends it with rc 33;
 * --keyfile-fd of swtpm_setup and --key fd= of swtpm read a memfd from its present offset.
 */
#include "vtpm/host/fore-swtpm.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <openssl/rand.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "common/fore-flow.h"
#include "vtpm/tpm/fore-tcti.h"

#define KEY_FD     9 /* number of the key's file in the child */
#define START_MS   5000
#define STOP_MS    3000
#define MAX_SOCKET 100
#define LOG_TAIL   400
#define STATE_FILE "tpm2-00.permall"

struct ForeSwtpm {
    GSubprocess *process;
    char *socket, *tcti, *pid_file;
};

static bool check_config(const ForeSwtpmConfig *c, GError **error)
{
    const char *what = NULL;

    if (c->state_dir == NULL || !g_path_is_absolute(c->state_dir)) {
        what = "the state directory must be an absolute path";
    } else if (c->ca_dir != NULL && !g_path_is_absolute(c->ca_dir)) {
        what = "the CA directory must be an absolute path";
    } else if (strpbrk(c->state_dir, ",\n") || (c->ca_dir != NULL && strpbrk(c->ca_dir, "\n"))) {
        what = "directories may hold no comma and no newline";
    } else if (!fore_uuid_is_valid(c->vm_uuid)) {
        what = "the VM's UUID must be lower-case 8-4-4-4-12";
    } else if (c->key == NULL && !c->clear_state) {
        what = "a state key is required; TPM state is not kept in clear";
    } else if (c->key != NULL && g_bytes_get_size(c->key) != FORE_SWTPM_KEY_BYTES) {
        what = "the state key must have 32 bytes";
    }
    if (what != NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "software TPM in '%s': %s",
                    c->state_dir != NULL ? c->state_dir : "", what);
        return false;
    }
    return true;
}

/* The key as hex in an anonymous file at offset 0, as both programs read it; -1 on failure. */
static int key_file(GBytes *key)
{
    gsize n = 0;
    const void *data = g_bytes_get_data(key, &n);
    g_autofree char *hex = fore_hex_encode(data, n);
    int fd = memfd_create("foresee-swtpm-key", MFD_CLOEXEC);
    bool ok = fd >= 0 && write(fd, hex, 2 * n) == (ssize_t)(2 * n) && lseek(fd, 0, SEEK_SET) == 0;

    explicit_bzero(hex, 2 * n);
    if (!ok && fd >= 0) {
        close(fd);
    }
    return ok ? fd : -1;
}

static bool give_key(GSubprocessLauncher *launcher, GBytes *key, GError **error)
{
    int fd;

    if (key == NULL) {
        return true;
    }
    fd = key_file(key);
    if (fd < 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "cannot hold the TPM state key in an anonymous file: %s", g_strerror(errno));
        return false;
    }
    g_subprocess_launcher_take_fd(launcher, fd, KEY_FD);
    return true;
}

static bool make_dir(const char *path, GError **error)
{
    if (g_mkdir_with_parents(path, 0700) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot make directory '%s': %s",
                    path, g_strerror(errno));
        return false;
    }
    return true;
}

static bool write_text(const char *dir, const char *name, const char *text, GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autoptr(GError) why = NULL;

    if (!g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "%s", why->message);
        return false;
    }
    return true;
}

/* A CA of our own beside its swtpm_setup configuration; returns the latter's path. */
static char *write_ca_config(const char *ca_dir, GError **error)
{
    g_autofree char *setup = NULL, *ca = NULL, *tool = g_find_program_in_path("swtpm_localca");

    if (tool == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "swtpm_localca is missing; install the package swtpm-tools");
        return NULL;
    }
    setup = g_strdup_printf("create_certs_tool = %s\n"
                            "create_certs_tool_config = %s/localca.conf\n"
                            "create_certs_tool_options = %s/localca.options\n"
                            "active_pcr_banks = sha256\n",
                            tool, ca_dir, ca_dir);
    ca = g_strdup_printf("statedir = %s\n"
                         "signingkey = %s/signkey.pem\n"
                         "issuercert = %s/issuercert.pem\n"
                         "certserial = %s/certserial\n",
                         ca_dir, ca_dir, ca_dir, ca_dir);
    if (!make_dir(ca_dir, error) || !write_text(ca_dir, "setup.conf", setup, error) ||
        !write_text(ca_dir, "localca.conf", ca, error) ||
        !write_text(ca_dir, "localca.options",
                    "--platform-manufacturer Foresee\n--platform-version 1.0\n"
                    "--platform-model vTPM\n",
                    error)) {
        return NULL;
    }
    return g_build_filename(ca_dir, "setup.conf", NULL);
}

static void wipe_new_state(const char *dir)
{
    g_autofree char *state = g_build_filename(dir, STATE_FILE, NULL);

    g_unlink(state);
}

static GSubprocess *spawn_setup(const ForeSwtpmConfig *c, const char *setup_conf, GError **error)
{
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_MERGE);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *fd = g_strdup_printf("%d", KEY_FD);
    g_autoptr(GError) why = NULL;
    GSubprocess *process;
    const char *fixed[] = {"swtpm_setup",  "--tpm2",           "--tpmstate",
                           c->state_dir,   "--create-ek-cert", "--create-platform-cert",
                           "--lock-nvram", "--not-overwrite",  "--pcr-banks",
                           "sha256",       "--vmid",           c->vm_uuid};

    for (unsigned i = 0; i < G_N_ELEMENTS(fixed); i++) {
        g_ptr_array_add(argv, (gpointer)fixed[i]);
    }
    if (setup_conf != NULL) {
        g_ptr_array_add(argv, (gpointer) "--config");
        g_ptr_array_add(argv, (gpointer)setup_conf);
    }
    if (c->key != NULL) {
        g_ptr_array_add(argv, (gpointer) "--keyfile-fd");
        g_ptr_array_add(argv, fd);
        g_ptr_array_add(argv, (gpointer) "--cipher");
        g_ptr_array_add(argv, (gpointer) "aes-256-cbc");
    }
    g_ptr_array_add(argv, NULL);
    if (!give_key(launcher, c->key, error)) {
        return NULL;
    }
    process = g_subprocess_launcher_spawnv(launcher, (const char *const *)argv->pdata, &why);
    if (process == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "cannot run swtpm_setup: %s; install the package swtpm-tools", why->message);
    }
    return process;
}

static const char *last_words(const char *text)
{
    size_t n = text != NULL ? strlen(text) : 0;

    return n > LOG_TAIL ? text + n - LOG_TAIL : n > 0 ? text : "(it said nothing)";
}

bool fore_swtpm_is_manufactured(const char *state_dir)
{
    g_autofree char *path = g_build_filename(state_dir, STATE_FILE, NULL);

    return g_file_test(path, G_FILE_TEST_IS_REGULAR);
}

bool fore_swtpm_manufacture(const ForeSwtpmConfig *c, GError **error)
{
    g_autofree char *setup_conf = NULL, *out = NULL;
    g_autoptr(GSubprocess) process = NULL;
    g_autoptr(GError) why = NULL;

    if (!check_config(c, error)) {
        return false;
    }
    if (fore_swtpm_is_manufactured(c->state_dir)) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_EXISTS,
            "software TPM state exists in '%s'; it is kept, a new TPM needs another directory",
            c->state_dir);
        return false;
    }
    if (!make_dir(c->state_dir, error)) {
        return false;
    }
    if (c->ca_dir != NULL) {
        setup_conf = write_ca_config(c->ca_dir, error);
        if (setup_conf == NULL) {
            return false;
        }
    }
    process = spawn_setup(c, setup_conf, error);
    if (process == NULL) {
        return false;
    }
    if (!g_subprocess_communicate_utf8(process, NULL, NULL, &out, NULL, &why) ||
        !g_subprocess_get_successful(process)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED, "swtpm_setup for '%s' failed: %s",
                    c->state_dir, why != NULL ? why->message : last_words(out));
        wipe_new_state(c->state_dir);
        return false;
    }
    return true;
}

char *fore_swtpm_ca_pem(const char *ca_dir, GError **error)
{
    static const char *const files[] = {"issuercert.pem", "swtpm-localca-rootca-cert.pem"};
    g_autoptr(GString) all = g_string_new(NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(ca_dir, files[i], NULL), *pem = NULL;

        if (!g_file_get_contents(path, &pem, NULL, NULL)) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND,
                        "no CA certificate '%s'; the first manufactured TPM makes it", path);
            return NULL;
        }
        g_string_append(all, pem);
    }
    return g_string_free(g_steal_pointer(&all), FALSE);
}

/* Runs between fork and exec: async-signal-safe calls only. */
static void on_child(gpointer parent)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != GPOINTER_TO_INT(parent)) {
        _exit(1);
    }
}

static GSubprocess *spawn_swtpm(const ForeSwtpmConfig *c, ForeSwtpmUse use, const ForeSwtpm *s,
                                bool die_with_us, GError **error)
{
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(
        G_SUBPROCESS_FLAGS_STDOUT_SILENCE | G_SUBPROCESS_FLAGS_STDERR_SILENCE);
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) why = NULL;
    GSubprocess *process;

#define ARG(...) g_ptr_array_add(argv, g_strdup_printf(__VA_ARGS__))
    ARG("swtpm");
    ARG("socket");
    ARG("--tpm2");
    ARG("--tpmstate");
    ARG("dir=%s,mode=0600", c->state_dir);
    ARG("--pid");
    ARG("file=%s", s->pid_file);
    ARG("--log");
    ARG("file=%s/swtpm.log,level=1,truncate", c->state_dir);
    ARG("--ctrl");
    if (use == FORE_SWTPM_FOR_QEMU) {
        ARG("type=unixio,path=%s,mode=0600", s->socket);
        ARG("--terminate");
    } else {
        ARG("type=unixio,path=%s.ctrl,mode=0600", s->socket);
        ARG("--server");
        ARG("type=unixio,path=%s,mode=0600", s->socket);
        ARG("--flags");
        ARG("not-need-init,startup-clear");
    }
    if (c->key != NULL) {
        ARG("--key");
        ARG("fd=%d,mode=aes-256-cbc,format=hex", KEY_FD);
    }
#undef ARG
    g_ptr_array_add(argv, NULL);
    if (!give_key(launcher, c->key, error)) {
        return NULL;
    }
    if (die_with_us) {
        g_subprocess_launcher_set_child_setup(launcher, on_child, GINT_TO_POINTER(getpid()), NULL);
    }
    process = g_subprocess_launcher_spawnv(launcher, (const char *const *)argv->pdata, &why);
    if (process == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "cannot run swtpm: %s; install the package swtpm", why->message);
    }
    return process;
}

/* TPM2_GetCapability(TPM_PT_MANUFACTURER), answered with success */
static bool answers(const ForeSwtpm *s)
{
    static const uint8_t command[] = {0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a, 0,
                                      0,    0,    6, 0, 0, 1,  5, 0, 0,    0,    1};
    g_autoptr(ForeTcti) tcti = fore_tcti_new(strchr(s->tcti, ':') + 1, NULL);
    TSS2_TCTI_CONTEXT *context = tcti != NULL ? fore_tcti_context(tcti) : NULL;
    uint8_t answer[4096];
    size_t n = sizeof(answer);
    ForeCursor cur;

    if (context == NULL) {
        return false;
    }
    fore_tcti_set_deadline(tcti, START_MS);
    if (Tss2_Tcti_Transmit(context, sizeof(command), command) != TSS2_RC_SUCCESS ||
        Tss2_Tcti_Receive(context, &n, answer, TSS2_TCTI_TIMEOUT_BLOCK) != TSS2_RC_SUCCESS) {
        return false;
    }
    fore_cursor_init(&cur, answer, n);
    fore_cursor_take(&cur, 6);
    return fore_cursor_be32(&cur) == 0 && fore_cursor_ok(&cur);
}

/* The pid file says that the sockets listen; state is opened after it, for TSS at once. */
static bool wait_ready(ForeSwtpm *s, const ForeSwtpmConfig *c, GError **error)
{
    gint64 until = g_get_monotonic_time() + START_MS * 1000;
    g_autofree char *log = NULL, *log_path = NULL;
    bool listens = false;

    while (!listens && fore_swtpm_is_alive(s)) {
        GStatBuf st;

        listens = g_stat(s->pid_file, &st) == 0 && st.st_size > 0;
        if (!listens && g_get_monotonic_time() > until) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_TIMEOUT,
                        "swtpm for '%s' did not listen within %d s; look at swtpm.log there",
                        c->state_dir, START_MS / 1000);
            return false;
        }
        if (!listens) {
            g_usleep(1000);
        }
    }
    if (listens && (s->tcti == NULL || answers(s))) {
        return true;
    }
    fore_swtpm_stop(s);
    log_path = g_build_filename(c->state_dir, "swtpm.log", NULL);
    g_file_get_contents(log_path, &log, NULL, NULL);
    g_set_error(
        error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
        "swtpm for '%s' does not run: wrong state key, damaged state, or another instance holds "
        "it: %s",
        c->state_dir, last_words(log));
    return false;
}

ForeSwtpm *fore_swtpm_start(const ForeSwtpmConfig *c, ForeSwtpmUse use, const char *socket,
                            bool die_with_us, GError **error)
{
    g_autoptr(ForeSwtpm) s = g_new0(ForeSwtpm, 1);
    g_autofree char *ctrl = g_strconcat(socket, ".ctrl", NULL);

    if (!check_config(c, error)) {
        return NULL;
    }
    if (!g_path_is_absolute(socket) || strlen(socket) >= MAX_SOCKET || strpbrk(socket, ",\n")) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "swtpm socket '%s' must be an absolute path below %d bytes without a comma",
                    socket, MAX_SOCKET);
        return NULL;
    }
    if (!fore_swtpm_is_manufactured(c->state_dir)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND,
                    "no software TPM state in '%s'; manufacture it first", c->state_dir);
        return NULL;
    }
    s->socket = g_strdup(socket);
    s->pid_file = g_strconcat(socket, ".pid", NULL);
    s->tcti = use == FORE_SWTPM_FOR_TSS ? g_strconcat("swtpm:path=", socket, NULL) : NULL;
    g_unlink(socket);
    g_unlink(ctrl);
    g_unlink(s->pid_file);
    s->process = spawn_swtpm(c, use, s, die_with_us, error);
    if (s->process == NULL || !wait_ready(s, c, error)) {
        return NULL;
    }
    return g_steal_pointer(&s);
}

bool fore_swtpm_is_alive(ForeSwtpm *s)
{
    return s->process != NULL && g_subprocess_get_identifier(s->process) != NULL;
}

int fore_swtpm_pid(ForeSwtpm *s)
{
    const char *id = s->process != NULL ? g_subprocess_get_identifier(s->process) : NULL;
    gint64 pid = 0;

    return id != NULL && g_ascii_string_to_signed(id, 10, 1, G_MAXINT, &pid, NULL) ? (int)pid : 0;
}

/* GLib's worker thread reaps the child, so its end shows in fore_swtpm_is_alive(). */
static bool wait_end(ForeSwtpm *s, unsigned ms)
{
    gint64 until = g_get_monotonic_time() + (gint64)ms * 1000;

    while (fore_swtpm_is_alive(s)) {
        if (g_get_monotonic_time() > until) {
            return false;
        }
        g_usleep(1000);
    }
    return true;
}

void fore_swtpm_stop(ForeSwtpm *s)
{
    if (!fore_swtpm_is_alive(s)) {
        return;
    }
    g_subprocess_send_signal(s->process, SIGTERM);
    g_subprocess_send_signal(s->process, SIGCONT); /* a stopped one would not hear it */
    if (!wait_end(s, STOP_MS)) {
        g_subprocess_force_exit(s->process);
        wait_end(s, STOP_MS);
    }
}

void fore_swtpm_free(ForeSwtpm *s)
{
    if (s == NULL) {
        return;
    }
    if (s->process != NULL) {
        g_autofree char *ctrl = g_strconcat(s->socket, ".ctrl", NULL);

        fore_swtpm_stop(s);
        g_unlink(s->socket);
        g_unlink(ctrl);
        g_unlink(s->pid_file);
    }
    g_clear_object(&s->process);
    g_free(s->socket);
    g_free(s->tcti);
    g_free(s->pid_file);
    g_free(s);
}

const char *fore_swtpm_socket(const ForeSwtpm *s)
{
    return s->socket;
}

const char *fore_swtpm_tcti(const ForeSwtpm *s)
{
    return s->tcti;
}

static GBytes *create_key(const char *path, GError **error)
{
    uint8_t key[FORE_SWTPM_KEY_BYTES];
    GBytes *bytes;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && RAND_bytes(key, sizeof(key)) == 1 &&
              write(fd, key, sizeof(key)) == (ssize_t)sizeof(key) && fsync(fd) == 0;

    if (fd >= 0) {
        close(fd);
    }
    if (!ok) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "cannot write the TPM state key '%s': %s", path, g_strerror(errno));
        if (fd >= 0) {
            g_unlink(path);
        }
        return NULL;
    }
    bytes = g_bytes_new(key, sizeof(key));
    explicit_bzero(key, sizeof(key));
    return bytes;
}

GBytes *fore_swtpm_key_load_or_create(const char *path, GError **error)
{
    uint8_t key[FORE_SWTPM_KEY_BYTES + 1];
    struct stat st;
    ssize_t n;
    GBytes *bytes;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 && errno == ENOENT) {
        return create_key(path, error);
    }
    if (fd < 0 || fstat(fd, &st) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "cannot read the TPM state key '%s': %s", path, g_strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    n = read(fd, key, sizeof(key));
    close(fd);
    if ((st.st_mode & 077) != 0 || st.st_uid != geteuid()) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
            "TPM state key '%s' is open to others (mode %04o, owner %u); chmod 0600 and chown "
            "it",
            path, st.st_mode & 07777, st.st_uid);
        return NULL;
    }
    if (n != FORE_SWTPM_KEY_BYTES) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "TPM state key '%s' does not hold %d bytes; restore it from a backup", path,
                    FORE_SWTPM_KEY_BYTES);
        return NULL;
    }
    bytes = g_bytes_new(key, FORE_SWTPM_KEY_BYTES);
    explicit_bzero(key, sizeof(key));
    return bytes;
}

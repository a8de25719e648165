/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/lib/fore-test-vm.h"

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "common/fore-wire.h"

#define QMP_FD     3
#define QTEST_FD   4
#define TIMEOUT_MS 60000 /* of any one step; only a hang gets there */
#define LINE_MAX_  256   /* bytes of a qtest answer */

struct ForeTestVm {
    char *dir;
    GSubprocess *process; /* NULL: not running */
    ForeClient *qmp;
    int qtest_fd;
};

static const char *qemu_program(void)
{
    const char *named = g_getenv("FORE_QEMU");

    return named != NULL ? named : "qemu-system-x86_64";
}

bool fore_test_vm_available(void)
{
    g_autofree char *found = g_find_program_in_path(qemu_program());
    const char *plugin = g_getenv("FORE_PLUGIN");

    if (found == NULL) {
        g_autofree char *why = g_strdup_printf("%s is not installed", qemu_program());
        g_test_skip(why);
        return false;
    }
    if (plugin == NULL || access(plugin, R_OK) != 0) {
        g_test_skip("FORE_PLUGIN does not name a readable libforesee-profiler.so");
        return false;
    }
    return true;
}

ForeTestVm *fore_test_vm_new(void)
{
    ForeTestVm *vm = g_new0(ForeTestVm, 1);
    g_autoptr(GError) error = NULL;

    vm->dir = g_dir_make_tmp("fore-vm-XXXXXX", &error);
    g_assert_no_error(error);
    vm->qtest_fd = -1;
    return vm;
}

static void forget_process(ForeTestVm *vm)
{
    g_clear_pointer(&vm->qmp, fore_client_free);
    if (vm->qtest_fd >= 0) {
        close(vm->qtest_fd);
        vm->qtest_fd = -1;
    }
    g_clear_object(&vm->process);
}

void fore_test_vm_kill(ForeTestVm *vm)
{
    if (vm->process == NULL) {
        return;
    }
    g_subprocess_force_exit(vm->process);
    g_subprocess_wait(vm->process, NULL, NULL);
    forget_process(vm);
}

void fore_test_vm_free(ForeTestVm *vm)
{
    if (vm == NULL) {
        return;
    }
    fore_test_vm_kill(vm);
    g_autoptr(GDir) dir = g_dir_open(vm->dir, 0, NULL);
    const char *name;
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = fore_test_vm_path(vm, name);
        g_remove(path);
    }
    g_rmdir(vm->dir);
    g_free(vm->dir);
    g_free(vm);
}

char *fore_test_vm_path(const ForeTestVm *vm, const char *name)
{
    return g_build_filename(vm->dir, name, NULL);
}

/* --- start and end --- */

static char *expand(const ForeTestVm *vm, const char *args)
{
    g_autofree char *page = fore_test_vm_path(vm, "page");
    g_autoptr(GString) text = g_string_new(args);
    g_autofree char *option = g_strdup_printf(
        "-plugin %s,page=%%p", g_getenv("FORE_PLUGIN") ? g_getenv("FORE_PLUGIN") : "");

    g_string_replace(text, "%P", option, 0);
    g_string_replace(text, "%p", page, 0);
    return g_strdup(text->str);
}

static char **command_line(const ForeTestVm *vm, const char *head, const char *args)
{
    g_autofree char *expanded = expand(vm, args);
    g_autofree char *line =
        g_strdup_printf("%s -display none -nodefaults %s %s", qemu_program(), head, expanded);
    g_autoptr(GError) error = NULL;
    char **argv = NULL;

    g_shell_parse_argv(line, NULL, &argv, &error);
    g_assert_no_error(error);
    return argv;
}

static void die_with_parent(gpointer data)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static struct sockaddr_un socket_address(const ForeTestVm *vm, const char *name)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    g_autofree char *path = fore_test_vm_path(vm, name);

    g_assert_cmpuint(strlen(path), <, sizeof(addr.sun_path));
    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    return addr;
}

static int listen_on(const ForeTestVm *vm, const char *name)
{
    struct sockaddr_un addr = socket_address(vm, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    unlink(addr.sun_path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    return fd;
}

static int connect_to(const ForeTestVm *vm, const char *name)
{
    struct sockaddr_un addr = socket_address(vm, name);
    struct timeval limit = {.tv_sec = TIMEOUT_MS / 1000};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), ==, 0);
    return fd;
}

void fore_test_vm_start(ForeTestVm *vm, const char *args)
{
    g_auto(GStrv) argv = command_line(
        vm,
        "-chardev socket,id=fore-qmp,fd=3,server=on,wait=off -mon chardev=fore-qmp,mode=control "
        "-chardev socket,id=fore-qtest,fd=4,server=on,wait=off "
        "-qtest chardev:fore-qtest -qtest-log none",
        args);
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_NONE);
    g_autofree char *qmp = fore_test_vm_path(vm, "qmp");
    g_autofree char *address = g_strdup_printf("unix:%s", qmp);
    g_autoptr(GError) error = NULL;

    g_assert_null(vm->process);
    g_subprocess_launcher_take_fd(launcher, listen_on(vm, "qmp"), QMP_FD);
    g_subprocess_launcher_take_fd(launcher, listen_on(vm, "qtest"), QTEST_FD);
    g_subprocess_launcher_set_child_setup(launcher, die_with_parent, NULL, NULL);
    vm->process = g_subprocess_launcher_spawnv(launcher, (const char *const *)argv, &error);
    g_assert_no_error(error);
    g_subprocess_launcher_close(launcher); /* now only QEMU listens: its death is seen at once */
    vm->qtest_fd = connect_to(vm, "qtest");
    vm->qmp = fore_client_new(address, NULL, TIMEOUT_MS, &error);
    g_assert_no_error(error);
}

char *fore_test_vm_refuses(ForeTestVm *vm, const char *args)
{
    g_auto(GStrv) argv = command_line(vm, "", args);
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(
        G_SUBPROCESS_FLAGS_STDERR_PIPE | G_SUBPROCESS_FLAGS_STDOUT_SILENCE);
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    g_subprocess_launcher_set_child_setup(launcher, die_with_parent, NULL, NULL);
    g_autoptr(GSubprocess) process =
        g_subprocess_launcher_spawnv(launcher, (const char *const *)argv, &error);
    g_assert_no_error(error);
    g_subprocess_communicate_utf8(process, NULL, NULL, NULL, &text, &error);
    g_assert_no_error(error);
    g_assert_false(g_subprocess_get_successful(process));
    return text;
}

void fore_test_vm_quit(ForeTestVm *vm)
{
    fore_test_vm_do(vm, "quit", NULL);
    g_subprocess_wait(vm->process, NULL, NULL);
    g_assert_true(g_subprocess_get_successful(vm->process));
    forget_process(vm);
}

/* --- QMP --- */

static json_t *call(ForeTestVm *vm, const char *command, const char *arguments, GError **error)
{
    json_t *args = NULL;

    if (arguments != NULL) {
        json_error_t why;
        args = json_loads(arguments, 0, &why);
        if (args == NULL) {
            g_error("arguments of %s: %s", command, why.text);
        }
    }
    return fore_client_call(vm->qmp, command, args, TIMEOUT_MS, error);
}

json_t *fore_test_vm_qmp(ForeTestVm *vm, const char *command, const char *arguments)
{
    g_autoptr(GError) error = NULL;
    json_t *ret = call(vm, command, arguments, &error);

    g_assert_no_error(error);
    return ret;
}

void fore_test_vm_do(ForeTestVm *vm, const char *command, const char *arguments)
{
    json_decref(fore_test_vm_qmp(vm, command, arguments));
}

char *fore_test_vm_qmp_fails(ForeTestVm *vm, const char *command, const char *arguments)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) ret = call(vm, command, arguments, &error);

    g_assert_null(ret);
    g_assert_nonnull(error);
    return g_strdup(error->message);
}

json_t *fore_test_vm_wait_event(ForeTestVm *vm, const char *event)
{
    for (;;) {
        g_autoptr(GError) error = NULL;
        g_autoptr(json_t) got = fore_client_next_event(vm->qmp, TIMEOUT_MS, &error);

        g_assert_no_error(error);
        if (g_strcmp0(json_string_value(json_object_get(got, "event")), event) == 0) {
            json_t *data = json_object_get(got, "data");
            return data != NULL ? json_incref(data) : json_object();
        }
    }
}

/* --- qtest: a line out, a line in, "OK" or "OK VALUE" --- */

static uint64_t qtest(ForeTestVm *vm, const char *request)
{
    char line[LINE_MAX_];
    size_t len = 0;

    g_assert_cmpint(write(vm->qtest_fd, request, strlen(request)), ==, (ssize_t)strlen(request));
    do {
        g_assert_cmpuint(len, <, sizeof(line) - 1);
        g_assert_cmpint(read(vm->qtest_fd, line + len, 1), ==, 1);
    } while (line[len++] != '\n');
    line[len] = '\0';
    g_assert_true(g_str_has_prefix(line, "OK"));
    return g_ascii_strtoull(line + 2, NULL, 0);
}

static uint64_t port_in(ForeTestVm *vm, const char *op, uint16_t port)
{
    g_autofree char *request = g_strdup_printf("%s 0x%x\n", op, port);

    return qtest(vm, request);
}

static void port_out(ForeTestVm *vm, const char *op, uint16_t port, uint32_t value)
{
    g_autofree char *request = g_strdup_printf("%s 0x%x 0x%x\n", op, port, value);

    qtest(vm, request);
}

uint8_t fore_test_vm_inb(ForeTestVm *vm, uint16_t port)
{
    return (uint8_t)port_in(vm, "inb", port);
}

uint32_t fore_test_vm_inl(ForeTestVm *vm, uint16_t port)
{
    return (uint32_t)port_in(vm, "inl", port);
}

void fore_test_vm_outb(ForeTestVm *vm, uint16_t port, uint8_t value)
{
    port_out(vm, "outb", port, value);
}

void fore_test_vm_outl(ForeTestVm *vm, uint16_t port, uint32_t value)
{
    port_out(vm, "outl", port, value);
}

/* --- the page --- */

ForePage *fore_test_vm_open_page(const ForeTestVm *vm, const char *uuid)
{
    g_autofree char *path = fore_test_vm_path(vm, "page");
    g_autoptr(GError) error = NULL;
    ForePage *page = fore_page_open(path, uuid, &error);

    g_assert_no_error(error);
    return page;
}

void fore_test_vm_read_until(ForePage *page, bool (*done)(const ForePageSnapshot *, gpointer),
                             gpointer data, ForePageSnapshot *ret)
{
    gint64 deadline_us = g_get_monotonic_time() + TIMEOUT_MS * G_GINT64_CONSTANT(1000);

    memset(ret, 0, sizeof(*ret));
    for (;;) {
        g_autoptr(GError) error = NULL;
        bool ok = fore_page_read(page, ret, &error);

        if (!ok) {
            g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
        } else if (done(ret, data)) {
            return;
        }
        if (g_get_monotonic_time() > deadline_us) {
            g_error("page after %d ms: %s; vCPU 0 has state %u, %" G_GUINT64_FORMAT " insns",
                    TIMEOUT_MS, ok ? "readable" : error->message, ret->vcpu[0].state,
                    ret->vcpu[0].insns);
        }
        g_usleep(1000);
    }
}

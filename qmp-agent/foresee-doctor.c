/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee doctor: looks at this machine, changes nothing, and says what is missing and how to get
 * it. */
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "qmp-agent/foresee-cli.h"

typedef enum { GOOD, MISSING, OPTIONAL } Finding;

typedef struct {
    json_t *rows;
    bool bad;
} Report;

static void row(Report *r, const char *what, Finding finding, const char *said, const char *remedy)
{
    static const char *const names[] = {"ok", "missing", "optional"};

    json_array_append_new(r->rows,
                          json_pack("{s:s,s:s,s:s,s:s}", "what", what, "finding", names[finding],
                                    "detail", said, "remedy", finding == GOOD ? "" : remedy));
    r->bad = r->bad || finding == MISSING;
}

/* First line of what @argv prints; NULL when it cannot be run or fails. */
static char *first_line(const char *const *argv)
{
    g_autoptr(GSubprocess) p = g_subprocess_newv(
        argv, G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_SILENCE, NULL);
    char *text = NULL;

    if (p == NULL || !g_subprocess_communicate_utf8(p, NULL, NULL, &text, NULL, NULL) ||
        !g_subprocess_get_successful(p)) {
        g_free(text);
        return NULL;
    }
    if (strchr(text, '\n') != NULL) {
        *strchr(text, '\n') = '\0';
    }
    return text;
}

/* QEMU names -plugin in its help only when it was built with TCG plugins. */
static bool has_plugins(const char *qemu)
{
    const char *argv[] = {qemu, "-help", NULL};
    g_autoptr(GSubprocess) p = g_subprocess_newv(
        argv, G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_SILENCE, NULL);
    g_autofree char *text = NULL;

    return p != NULL && g_subprocess_communicate_utf8(p, NULL, NULL, &text, NULL, NULL) &&
           text != NULL && strstr(text, "\n-plugin ") != NULL;
}

static void look_at_qemu(Report *r)
{
    const char *from_env = g_getenv("FORESEE_QEMU");
    const char *qemu = from_env != NULL ? from_env : "qemu-system-x86_64";
    const char *argv[] = {qemu, "--version", NULL};
    g_autofree char *version = first_line(argv);
    unsigned major = 0, minor = 0;

    if (version == NULL) {
        row(r, "qemu", MISSING, "qemu-system-x86_64 does not run",
            "apt-get install qemu-system-x86 (Debian 12: from bookworm-backports)");
        return;
    }
    sscanf(version, "QEMU emulator version %u.%u", &major, &minor);
    row(r, "qemu", major >= 10 ? GOOD : MISSING, version,
        "the profiler is built for QEMU 10.0 or later: on Debian 12 take it from "
        "bookworm-backports");
    row(r, "qemu plugins", has_plugins(qemu) ? GOOD : MISSING,
        has_plugins(qemu) ? "-plugin is supported" : "this QEMU was built without TCG plugins",
        "use a QEMU that was configured with --enable-plugins, as Debian's is");
}

static void look_at_file(Report *r, const char *what, const char *path, int mode,
                         Finding when_missing, const char *remedy)
{
    g_autofree char *said = NULL;
    bool ok = access(path, mode) == 0;

    said = g_strdup_printf("%s %s", path, ok ? "is usable" : g_strerror(errno));
    row(r, what, ok ? GOOD : when_missing, said, remedy);
}

static void look_at_program(Report *r, const char *what, const char *name, Finding when_missing,
                            const char *remedy)
{
    g_autofree char *path = g_find_program_in_path(name);
    g_autofree char *said =
        path != NULL ? g_strdup(path) : g_strdup_printf("%s is not in PATH", name);

    row(r, what, path != NULL ? GOOD : when_missing, said, remedy);
}

static void look_at_kernel(Report *r)
{
    struct utsname u;

    uname(&u);
    row(r, "kernel", strcmp(u.sysname, "Linux") == 0 ? GOOD : MISSING, u.release,
        "Foresee runs on Linux hosts");
}

static void look_at_daemon(Report *r, ForeCli *cli)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeClient) client = fore_client_new(cli->socket, NULL, 2000, &error);

    row(r, "foreseed", client != NULL ? GOOD : OPTIONAL,
        client != NULL ? "answers" : error->message,
        "start it with: foreseed --config /etc/foresee/foreseed.conf");
}

static void print(const Report *r)
{
    json_t *f;
    size_t i;

    json_array_foreach (r->rows, i, f) {
        printf("%-14s %-9s %s\n", fore_cli_text(f, "what"), fore_cli_text(f, "finding"),
               fore_cli_text(f, "detail"));
        if (strcmp(fore_cli_text(f, "finding"), "ok") != 0) {
            printf("%-24s -> %s\n", "", fore_cli_text(f, "remedy"));
        }
    }
    printf("%s\n", r->bad ? "Something that Foresee needs is missing." : "Foresee can run here.");
}

int fore_cli_doctor(ForeCli *cli, int argc, char **argv)
{
    Report r = {.rows = json_array()};
    int code;

    if (argc > 1) {
        json_decref(r.rows);
        return fore_cli_usage("doctor takes no argument");
    }
    look_at_kernel(&r);
    look_at_qemu(&r);
    look_at_file(&r, "kvm", "/dev/kvm", R_OK | W_OK, OPTIONAL,
                 "guests run under TCG, much slower; load kvm_intel or kvm_amd, or enable nesting");
    look_at_file(&r, "host tpm", "/dev/tpmrm0", R_OK | W_OK, OPTIONAL,
                 "enable the TPM in the firmware; for tests set tcti to a swtpm (every verdict "
                 "then says so)");
    look_at_program(&r, "swtpm", "swtpm", MISSING,
                    "apt-get install swtpm swtpm-tools: guests need a vTPM");
    look_at_program(&r, "libvirt", "virsh", OPTIONAL,
                    "apt-get install libvirt-daemon-system, if you manage VMs with it");
    look_at_daemon(&r, cli);
    code = r.bad ? CLI_NOT_AFFIRMED : CLI_OK;
    if (cli->json) {
        g_autoptr(json_t) out = json_pack("{s:O,s:b}", "findings", r.rows, "ok", (int)!r.bad);
        fore_cli_print_json(out);
    } else {
        print(&r);
    }
    json_decref(r.rows);
    return code;
}

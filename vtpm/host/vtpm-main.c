/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee-vtpm: see docs/man/foresee-vtpm.8.  A thin shell over fore-vtpm.h and fore-measure.h. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "vtpm/host/fore-measure.h"
#include "vtpm/host/fore-vtpm-config.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_REFUSED = 3, EXIT_EXISTS = 4 };

#define START_MS 30000

static char *opt_config;
static gboolean opt_json, opt_version;

static const GOptionEntry entries[] = {
    {"config", 'c', 0, G_OPTION_ARG_FILENAME, &opt_config,
     "Configuration; /etc/foresee/vtpm.conf when that exists", "FILE"},
    {"json", 'j', 0, G_OPTION_ARG_NONE, &opt_json, "Print JSON", NULL},
    {"version", 0, 0, G_OPTION_ARG_NONE, &opt_version, "Print the version and exit", NULL},
    {NULL},
};

static const char description[] =
    "Commands:\n"
    "  create UUID             make a vTPM for a VM: EK certificate, state encrypted, key sealed\n"
    "  run UUID                run it in the foreground until QEMU ends (for systemd)\n"
    "  start UUID              run it in the background; returns when its socket listens\n"
    "  stop UUID               end it; its state is complete on disk afterwards\n"
    "  args UUID               QEMU arguments that attach it\n"
    "  launch UUID -- QEMU...  measure QEMU and what it loads, start the vTPM, become QEMU\n"
    "  measure UUID -- QEMU... print the rules that a launch of this command line satisfies\n"
    "  list                    vTPMs of this host, libvirt's too\n"
    "  accept UUID             take the state as it is for the newest (after a restore)\n"
    "  reseal UUID             seal its key anew to the PCRs of 'seal-pcrs'\n"
    "  remove UUID             delete state and key: what it kept is gone\n"
    "\n"
    "See foresee-vtpm(8).\n";

static int usage(const char *why)
{
    fprintf(stderr, "foresee-vtpm: %s; see foresee-vtpm --help\n", why);
    return EXIT_USAGE;
}

static int fail(GError *error)
{
    int code = g_error_matches(error, FORE_ERROR, FORE_ERROR_UNTRUSTED) ? EXIT_REFUSED
               : g_error_matches(error, FORE_ERROR, FORE_ERROR_EXISTS)  ? EXIT_EXISTS
                                                                        : EXIT_FAILED;

    fprintf(stderr, "foresee-vtpm: %s\n", error->message);
    g_error_free(error);
    return code;
}

typedef bool (*Step)(const ForeVtpmHost *host, const char *uuid, GError **error);

static int simple(const ForeVtpmHost *host, const char *uuid, Step step, const char *done)
{
    GError *error = NULL;

    if (!step(host, uuid, &error)) {
        return fail(error);
    }
    printf("%s vTPM of VM %s\n", done, uuid);
    return EXIT_OK;
}

static void on_ready(const char *socket, bool adopted, gpointer data)
{
    printf("%s %s\n", adopted ? "took over" : "listening on", socket);
    fflush(stdout);
}

static int run(const ForeVtpmHost *host, const char *uuid)
{
    GError *error = NULL;

    return fore_vtpm_run(host, uuid, on_ready, NULL, &error) ? EXIT_OK : fail(error);
}

/* The child's side of start: errors go to the pipe until it is ready, then nowhere. */
static void on_started(const char *socket, bool adopted, gpointer data)
{
    int *fd = data;

    if (*fd >= 0) {
        (void)!write(*fd, "+", 1);
        close(*fd);
        *fd = -1;
    }
}

static G_GNUC_NORETURN void background(const ForeVtpmHost *host, const char *uuid, int fd)
{
    g_autoptr(GError) error = NULL;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    setsid();
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    /* nothing that QEMU was handed may live on in its vTPM's supervisor */
    fd = dup2(fd, STDERR_FILENO + 1);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    close_range((unsigned)fd + 1, ~0u, 0);
    if (!fore_vtpm_run(host, uuid, on_started, &fd, &error)) {
        if (fd >= 0) {
            g_autofree char *text = g_strdup_printf("%d%s", error->code, error->message);
            (void)!write(fd, text, strlen(text));
        }
        _exit(EXIT_FAILED);
    }
    _exit(EXIT_OK);
}

/* What the child says first: "+", or a code and a message. */
static bool wait_started(int fd, const char *uuid, GError **error)
{
    char text[1024];
    struct pollfd p = {fd, POLLIN, 0};
    ssize_t n = poll(&p, 1, START_MS) > 0 ? read(fd, text, sizeof(text) - 1) : 0;

    if (n == 1 && text[0] == '+') {
        return true;
    }
    text[MAX(n, 0)] = '\0';
    if (n > 1) {
        char *message = NULL;
        gint64 code = g_ascii_strtoll(text, &message, 10);

        g_set_error(error, FORE_ERROR, (int)code, "%s", message);
        return false;
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_TIMEOUT,
                "the vTPM of VM %s did not listen within %d s", uuid, START_MS / 1000);
    return false;
}

static bool start(const ForeVtpmHost *host, const char *uuid, GError **error)
{
    int fds[2];
    pid_t child;
    bool ok;

    if (pipe2(fds, O_CLOEXEC) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "pipe: %s", g_strerror(errno));
        return false;
    }
    child = fork();
    if (child == 0) {
        close(fds[0]);
        background(host, uuid, fds[1]);
    }
    close(fds[1]);
    if (child < 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "fork: %s", g_strerror(errno));
        close(fds[0]);
        return false;
    }
    ok = wait_started(fds[0], uuid, error);
    close(fds[0]);
    return ok;
}

static int print_args(const ForeVtpmHost *host, const char *uuid)
{
    g_autofree char *socket = fore_vtpm_socket(host, uuid);

    printf("-chardev socket,id=foresee-vtpm,path=%s -tpmdev "
           "emulator,id=foresee-tpm0,chardev=foresee-vtpm -device "
           "tpm-crb,tpmdev=foresee-tpm0,ppi=off\n",
           socket);
    return EXIT_OK;
}

static bool record(const ForeVtpmConfig *config, const ForeLaunch *launch, GError **error)
{
    g_autoptr(ForeTpm) tpm = fore_tpm_open(config->tcti, error);

    return tpm != NULL && fore_measure_record(tpm, config->launch_log, launch, error);
}

static int launch(const ForeVtpmConfig *config, const char *uuid, char **argv)
{
    ForeVtpmHost host = fore_vtpm_config_host(config);
    ForeLaunch what;
    uint8_t ek[32];
    GError *error = NULL;
    int binary = -1;

    if (argv[0] != NULL && strcmp(argv[0], "--") == 0) {
        argv++;
    }
    if (argv[0] == NULL) {
        return usage("launch needs a QEMU command line after --");
    }
    if (!fore_vtpm_ek_digest(&host, uuid, ek, &error) ||
        !fore_measure_qemu(argv, uuid, ek, &what, &binary, &error) ||
        !record(config, &what, &error) ||
        (!fore_vtpm_is_running(&host, uuid) && !start(&host, uuid, &error))) {
        return fail(error);
    }
    /* The file that was measured, whatever its name points to by now. */
    fexecve(binary, argv, environ);
    fprintf(stderr, "foresee-vtpm: cannot run %s: %s\n", argv[0], g_strerror(errno));
    return EXIT_FAILED;
}

/* For a reference manifest: foresee-policy(5). */
static int measure(const ForeVtpmConfig *config, const char *uuid, char **argv)
{
    ForeVtpmHost host = fore_vtpm_config_host(config);
    ForeLaunch what;
    uint8_t ek[32];
    GError *error = NULL;
    int binary = -1;

    if (argv[0] != NULL && strcmp(argv[0], "--") == 0) {
        argv++;
    }
    if (argv[0] == NULL) {
        return usage("measure needs a QEMU command line after --");
    }
    if (!fore_vtpm_ek_digest(&host, uuid, ek, &error) ||
        !fore_measure_qemu(argv, uuid, ek, &what, &binary, &error)) {
        return fail(error);
    }
    close(binary);
    for (unsigned part = 0; part < FORE_LAUNCH_VTPM; part++) {
        g_autofree char *hex = fore_hex_encode(what.digest[part], sizeof(what.digest[part]));

        if (what.have >> part & 1u) {
            printf("vm %s launch %s sha256:%s\n", uuid, fore_launch_part_name(part), hex);
        }
    }
    return EXIT_OK;
}

static json_t *info_json(const ForeVtpmInfo *info)
{
    json_t *o = json_pack("{s:s,s:s,s:s}", "uuid", info->uuid, "state",
                          fore_vtpm_state_name(info->state), "path", info->path);

    if (info->state != FORE_VTPM_LIBVIRT) {
        json_object_set_new(o, "changes", json_integer((json_int_t)info->changes));
        json_object_set_new(o, "changed-ms", json_integer(info->changed_ms));
    }
    return o;
}

static void print_info(const ForeVtpmInfo *info)
{
    g_autoptr(GDateTime) when = g_date_time_new_from_unix_utc(info->changed_ms / 1000);
    g_autofree char *text = g_date_time_format(when, "%Y-%m-%d %H:%M:%SZ");

    printf("%-36s  %-8s  %-20s  %s\n", info->uuid, fore_vtpm_state_name(info->state),
           info->state == FORE_VTPM_LIBVIRT ? "-" : text, info->path);
}

static int list(const ForeVtpmConfig *config)
{
    ForeVtpmHost host = fore_vtpm_config_host(config);
    GError *error = NULL;
    g_autoptr(GPtrArray) all = fore_vtpm_list(&host, config->libvirt_dir, &error);
    json_t *array = json_array();

    if (all == NULL) {
        json_decref(array);
        return fail(error);
    }
    if (!opt_json) {
        printf("%-36s  %-8s  %-20s  %s\n", "UUID", "STATE", "CHANGED", "PATH");
    }
    for (guint i = 0; i < all->len; i++) {
        const ForeVtpmInfo *info = g_ptr_array_index(all, i);

        if (opt_json) {
            json_array_append_new(array, info_json(info));
        } else {
            print_info(info);
        }
    }
    if (opt_json) {
        json_dumpf(array, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_decref(array);
    return EXIT_OK;
}

static int dispatch(const ForeVtpmConfig *config, int argc, char **argv)
{
    static const struct {
        const char *name, *done;
        Step step;
    } steps[] = {
        {"create", "created", fore_vtpm_create},  {"stop", "stopped", fore_vtpm_stop},
        {"remove", "removed", fore_vtpm_remove},  {"accept", "accepted", fore_vtpm_accept},
        {"reseal", "resealed", fore_vtpm_reseal}, {"start", "started", start},
    };
    ForeVtpmHost host = fore_vtpm_config_host(config);

    if (strcmp(argv[1], "list") == 0) {
        return argc == 2 ? list(config) : usage("list takes no argument");
    }
    if (argc < 3) {
        return usage("the UUID of the VM is missing");
    }
    if (!fore_uuid_is_valid(argv[2])) {
        fprintf(stderr, "foresee-vtpm: '%s' is no VM UUID: give lower-case 8-4-4-4-12\n", argv[2]);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "launch") == 0) {
        return launch(config, argv[2], argv + 3);
    }
    if (strcmp(argv[1], "measure") == 0) {
        return measure(config, argv[2], argv + 3);
    }
    if (argc > 3) {
        return usage("one UUID at a time");
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
        if (strcmp(argv[1], steps[i].name) == 0) {
            return simple(&host, argv[2], steps[i].step, steps[i].done);
        }
    }
    if (strcmp(argv[1], "run") == 0) {
        return run(&host, argv[2]);
    }
    if (strcmp(argv[1], "args") == 0) {
        return print_args(&host, argv[2]);
    }
    return usage("unknown command");
}

int main(int argc, char **argv)
{
    static const char default_config[] = "/etc/foresee/vtpm.conf";
    g_autoptr(GOptionContext) options = g_option_context_new("COMMAND [UUID]");
    g_autoptr(ForeVtpmConfig) config = NULL;
    GError *error = NULL;

    g_option_context_add_main_entries(options, entries, NULL);
    g_option_context_set_description(options, description);
    g_option_context_set_strict_posix(options, TRUE);
    if (!g_option_context_parse(options, &argc, &argv, &error)) {
        fprintf(stderr, "foresee-vtpm: %s; see foresee-vtpm --help\n", error->message);
        g_error_free(error);
        return EXIT_USAGE;
    }
    if (opt_version) {
        printf("foresee-vtpm " FORE_VERSION "\n");
        return EXIT_OK;
    }
    if (argc < 2) {
        return usage("no command given");
    }
    g_setenv("TSS2_LOG", "all+none", FALSE);
    if (opt_config == NULL && g_file_test(default_config, G_FILE_TEST_EXISTS)) {
        opt_config = g_strdup(default_config);
    }
    config = fore_vtpm_config_load(opt_config, &error);
    return config != NULL ? dispatch(config, argc, argv) : fail(error);
}

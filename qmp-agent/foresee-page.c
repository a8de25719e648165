/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * foresee page: what a VM executes, live.  It reads the profile page itself, with the reader that
 * foreseed uses; foreseed is asked only where the page of a VM is.  On a terminal it redraws one
 * screen (plain ANSI, so it needs no terminal library) and takes the keys q and Ctrl-C; elsewhere
 * it prints one block after another.
 */
#include "qmp-agent/foresee-page.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "profile/fore-phase.h"

#define MIN_INTERVAL_S 0.05
#define MAX_INTERVAL_S 3600.0
#define ENTER_SCREEN   "\033[?1049h\033[?25l"
#define LEAVE_SCREEN   "\033[?25h\033[?1049l"
#define HOME_AND_CLEAR "\033[H\033[J"

typedef struct {
    char *name, *path, *uuid;
    gboolean once, csv, json;
    double interval_s;
    gint64 count; /* readings to show; 0: until interrupted */
    bool live;    /* one screen, redrawn */
    struct termios before;
    ForePage *page;
    ForePageSnapshot *prev, *cur;
    bool has_prev;
    ForePhase phase;
    uint32_t phase_id;
    uint64_t phase_since_ns;
} Viewer;

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = 1;
}

/* --- the page --- */

/* Where foreseed has the page of VM @name.  Returns: exit code */
static int ask_path(ForeCli *cli, Viewer *v)
{
    int code;
    g_autoptr(json_t) ret =
        fore_cli_call(cli, "query-vms", json_pack("{s:s}", "name", v->name), 5000, &code);
    const json_t *vm = json_array_get(json_object_get(ret, "vms"), 0);
    const json_t *page = json_object_get(json_object_get(vm, "sources"), "page");
    const char *path = json_string_value(json_object_get(page, "path"));
    const char *uuid = json_string_value(json_object_get(vm, "uuid"));

    if (ret == NULL) {
        return code;
    }
    if (path == NULL || uuid == NULL) {
        fprintf(stderr, "foresee: foreseed does not say where the page of '%s' is; give --file\n",
                v->name);
        return CLI_FAILED;
    }
    v->path = g_strdup(path);
    v->uuid = g_strdup(uuid);
    return CLI_OK;
}

/* Opens the page when it is not, and reads it into @cur. */
static bool read_page(Viewer *v, GError **error)
{
    if (v->page == NULL) {
        v->page = fore_page_open(v->path, v->uuid, error);
        v->has_prev = false;
    }
    if (v->page == NULL || !fore_page_read(v->page, v->cur, error)) {
        return false;
    }
    return true;
}

/* Instructions by bucket between the two readings, all vCPUs. */
static void step_phase(Viewer *v)
{
    uint64_t insns[FORE_PHASE_BUCKETS] = {0};
    uint64_t valid = v->prev->valid & v->cur->valid;

    G_STATIC_ASSERT(FORE_PHASE_BUCKETS == FORE_PAGE_SIGNATURE);
    if ((valid & FORE_PAGE_HAS_SIGNATURE) == 0 || fore_page_is_reset(v->prev, v->cur)) {
        return;
    }
    for (unsigned i = 0; i < v->cur->n_vcpus; i++) {
        for (unsigned b = 0; b < FORE_PHASE_BUCKETS; b++) {
            insns[b] += v->cur->vcpu[i].signature[b] - v->prev->vcpu[i].signature[b];
        }
    }
    uint32_t id = fore_phase_step(&v->phase, insns);
    if (id != FORE_PHASE_NONE && id != v->phase_id) {
        v->phase_id = id;
        v->phase_since_ns = v->prev->mono_ns;
    }
}

/* --- output --- */

static void window_size(unsigned *rows, unsigned *columns)
{
    struct winsize size;

    *rows = *columns = 0;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) {
        *rows = size.ws_row > 1 ? size.ws_row - 1u : 0;
        *columns = size.ws_col;
    }
}

static void show(Viewer *v, bool first)
{
    ForeCliPage page = {.name = v->name, .prev = v->has_prev ? v->prev : NULL, .cur = v->cur};
    unsigned rows = 0, columns = 0;

    page.has_rates = v->has_prev && fore_page_rates(v->prev, v->cur, &page.all, NULL);
    page.phase = v->phase_id;
    page.phases = fore_phase_count(&v->phase);
    page.phase_age_s =
        v->phase_id != 0 ? (double)(v->cur->mono_ns - v->phase_since_ns) / FORE_NS_PER_S : 0;
    if (v->csv) {
        fore_cli_page_csv(&page, stdout, first);
    } else if (v->json) {
        g_autoptr(json_t) object = fore_cli_page_json(&page);
        json_dumpf(object, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        if (v->live) {
            fputs(HOME_AND_CLEAR, stdout);
            window_size(&rows, &columns);
        } else if (!first) {
            putchar('\n');
        }
        fore_cli_page_text(&page, stdout, rows, columns);
    }
    fflush(stdout);
}

/* What a reading that failed means.  Returns: -1 to go on, else an exit code */
static int on_failure(Viewer *v, const GError *why, bool shown)
{
    if (g_error_matches(why, FORE_ERROR, FORE_ERROR_UNAVAILABLE)) {
        return v->page == NULL ? CLI_FAILED : -1; /* in mid-write: next time */
    }
    if (shown && (g_error_matches(why, FORE_ERROR, FORE_ERROR_CLOSED) ||
                  g_error_matches(why, FORE_ERROR, FORE_ERROR_NOT_FOUND))) {
        /* QEMU was started anew, or will be. */
        g_clear_pointer(&v->page, fore_page_free);
        if (v->live) {
            fputs(HOME_AND_CLEAR, stdout);
            printf("%s: %s\n", v->name, why->message);
            fflush(stdout);
        }
        return -1;
    }
    return CLI_FAILED;
}

/* --- the terminal --- */

static void enter_terminal(Viewer *v)
{
    struct termios raw;

    v->live = !v->csv && !v->json && !v->once && v->count == 0 && isatty(STDOUT_FILENO) &&
              isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &v->before) == 0;
    if (v->live) {
        raw = v->before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
        fputs(ENTER_SCREEN, stdout);
    }
}

static void leave_terminal(Viewer *v)
{
    if (v->live) {
        fputs(LEAVE_SCREEN, stdout);
        fflush(stdout);
        tcsetattr(STDIN_FILENO, TCSANOW, &v->before);
    }
}

/* Waits for the next reading; false: the user wants to leave. */
static bool wait_interval(const Viewer *v)
{
    struct pollfd fd = {.fd = v->live ? STDIN_FILENO : -1, .events = POLLIN};
    gint64 until = g_get_monotonic_time() + (gint64)(v->interval_s * G_USEC_PER_SEC);
    char key;

    while (!interrupted) {
        gint64 left_ms = (until - g_get_monotonic_time() + 999) / 1000;
        if (left_ms <= 0) {
            return true;
        }
        int n = poll(&fd, 1, (int)MIN(left_ms, G_MAXINT));
        if (n > 0 && (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q')) {
            return false;
        }
        if (n < 0 && errno != EINTR) {
            return false;
        }
    }
    return false;
}

/* --- the command --- */

/* Goes on until @count readings with rates were shown, the user leaves, or the page is refused. */
static int run(Viewer *v, GError **error)
{
    gint64 shown = 0;

    do {
        g_autoptr(GError) why = NULL;

        if (!read_page(v, &why)) {
            int code = on_failure(v, why, v->has_prev || shown > 0);
            if (code >= 0) {
                g_propagate_error(error, g_steal_pointer(&why));
                return code;
            }
            continue;
        }
        if (v->has_prev) {
            step_phase(v);
        }
        if (v->has_prev || v->live) {
            show(v, shown == 0);
            shown += v->has_prev ? 1 : 0;
        }
        ForePageSnapshot *swap = v->prev;
        v->prev = v->cur;
        v->cur = swap;
        v->has_prev = true;
    } while ((v->count == 0 || shown < v->count) && wait_interval(v));
    return CLI_OK;
}

static int watch(Viewer *v)
{
    struct sigaction action = {.sa_handler = on_signal};
    g_autoptr(GError) error = NULL;

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    v->prev = g_new0(ForePageSnapshot, 1);
    v->cur = g_new0(ForePageSnapshot, 1);
    fore_phase_init(&v->phase, NULL);
    enter_terminal(v);
    int code = run(v, &error);
    leave_terminal(v);
    if (error != NULL) {
        fprintf(stderr, "foresee: %s\n", error->message);
    }
    fore_page_free(v->page);
    g_free(v->prev);
    g_free(v->cur);
    return code;
}

static int check_arguments(Viewer *v, int argc, char **argv)
{
    if (argc > 2 || (argc == 2) == (v->path != NULL)) {
        return fore_cli_usage("page takes one VM's name, or --file PATH");
    }
    if (v->csv && v->json) {
        return fore_cli_usage("--csv and --json exclude each other");
    }
    if (!(v->interval_s >= MIN_INTERVAL_S && v->interval_s <= MAX_INTERVAL_S)) {
        return fore_cli_usage("--interval %g must be %g to %g seconds", v->interval_s,
                              MIN_INTERVAL_S, MAX_INTERVAL_S);
    }
    if (v->count < 0) {
        return fore_cli_usage("--count %" G_GINT64_FORMAT " must not be below 0", v->count);
    }
    v->count = v->once ? 1 : v->count;
    v->name = g_strdup(argc == 2 ? argv[1] : v->path);
    return CLI_OK;
}

int fore_cli_page(ForeCli *cli, int argc, char **argv)
{
    Viewer v = {.interval_s = 1.0, .json = cli->json};
    const GOptionEntry entries[] = {
        {"file", 'f', 0, G_OPTION_ARG_FILENAME, &v.path, "Page to read, without foreseed", "PATH"},
        {"once", '1', 0, G_OPTION_ARG_NONE, &v.once, "Show one interval and end", NULL},
        {"count", 'n', 0, G_OPTION_ARG_INT64, &v.count, "Show N intervals and end", "N"},
        {"interval", 'i', 0, G_OPTION_ARG_DOUBLE, &v.interval_s, "Seconds between readings (1)",
         "S"},
        {"csv", 0, 0, G_OPTION_ARG_NONE, &v.csv, "Print CSV, a line a vCPU", NULL},
        {"json", 'j', 0, G_OPTION_ARG_NONE, &v.json, "Print JSON, an object a line", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) options = g_option_context_new("[NAME]");
    g_autoptr(GError) error = NULL;
    int code;

    g_option_context_add_main_entries(options, entries, NULL);
    if (!g_option_context_parse(options, &argc, &argv, &error)) {
        code = fore_cli_usage("page: %s", error->message);
    } else {
        code = check_arguments(&v, argc, argv);
    }
    if (code == CLI_OK && v.path == NULL) {
        code = ask_path(cli, &v);
    }
    if (code == CLI_OK) {
        code = watch(&v);
    }
    g_free(v.name);
    g_free(v.path);
    g_free(v.uuid);
    return code;
}

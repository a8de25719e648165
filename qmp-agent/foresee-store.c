/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * foresee store: the history of foreseed, or of a file (--db).  For a file a program of its own is
 * started, which opens it and speaks the same commands: this one is not linked to SQLCipher.
 */
#include "qmp-agent/foresee-store.h"

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fore-error.h"

#define POLL_US    100000
#define BAR        30
#define TIMEOUT_MS (600 * 1000)

json_t *fore_store_cli_call(ForeStoreCli *s, const char *command, json_t *arguments)
{
    g_autoptr(GError) error = NULL;
    json_t *ret = fore_client_call(s->client, command, arguments, TIMEOUT_MS, &error);

    if (ret == NULL) {
        fprintf(stderr, "foresee: %s\n", error->message);
    }
    return ret;
}

void fore_store_cli_bar(const char *what, double progress, bool done)
{
    unsigned filled = (unsigned)(BAR * CLAMP(progress, 0, 1));
    g_autofree char *full = g_strnfill(filled, '#');
    g_autofree char *open = g_strnfill(BAR - filled, '.');

    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r%s [%s%s] %3.0f %%\x1b[K%s", what, full, open, 100 * progress,
                done ? "\n" : "");
    }
}

/* --- a file --- */

static char *find_program(void)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *dir = g_path_get_dirname(self != NULL ? self : "/");
    g_autofree char *beside = g_build_filename(dir, "foresee-store", NULL);
    g_autofree char *libexec =
        g_build_filename(dir, "..", "libexec", "foresee", "foresee-store", NULL);

    return g_file_test(beside, G_FILE_TEST_IS_EXECUTABLE) ? g_steal_pointer(&beside)
           : g_file_test(libexec, G_FILE_TEST_IS_EXECUTABLE)
               ? g_steal_pointer(&libexec)
               : g_find_program_in_path("foresee-store");
}

static GSubprocess *start_program(ForeStoreCli *s, const char *address, GError **error)
{
    g_autofree char *program = find_program();
    g_autoptr(GPtrArray) argv = g_ptr_array_new();

    if (program == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "--db needs the program foresee-store beside this one; install it");
        return NULL;
    }
    g_ptr_array_add(argv, program);
    g_ptr_array_add(argv, (char *)"--db");
    g_ptr_array_add(argv, s->db);
    g_ptr_array_add(argv, (char *)"--listen");
    g_ptr_array_add(argv, (char *)address);
    if (s->config != NULL) {
        g_ptr_array_add(argv, (char *)"--config");
        g_ptr_array_add(argv, s->config);
    }
    if (s->key_file != NULL) {
        g_ptr_array_add(argv, (char *)"--key-file");
        g_ptr_array_add(argv, s->key_file);
    }
    if (s->create) {
        g_ptr_array_add(argv, (char *)"--create");
    }
    g_ptr_array_add(argv, NULL);
    return g_subprocess_newv((const char *const *)argv->pdata, G_SUBPROCESS_FLAGS_STDOUT_PIPE,
                             error);
}

/* What it says on stderr before it ends reaches the user as it is. */
static bool wait_until_ready(GSubprocess *process)
{
    char line[16] = "";

    return g_input_stream_read(g_subprocess_get_stdout_pipe(process), line, sizeof(line) - 1, NULL,
                               NULL) > 0;
}

typedef int (*Run)(ForeStoreCli *s, char **files);

static int run_on_file(ForeStoreCli *s, Run run, char **files)
{
    g_autofree char *dir = g_dir_make_tmp("foresee-XXXXXX", NULL);
    g_autofree char *path = dir != NULL ? g_build_filename(dir, "store.sock", NULL) : NULL;
    g_autofree char *address = g_strconcat("unix:", path, NULL);
    g_autoptr(GSubprocess) process = NULL;
    g_autoptr(GError) error = NULL;
    int code = CLI_FAILED;

    if (dir == NULL) {
        return fore_cli_usage("no folder for temporary files; set TMPDIR");
    }
    process = start_program(s, address, &error);
    if (process == NULL) {
        fprintf(stderr, "foresee: %s\n", error->message);
    } else if (wait_until_ready(process)) {
        s->client = fore_client_new(address, NULL, TIMEOUT_MS, NULL);
        code = s->client != NULL ? run(s, files) : CLI_FAILED;
        g_clear_pointer(&s->client, fore_client_free);
        (void)g_subprocess_wait(process, NULL, NULL); /* it flushes and closes the file */
        if (!g_subprocess_get_successful(process) && code == CLI_OK) {
            code = CLI_FAILED;
        }
    }
    (void)g_unlink(path);
    (void)g_rmdir(dir);
    return code;
}

/* --- commands --- */

static void print_size(const char *what, const json_t *object, const char *key)
{
    g_autofree char *text = fore_cli_size(fore_cli_number(object, key));

    printf("%-14s %s\n", what, text);
}

static int run_stats(ForeStoreCli *s, char **files)
{
    g_autoptr(json_t) ret = fore_store_cli_call(s, "query-store", NULL);
    g_autoptr(json_t) series =
        ret != NULL ? fore_store_cli_call(s, "query-store-series",
                                          s->vm != NULL ? json_pack("{s:s}", "vm", s->vm) : NULL)
                    : NULL;
    json_t *row;
    size_t i;

    if (series == NULL) {
        return CLI_FAILED;
    }
    if (s->cli->json) {
        json_object_update(ret, series);
        fore_cli_print_json(ret);
        return CLI_OK;
    }
    printf("%-14s %s%s\n", "disk", json_is_true(json_object_get(ret, "ok")) ? "ok" : "AWAY: ",
           fore_cli_text(ret, "reason"));
    printf("%-14s %.0f in %.0f chunks\n", "samples", fore_cli_number(ret, "samples"),
           fore_cli_number(ret, "chunks"));
    print_size("size", ret, "bytes");
    json_array_foreach (json_object_get(ret, "tiers"), i, row) {
        g_autofree char *size = fore_cli_size(fore_cli_number(row, "bytes"));

        if (fore_cli_number(row, "width-s") > 0) {
            printf("tier %-7.0f s %.0f points, %s\n", fore_cli_number(row, "width-s"),
                   fore_cli_number(row, "points"), size);
        } else {
            printf("%-14s %.0f values, %s\n", "other series", fore_cli_number(row, "points"), size);
        }
    }
    printf("%-14s %.0f, lost %.0f\n", "quarantined", fore_cli_number(ret, "quarantined"),
           fore_cli_number(ret, "lost-samples"));
    printf("\n%-20s %-10s %-20s %10s %12s %12s %12s\n", "VM", "SOURCE", "METRIC", "SAMPLES", "MIN",
           "MEAN", "MAX");
    json_array_foreach (json_object_get(series, "series"), i, row) {
        printf("%-20s %-10s %-20s %10.0f %12.6g %12.6g %12.6g\n", fore_cli_text(row, "vm"),
               fore_cli_text(row, "source"), fore_cli_text(row, "metric"),
               fore_cli_number(row, "samples"), fore_cli_number(row, "min"),
               fore_cli_number(row, "mean"), fore_cli_number(row, "max"));
    }
    return CLI_OK;
}

static int follow_job(ForeStoreCli *s, const char *what)
{
    for (;;) {
        g_autoptr(json_t) job = fore_store_cli_call(s, "query-store-job", NULL);
        bool running = json_is_true(json_object_get(job, "running"));

        if (job == NULL) {
            return CLI_FAILED;
        }
        fore_store_cli_bar(what, fore_cli_number(job, "progress"), !running);
        if (running) {
            g_usleep(POLL_US);
            continue;
        }
        if (s->cli->json) {
            fore_cli_print_json(job);
        } else {
            fprintf(json_is_true(json_object_get(job, "ok")) ? stdout : stderr, "%s\n",
                    fore_cli_text(job, "text"));
        }
        return json_is_true(json_object_get(job, "ok")) ? CLI_OK : CLI_FAILED;
    }
}

static int start_job(ForeStoreCli *s, const char *what, const char *command, json_t *arguments)
{
    g_autoptr(json_t) ret = fore_store_cli_call(s, command, arguments);

    return ret != NULL ? follow_job(s, what) : CLI_FAILED;
}

static int run_verify(ForeStoreCli *s, char **files)
{
    return start_job(s, "verify", "store-verify", json_pack("{s:b}", "full", (int)s->full));
}

static int run_vacuum(ForeStoreCli *s, char **files)
{
    return start_job(s, "vacuum", "store-vacuum", json_pack("{s:b}", "expire", (int)s->expire));
}

static int run_rekey(ForeStoreCli *s, char **files)
{
    return start_job(s, "rekey", "store-rekey", NULL);
}

static int run_export(ForeStoreCli *s, char **files)
{
    return fore_store_cli_export(s);
}

static const struct {
    const char *name;
    Run run;
    int files; /* -1: one or more */
} commands[] = {
    {"stats", run_stats, 0}, {"verify", run_verify, 0}, {"vacuum", run_vacuum, 0},
    {"rekey", run_rekey, 0}, {"export", run_export, 0}, {"import", fore_store_cli_import, -1},
};

static const char summary[] =
    "Commands:\n"
    "  stats [--vm VM]                 what there is: samples, tiers, series, damage\n"
    "  verify [--full]                 read and decode every chunk; --full also every page (--db)\n"
    "  vacuum [--expire]               give free pages back; --expire first drops what is too old\n"
    "  rekey                           a new random key, wrapped anew, without stopping\n"
    "  export --vm VM [--source S] [--metric M] [--tier raw|1|2] [--from T] [--to T] [-o FILE]\n"
    "  import [--vm VM] [--source S] [--format csv|prometheus] FILE...   (.gz too)\n"
    "\nWithout --db the commands go to foreseed.  See foresee(1).\n";

static int run_command(ForeStoreCli *s, int argc, char **argv)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        int files = argc - 2, code;

        if (strcmp(argv[1], commands[i].name) != 0) {
            continue;
        }
        if (commands[i].files < 0 ? files < 1 : files != commands[i].files) {
            return fore_cli_usage("store %s takes %s", argv[1],
                                  commands[i].files < 0 ? "one file or more" : "no argument");
        }
        signal(SIGPIPE, SIG_IGN);
        s->create = commands[i].run == fore_store_cli_import;
        if (s->db != NULL) {
            return run_on_file(s, commands[i].run, argv + 2);
        }
        s->client = fore_cli_connect(s->cli);
        if (s->client == NULL) {
            return CLI_UNREACHABLE;
        }
        code = commands[i].run(s, argv + 2);
        g_clear_pointer(&s->client, fore_client_free);
        return code;
    }
    return fore_cli_usage("unknown command 'store %s'", argv[1]);
}

static void done(ForeStoreCli *s)
{
    char *texts[] = {s->db,     s->config, s->key_file, s->vm, s->vm_label, s->source,
                     s->metric, s->tier,   s->from,     s->to, s->out,      s->format};

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_free(texts[i]);
    }
}

int fore_cli_store(ForeCli *cli, int argc, char **argv)
{
    ForeStoreCli s = {.cli = cli};
    const GOptionEntry entries[] = {
        {"db", 0, 0, G_OPTION_ARG_FILENAME, &s.db, "A file instead of foreseed's", "FILE"},
        {"config", 0, 0, G_OPTION_ARG_FILENAME, &s.config, "Where its key is kept", "FILE"},
        {"key-file", 0, 0, G_OPTION_ARG_FILENAME, &s.key_file, "Its key, in hex", "FILE"},
        {"vm", 0, 0, G_OPTION_ARG_STRING, &s.vm, "VM of the series", "VM"},
        {"vm-label", 0, 0, G_OPTION_ARG_STRING, &s.vm_label,
         "Prometheus label that names the VM (default domain)", "LABEL"},
        {"source", 0, 0, G_OPTION_ARG_STRING, &s.source, "Source of the series", "SOURCE"},
        {"metric", 0, 0, G_OPTION_ARG_STRING, &s.metric, "Metric of the series", "METRIC"},
        {"tier", 0, 0, G_OPTION_ARG_STRING, &s.tier, "raw, 1 (10 s) or 2 (5 min)", "TIER"},
        {"from", 0, 0, G_OPTION_ARG_STRING, &s.from, "From then on: ISO 8601 or seconds", "TIME"},
        {"to", 0, 0, G_OPTION_ARG_STRING, &s.to, "Until then", "TIME"},
        {"output", 'o', 0, G_OPTION_ARG_FILENAME, &s.out, "Where to write", "FILE"},
        {"format", 0, 0, G_OPTION_ARG_STRING, &s.format, "csv or prometheus", "FORMAT"},
        {"full", 0, 0, G_OPTION_ARG_NONE, &s.full, "Verify every page as well", NULL},
        {"expire", 0, 0, G_OPTION_ARG_NONE, &s.expire, "Drop what is too old first", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("COMMAND");
    g_autoptr(GError) error = NULL;
    int code;

    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_description(context, summary);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        code = fore_cli_usage("%s", error->message);
    } else if (argc < 2) {
        code =
            fore_cli_usage("store needs a command: stats, verify, vacuum, rekey, export, import");
    } else {
        code = run_command(&s, argc, argv);
    }
    done(&s);
    return code;
}

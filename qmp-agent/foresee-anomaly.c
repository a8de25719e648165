/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee anomaly score: score files or a stream, a line at a time. */
#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "profile/fore-detect.h"
#include "profile/fore-series-csv.h"
#include "qmp-agent/foresee-cli.h"

typedef struct {
    gboolean explain;
    char *in, *out, *dir, *out_dir;
} Options;

static bool io_failed(const char *name, const char *what, GError **error)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED, "cannot %s %s: %s", what, name,
                g_strerror(errno));
    return false;
}

/* One line without its end.  Returns: 1; 0 at the end of the file; -1 with @error */
static int next_line(FILE *in, char line[FORE_SERIES_LINE_MAX + 3], GError **error)
{
    size_t len;

    errno = 0;
    if (fgets(line, FORE_SERIES_LINE_MAX + 3, in) == NULL) {
        if (ferror(in)) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED, "cannot read: %s", g_strerror(errno));
            return -1;
        }
        return 0;
    }
    len = strcspn(line, "\n");
    if (line[len] == '\0' && (len > FORE_SERIES_LINE_MAX || !feof(in))) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "a line is longer than %d bytes, or holds a zero byte", FORE_SERIES_LINE_MAX);
        return -1;
    }
    line[len] = '\0';
    if (len > 0 && line[len - 1] == '\r') {
        line[len - 1] = '\0';
    }
    return 1;
}

static void write_line(const ForeSeriesLine *l, double score, const ForeDetect *d, const Options *o,
                       FILE *out)
{
    char reason[200] = "";

    fprintf(out, "%.*s,%.*s,%.8f", (int)l->stamp_len, l->stamp, (int)l->text_len, l->text, score);
    if (o->explain) {
        if (score >= FORE_DETECT_ALARM) {
            fore_detect_reason(d, "value", reason, sizeof reason);
        }
        fprintf(out, ",\"%s\"", reason);
    }
    fputc('\n', out);
}

/* Each line is written before the next is asked for. */
static bool score_stream(FILE *in, FILE *out, const Options *o, GError **error)
{
    g_autoptr(ForeDetect) d = fore_detect_new();
    char line[FORE_SERIES_LINE_MAX + 3];
    struct stat st;
    bool live = fstat(fileno(in), &st) != 0 || !S_ISREG(st.st_mode);
    unsigned long number = 0;
    int more;

    while ((more = next_line(in, line, error)) > 0) {
        ForeSeriesLine l;
        number++;
        if (number == 1) {
            if (!fore_series_head_check(line, error)) {
                break;
            }
            fprintf(out, "timestamp,value,anomaly_score%s\n", o->explain ? ",reason" : "");
        } else if (line[0] != '\0') {
            if (!fore_series_line_parse(line, &l, error)) {
                break;
            }
            write_line(&l, fore_detect_score(d, l.time_s, l.value), d, o, out);
        }
        if (live) {
            fflush(out);
        }
        if (ferror(out)) {
            return io_failed("the scores", "write", error);
        }
    }
    if (more == 0 && number == 0) {
        return fore_series_head_check("", error);
    }
    if (more != 0) {
        g_prefix_error(error, "line %lu: ", more < 0 ? number + 1 : number);
    }
    return more == 0;
}

/* Would writing to @name truncate what is being read? */
static bool same_file(FILE *in, const char *name)
{
    struct stat a, b;

    return fstat(fileno(in), &a) == 0 && stat(name, &b) == 0 && S_ISREG(b.st_mode) &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* "-" is standard input or output */
static bool score_file(const char *in_name, const char *out_name, const Options *o, GError **error)
{
    bool from_stdin = strcmp(in_name, "-") == 0, to_stdout = strcmp(out_name, "-") == 0, ok;
    FILE *in = from_stdin ? stdin : g_fopen(in_name, "re"), *out;

    if (in == NULL) {
        return io_failed(in_name, "read", error);
    }
    if (!to_stdout && same_file(in, out_name)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "%s is the input; name another file for the scores", out_name);
        if (!from_stdin) {
            fclose(in);
        }
        return false;
    }
    out = to_stdout ? stdout : g_fopen(out_name, "we");
    if (out == NULL) {
        io_failed(out_name, "write", error);
        if (!from_stdin) {
            fclose(in);
        }
        return false;
    }
    ok = score_stream(in, out, o, error);
    if (!ok) {
        g_prefix_error(error, "%s: ", from_stdin ? "standard input" : in_name);
    }
    if (!from_stdin) {
        fclose(in);
    }
    if ((to_stdout ? fflush(out) : fclose(out)) != 0 && ok) {
        return io_failed(to_stdout ? "standard output" : out_name, "write", error);
    }
    return ok;
}

/* --- a whole corpus --- */

#define DEPTH_MAX 8 /* folders below --dir */

typedef struct {
    const Options *options;
    unsigned done, failed;
} Corpus;

static void score_member(const char *in, const char *out, Corpus *corpus)
{
    g_autoptr(GError) error = NULL;

    if (score_file(in, out, corpus->options, &error)) {
        corpus->done++;
    } else {
        corpus->failed++;
        fprintf(stderr, "foresee: %s\n", error->message);
    }
}

/* Every *.csv below @in to the same place below @out; links are not followed. */
static bool score_dir(const char *in, const char *out, unsigned depth, Corpus *corpus,
                      GError **error)
{
    g_autoptr(GDir) dir = g_dir_open(in, 0, error);
    const char *name;

    if (dir == NULL) {
        return false;
    }
    if (depth > DEPTH_MAX) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT, "%s lies more than %d folders deep", in,
                    DEPTH_MAX);
        return false;
    }
    if (g_mkdir_with_parents(out, 0777) != 0) {
        return io_failed(out, "create", error);
    }
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *from = g_build_filename(in, name, NULL);
        g_autofree char *to = g_build_filename(out, name, NULL);
        struct stat st;
        if (lstat(from, &st) != 0) {
            return io_failed(from, "look at", error);
        }
        if (S_ISREG(st.st_mode) && g_str_has_suffix(name, ".csv")) {
            score_member(from, to, corpus);
        } else if (S_ISDIR(st.st_mode) && !score_dir(from, to, depth + 1, corpus, error)) {
            return false;
        }
    }
    return true;
}

static int run_dir(const Options *o)
{
    Corpus corpus = {o, 0, 0};
    g_autoptr(GError) error = NULL;
    g_autofree char *in = g_canonicalize_filename(o->dir, NULL);
    g_autofree char *out = g_canonicalize_filename(o->out_dir, NULL);
    g_autofree char *inside = g_strconcat(in, G_DIR_SEPARATOR_S, NULL);

    if (strcmp(in, out) == 0 || g_str_has_prefix(out, inside)) {
        return fore_cli_usage("--out-dir lies inside --dir; name a folder outside of it");
    }
    if (!score_dir(in, out, 0, &corpus, &error)) {
        fprintf(stderr, "foresee: %s\n", error->message);
        return CLI_FAILED;
    }
    fprintf(stderr, "%u files scored, %u failed\n", corpus.done, corpus.failed);
    if (corpus.done + corpus.failed == 0) {
        fprintf(stderr, "foresee: no *.csv below %s\n", o->dir);
    }
    return corpus.done > 0 && corpus.failed == 0 ? CLI_OK : CLI_FAILED;
}

/* --- the command --- */

static int run_score(int argc, char **argv)
{
    Options o = {0};
    const GOptionEntry entries[] = {
        {"in", 0, 0, G_OPTION_ARG_FILENAME, &o.in,
         "timestamp,value lines under that head; - is standard input", "FILE"},
        {"out", 0, 0, G_OPTION_ARG_FILENAME, &o.out,
         "timestamp,value,anomaly_score; - is standard output (the default)", "FILE"},
        {"dir", 0, 0, G_OPTION_ARG_FILENAME, &o.dir, "Score every *.csv below DIR", "DIR"},
        {"out-dir", 0, 0, G_OPTION_ARG_FILENAME, &o.out_dir, "and write them below this one",
         "DIR"},
        {"explain", 0, 0, G_OPTION_ARG_NONE, &o.explain,
         "Add a column 'reason': in words, where the score is an alarm", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("score - score a series as a stream");
    g_autoptr(GError) error = NULL;
    int code = CLI_OK;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        code = fore_cli_usage("%s", error->message);
    } else if (argc > 1) {
        code = fore_cli_usage("anomaly score takes no argument '%s'", argv[1]);
    } else if ((o.dir != NULL) == (o.in != NULL) || (o.dir != NULL) != (o.out_dir != NULL) ||
               (o.dir != NULL && o.out != NULL)) {
        code = fore_cli_usage("anomaly score takes --in FILE [--out FILE], or --dir and --out-dir");
    } else if (o.dir != NULL) {
        code = run_dir(&o);
    } else if (!score_file(o.in, o.out != NULL ? o.out : "-", &o, &error)) {
        fprintf(stderr, "foresee: %s\n", error->message);
        code = CLI_FAILED;
    }
    g_free(o.in);
    g_free(o.out);
    g_free(o.dir);
    g_free(o.out_dir);
    return code;
}

int fore_cli_anomaly(ForeCli *cli, int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "score") == 0) {
        return run_score(argc - 1, argv + 1);
    }
    if (argc >= 2 && strcmp(argv[1], "list") == 0) {
        return fore_cli_anomaly_list(cli, argc - 1, argv + 1);
    }
    return fore_cli_usage("it is 'anomaly score --in FILE.csv --out FILE.csv' or 'anomaly list'");
}

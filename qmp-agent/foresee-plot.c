/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * foresee plot: a picture of a VM's last minutes, or of a file of numbers.  A file is forecast here
 * by the classical members of the mixture, which learn as they go and need no weights; each
 * forecast knows only the lines before it.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/fore-error.h"
#include "forecast/fore-mixture.h"
#include "profile/fore-series-csv.h"
#include "qmp-agent/fore-plot.h"
#include "qmp-agent/foresee-cli.h"
#include "qmp-agent/foresee-split.h"

#define FILE_MAX (64u << 20) /* bytes */
#define WINDOW   288         /* errors that each member remembers */
#define MARK     0.5         /* anomaly scores from here on are marked */

typedef struct {
    GArray *time_s, *actual, *low, *mid, *high, *anomaly; /* of double */
} Points;

static void points_init(Points *pts)
{
    pts->time_s = g_array_new(FALSE, FALSE, sizeof(double));
    pts->actual = g_array_new(FALSE, FALSE, sizeof(double));
    pts->low = g_array_new(FALSE, FALSE, sizeof(double));
    pts->mid = g_array_new(FALSE, FALSE, sizeof(double));
    pts->high = g_array_new(FALSE, FALSE, sizeof(double));
    pts->anomaly = g_array_new(FALSE, FALSE, sizeof(double));
}

static void points_done(Points *pts)
{
    g_array_unref(pts->time_s);
    g_array_unref(pts->actual);
    g_array_unref(pts->low);
    g_array_unref(pts->mid);
    g_array_unref(pts->high);
    g_array_unref(pts->anomaly);
}

static const double *values(const GArray *a)
{
    return (const double *)(gconstpointer)a->data;
}

static bool draw(const Points *pts, const char *title, const char *unit, const char *ahead,
                 const char *path, GError **error)
{
    ForePlot plot = {.title = title,
                     .unit = unit,
                     .ahead = ahead,
                     .n = pts->time_s->len,
                     .time_s = values(pts->time_s),
                     .actual = values(pts->actual),
                     .low = values(pts->low),
                     .mid = values(pts->mid),
                     .high = values(pts->high),
                     .anomaly = pts->anomaly->len > 0 ? values(pts->anomaly) : NULL,
                     .anomaly_from = MARK};
    g_autofree char *svg = NULL;

    if (plot.n < 2 || plot.n > FORE_PLOT_MAX) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "%s: %zu points; a picture needs 2 to %d", title, plot.n, FORE_PLOT_MAX);
        return false;
    }
    svg = fore_plot_svg(&plot);
    if (path != NULL) {
        return g_file_set_contents(path, svg, -1, error);
    }
    fputs(svg, stdout);
    return true;
}

/* --- a file --- */

/* The third cell of a line is a score, as `foresee anomaly score` writes it; NAN when there is none
 */
static double score_of(const ForeSeriesLine *line)
{
    const char *rest = line->text + line->text_len;
    char *end = NULL;
    double v;

    if (*rest != ',') {
        return NAN;
    }
    v = g_ascii_strtod(rest + 1, &end);
    return end != rest + 1 && v >= 0.0 && v <= 1.0 ? v : (double)NAN;
}

static bool add_line(Points *pts, char *line, unsigned number, bool scored, GError **error)
{
    ForeSeriesLine l;
    double score, before = pts->time_s->len > 0
                               ? g_array_index(pts->time_s, double, pts->time_s->len - 1)
                               : -INFINITY;

    if (!fore_series_line_parse(line, &l, error)) {
        g_prefix_error(error, "line %u: ", number);
        return false;
    }
    if (!(l.time_s > before)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "line %u: its time is not after that of the line before; sort the file",
                    number);
        return false;
    }
    g_array_append_val(pts->time_s, l.time_s);
    g_array_append_val(pts->actual, l.value);
    if (scored) {
        score = score_of(&l);
        g_array_append_val(pts->anomaly, score);
    }
    return true;
}

static bool read_file(const char *path, Points *pts, GError **error)
{
    g_autoptr(GBytes) bytes = fore_cli_file_read(path, FILE_MAX, error);
    g_auto(GStrv) lines = NULL;
    g_autofree char *text = NULL;
    bool scored;

    if (bytes == NULL) {
        return false;
    }
    text = g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    lines = g_strsplit(text, "\n", FORE_PLOT_MAX + 3);
    if (lines[0] == NULL || !fore_series_head_check(g_strchomp(lines[0]), error)) {
        return false;
    }
    scored = strstr(lines[0], "anomaly_score") != NULL;
    for (unsigned i = 1; lines[i] != NULL; i++) {
        g_strchomp(lines[i]);
        if (lines[i][0] == '\0') {
            continue;
        }
        if (pts->time_s->len == FORE_PLOT_MAX) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT, "more than %d lines; cut the file",
                        FORE_PLOT_MAX);
            return false;
        }
        if (strlen(lines[i]) > FORE_SERIES_LINE_MAX) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "line %u is too long", i + 1);
            return false;
        }
        if (!add_line(pts, lines[i], i + 1, scored, error)) {
            return false;
        }
    }
    return true;
}

static int by_value(gconstpointer a, gconstpointer b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* The usual distance of two lines, whole seconds, 1..86400. */
static uint32_t usual_step(const Points *pts)
{
    g_autoptr(GArray) steps = g_array_new(FALSE, FALSE, sizeof(double));

    for (guint i = 1; i < pts->time_s->len; i++) {
        double d =
            g_array_index(pts->time_s, double, i) - g_array_index(pts->time_s, double, i - 1);

        g_array_append_val(steps, d);
    }
    g_array_sort(steps, by_value);
    return steps->len == 0
               ? 1
               : (uint32_t)CLAMP(round(g_array_index(steps, double, steps->len / 2)), 1, 86400);
}

/* Fills the band of each point; lines that are missing are steps without a value. */
static void forecast_file(Points *pts, uint32_t step_s, unsigned ahead)
{
    ForeMixtureConfig config = {.metrics = 1};
    g_autoptr(ForeMixture) mixture = NULL;
    double issued[FORE_SERIES_MAX_LAG + 1][3];
    unsigned size = FORE_SERIES_MAX_LAG + 1;
    uint64_t n = 0;

    config.series = (ForeSeriesConfig){.n_target = 1,
                                       .n_level = 3,
                                       .target = {{.lag = ahead}},
                                       .level = {0.05, 0.5, 0.95},
                                       .step_s = step_s,
                                       .window = WINDOW};
    config.series.epoch_s = (int64_t)g_array_index(pts->time_s, double, 0);
    mixture = fore_mixture_new(&config, NULL);
    for (guint i = 0; i < pts->time_s->len; i++) {
        double gap = i == 0 ? 0.0
                            : g_array_index(pts->time_s, double, i) -
                                  g_array_index(pts->time_s, double, i - 1);
        double missing = CLAMP(round(gap / step_s) - 1.0, 0.0, 4096.0);
        double nothing = NAN, *q = &nothing;

        for (unsigned k = 0; k <= (unsigned)missing; k++) {
            double value[FORE_SERIES_METRICS] = {NAN, NAN, NAN, NAN};
            double ret[FORE_SERIES_METRICS][1][3];

            q = n >= ahead ? issued[(n + size - ahead) % size] : NULL;
            value[0] = k == (unsigned)missing ? g_array_index(pts->actual, double, i) : (double)NAN;
            if (k == (unsigned)missing) {
                g_array_append_val(pts->low, *(q != NULL ? &q[0] : &nothing));
                g_array_append_val(pts->mid, *(q != NULL ? &q[1] : &nothing));
                g_array_append_val(pts->high, *(q != NULL ? &q[2] : &nothing));
            }
            fore_mixture_step(mixture, value, NULL, &ret[0][0][0]);
            memcpy(issued[n % size], ret[0][0], sizeof(issued[0]));
            n++;
        }
    }
}

/* "1800" as "30 min" */
static char *duration_text(unsigned seconds)
{
    if (seconds % 3600 == 0) {
        return g_strdup_printf("%u h ahead", seconds / 3600);
    }
    return seconds % 60 == 0 ? g_strdup_printf("%u min ahead", seconds / 60)
                             : g_strdup_printf("%u s ahead", seconds);
}

static int plot_file(const char *path, unsigned ahead, const char *out)
{
    g_autofree char *name = g_path_get_basename(path), *what = NULL;
    g_autoptr(GError) error = NULL;
    uint32_t step_s;
    Points pts;
    bool ok;

    points_init(&pts);
    ok = read_file(path, &pts, &error);
    if (ok && pts.time_s->len >= 2) {
        step_s = usual_step(&pts);
        forecast_file(&pts, step_s, ahead);
        what = duration_text(ahead * step_s);
    }
    ok = ok && draw(&pts, name, "value", what != NULL ? what : "", out, &error);
    points_done(&pts);
    if (!ok) {
        fprintf(stderr, "foresee: %s: %s\n", path, error->message);
    }
    return ok ? CLI_OK : CLI_FAILED;
}

/* --- a VM --- */

static void take_list(const json_t *ret, const char *key, double factor, GArray *to)
{
    json_t *cell;
    size_t i;

    json_array_foreach (json_object_get(ret, key), i, cell) {
        double v = json_is_number(cell) ? factor * json_number_value(cell) : (double)NAN;

        g_array_append_val(to, v);
    }
}

/* The highest score of the anomalies that each point lies in. */
static void take_anomalies(const json_t *ret, Points *pts)
{
    json_t *a;
    size_t k;

    for (guint i = 0; i < pts->time_s->len; i++) {
        double score = NAN, ms = 1000.0 * g_array_index(pts->time_s, double, i);

        json_array_foreach (json_object_get(ret, "anomalies"), k, a) {
            if (ms >= fore_cli_number(a, "from-ms") && ms <= fore_cli_number(a, "to-ms")) {
                score = fmax(score, fore_cli_number(a, "score"));
            }
        }
        g_array_append_val(pts->anomaly, score);
    }
}

static int plot_vm(ForeCli *cli, const char *name, const char *resource, unsigned ahead, int last,
                   const char *out)
{
    json_t *arguments = json_pack("{s:s,s:i,s:s,s:i}", "name", name, "ahead", (int)ahead,
                                  "resource", resource, "seconds", last);
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) ret = NULL;
    g_autofree char *title = NULL, *what = NULL;
    Points pts;
    int code;
    bool ok;

    ret = fore_cli_call(cli, "query-history", arguments, 20000, &code);
    if (ret == NULL) {
        return code;
    }
    points_init(&pts);
    take_list(ret, "time-ms", 1e-3, pts.time_s);
    take_list(ret, "actual", 1.0, pts.actual);
    take_list(ret, "low", 1.0, pts.low);
    take_list(ret, "median", 1.0, pts.mid);
    take_list(ret, "high", 1.0, pts.high);
    take_anomalies(ret, &pts);
    title = g_strdup_printf("%s, demand for %s", name,
                            strcmp(resource, "mem") == 0 ? "memory" : "vCPUs");
    what = g_strdup_printf("%u s ahead", ahead);
    ok = pts.actual->len == pts.time_s->len && pts.low->len == pts.time_s->len &&
         pts.mid->len == pts.time_s->len && pts.high->len == pts.time_s->len;
    if (!ok) {
        g_set_error(&error, FORE_ERROR, FORE_ERROR_INVALID, "foreseed's answer is incomplete");
    }
    ok = ok && draw(&pts, title, fore_cli_text(ret, "unit"), what, out, &error);
    points_done(&pts);
    if (!ok) {
        fprintf(stderr, "foresee: %s\n", error->message);
    }
    return ok ? CLI_OK : CLI_FAILED;
}

int fore_cli_plot(ForeCli *cli, int argc, char **argv)
{
    gint ahead = 5, last = 600;
    g_autofree char *out = NULL, *resource = NULL;
    const GOptionEntry entries[] = {
        {"out", 'o', 0, G_OPTION_ARG_FILENAME, &out, "Write there, not to standard output", "SVG"},
        {"ahead", 0, 0, G_OPTION_ARG_INT, &ahead, "Steps that forecasts look ahead (5)", "N"},
        {"last", 0, 0, G_OPTION_ARG_INT, &last, "Seconds of a VM to show (600)", "S"},
        {"resource", 0, 0, G_OPTION_ARG_STRING, &resource, "Of a VM: vcpu (default) or mem",
         "NAME"},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("VM|FILE");
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        return fore_cli_usage("%s", error->message);
    }
    if (argc != 2 || ahead < 1 || ahead > FORE_SERIES_MAX_LAG || last < 2 || last > 3600) {
        return fore_cli_usage("plot takes a VM's name or a file, --ahead 1..%d, --last 2..3600",
                              FORE_SERIES_MAX_LAG);
    }
    if (strchr(argv[1], '/') != NULL || g_file_test(argv[1], G_FILE_TEST_IS_REGULAR)) {
        return plot_file(argv[1], (unsigned)ahead, out);
    }
    return plot_vm(cli, argv[1], resource != NULL ? resource : "vcpu", (unsigned)ahead, last, out);
}

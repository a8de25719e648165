/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Points are gathered by pixel column when there are more of them than columns: the
 * actual line keeps the least and the most of each, the band its mean.  A gap breaks every line.
 * Marks of anomalies are drawn first, behind the lines, over the whole height, so that they show
 * without hiding.  Colours differ in lightness too, for those who do not tell them apart by hue.
 */
#include "qmp-agent/fore-plot.h"

#include <math.h>
#include <string.h>

#define WIDTH     1100
#define HEIGHT    460
#define LEFT      86
#define RIGHT     24
#define TOP       64
#define BOTTOM    56
#define INNER_W   (WIDTH - LEFT - RIGHT)
#define INNER_H   (HEIGHT - TOP - BOTTOM)
#define MAX_TICKS 12

typedef struct {
    const ForePlot *p;
    GString *out;
    double t0, t1, y1; /* the value axis begins at 0 */
    double unit;       /* values are divided by it for display */
    const char *unit_name;
} Canvas;

/* One pixel column. */
typedef struct {
    double least, most, low, mid, high;
    unsigned n_actual, n_band;
} Column;

static double x_of(const Canvas *c, double t)
{
    return LEFT + INNER_W * (t - c->t0) / (c->t1 - c->t0);
}

static double y_of(const Canvas *c, double v)
{
    return TOP + INNER_H * (1.0 - v / c->y1);
}

/* Locale-free, so that the same numbers give the same bytes everywhere. */
static void put_number(GString *out, double v, const char *format)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    g_string_append(out, g_ascii_formatd(text, sizeof(text), format, v));
}

static void put_text(Canvas *c, double x, double y, const char *more, const char *text)
{
    g_autofree char *safe = g_markup_escape_text(text, -1);

    g_string_append(c->out, "<text x=\"");
    put_number(c->out, x, "%.1f");
    g_string_append(c->out, "\" y=\"");
    put_number(c->out, y, "%.1f");
    g_string_append_printf(c->out, "\"%s>%s</text>\n", more, safe);
}

static void put_line(Canvas *c, double x0, double y0, double x1, double y1, const char *class)
{
    g_string_append_printf(c->out, "<path class=\"%s\" d=\"M", class);
    put_number(c->out, x0, "%.1f ");
    put_number(c->out, y0, "%.1fL");
    put_number(c->out, x1, "%.1f ");
    put_number(c->out, y1, "%.1f");
    g_string_append(c->out, "\"/>\n");
}

/* The next of 1, 2, 5 times a power of ten that is not below @v. */
static double round_step(double v)
{
    double power = pow(10.0, floor(log10(v)));
    double lead = v / power;

    return power * (lead <= 1.0 ? 1.0 : lead <= 2.0 ? 2.0 : lead <= 5.0 ? 5.0 : 10.0);
}

static void find_scale(Canvas *c)
{
    static const char *const sizes[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double top = 0.0;
    unsigned k = 0;

    for (size_t i = 0; i < c->p->n; i++) {
        top = fmax(top, fmax(c->p->actual[i], c->p->high[i])); /* fmax ignores NAN */
    }
    c->unit = 1.0;
    c->unit_name = c->p->unit;
    if (strcmp(c->p->unit, "bytes") == 0) {
        while (top / c->unit >= 1024.0 && k + 1 < G_N_ELEMENTS(sizes)) {
            c->unit *= 1024.0;
            k++;
        }
        c->unit_name = sizes[k];
    }
    c->y1 = top > 0.0 ? 1.08 * top : 1.0;
    c->t0 = c->p->time_s[0];
    c->t1 = MAX(c->p->time_s[c->p->n - 1], c->t0 + 1.0);
}

static void draw_values_axis(Canvas *c)
{
    double step = round_step(c->y1 / c->unit / 9.0);
    const char *format = step >= 1.0 ? "%.0f" : step >= 0.1 ? "%.1f" : "%.3g";

    for (unsigned i = 0; i <= MAX_TICKS && i * step * c->unit <= c->y1; i++) {
        char text[G_ASCII_DTOSTR_BUF_SIZE];
        double y = y_of(c, i * step * c->unit);

        put_line(c, LEFT, y, WIDTH - RIGHT, y, "grid");
        g_ascii_formatd(text, sizeof(text), format, i * step);
        put_text(c, LEFT - 8, y + 4, " text-anchor=\"end\"", text);
    }
    put_text(c, LEFT - 8, TOP - 14, " text-anchor=\"end\"", c->unit_name);
}

static void draw_time_axis(Canvas *c)
{
    static const double steps[] = {1,     2,     5,      10,     15,      30,     60,    120,
                                   300,   600,   900,    1800,   3600,    7200,   10800, 21600,
                                   43200, 86400, 172800, 604800, 1209600, 2592000};
    double span = c->t1 - c->t0, step = steps[G_N_ELEMENTS(steps) - 1];
    double first;

    for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
        if (span / steps[i] <= 9.0) {
            step = steps[i];
            break;
        }
    }
    step = MAX(step, span / MAX_TICKS);
    first = ceil(c->t0 / step) * step;
    for (unsigned i = 0; i <= MAX_TICKS && first + i * step <= c->t1; i++) {
        double t = first + i * step;
        g_autoptr(GDateTime) when = g_date_time_new_from_unix_utc((gint64)t);
        g_autofree char *text = when == NULL
                                    ? g_strdup("?")
                                    : g_date_time_format(when, step >= 86400  ? "%d %b"
                                                               : span > 86400 ? "%d %b %H:%M"
                                                               : step >= 60   ? "%H:%M"
                                                                              : "%H:%M:%S");

        put_line(c, x_of(c, t), HEIGHT - BOTTOM, x_of(c, t), HEIGHT - BOTTOM + 5, "axis");
        put_text(c, x_of(c, t), HEIGHT - BOTTOM + 20, " text-anchor=\"middle\"", text);
    }
    put_text(c, WIDTH - RIGHT, HEIGHT - 10, " text-anchor=\"end\" class=\"small\"", "time, UTC");
}

/* Neighbouring marked points are one strip; it is never thinner than two pixels. */
static void draw_anomalies(Canvas *c)
{
    const ForePlot *p = c->p;

    for (size_t i = 0; p->anomaly != NULL && i < p->n; i++) {
        size_t from = i;
        double x0, x1;

        while (i < p->n && p->anomaly[i] >= p->anomaly_from) {
            i++;
        }
        if (i == from) {
            continue;
        }
        x0 = x_of(c, p->time_s[from]);
        x1 = MAX(x_of(c, p->time_s[i - 1]), x0 + 2.0);
        g_string_append(c->out, "<rect class=\"anomaly\" x=\"");
        put_number(c->out, x0 - 1.0, "%.1f");
        g_string_append_printf(c->out, "\" y=\"%d\" height=\"%d\" width=\"", TOP, INNER_H);
        put_number(c->out, x1 - x0 + 1.0, "%.1f");
        g_string_append(c->out, "\"/>\n");
    }
}

static Column *gather(const Canvas *c, unsigned *ret_n)
{
    const ForePlot *p = c->p;
    unsigned n = (unsigned)MIN(p->n, INNER_W);
    Column *columns = g_new0(Column, n);

    for (size_t i = 0; i < p->n; i++) {
        double share = (p->time_s[i] - c->t0) / (c->t1 - c->t0);
        Column *at = &columns[MIN((unsigned)(share * n), n - 1)];

        if (isfinite(p->actual[i])) {
            at->least = at->n_actual > 0 ? MIN(at->least, p->actual[i]) : p->actual[i];
            at->most = at->n_actual > 0 ? MAX(at->most, p->actual[i]) : p->actual[i];
            at->n_actual++;
        }
        if (isfinite(p->low[i]) && isfinite(p->mid[i]) && isfinite(p->high[i])) {
            at->low += p->low[i];
            at->mid += p->mid[i];
            at->high += p->high[i];
            at->n_band++;
        }
    }
    *ret_n = n;
    return columns;
}

static double column_x(const Canvas *c, unsigned i, unsigned n)
{
    return n == c->p->n ? x_of(c, c->p->time_s[i]) : LEFT + INNER_W * (i + 0.5) / n;
}

static void put_point(Canvas *c, char command, double x, double v)
{
    g_string_append_c(c->out, command);
    put_number(c->out, x, "%.1f ");
    put_number(c->out, y_of(c, v), "%.1f");
}

/* One filled shape for each stretch of columns that have a band. */
static void draw_band(Canvas *c, const Column *columns, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        unsigned from = i;

        while (i < n && columns[i].n_band > 0) {
            i++;
        }
        if (i == from) {
            continue;
        }
        g_string_append(c->out, "<path class=\"band\" d=\"");
        for (unsigned k = from; k < i; k++) {
            put_point(c, k == from ? 'M' : 'L', column_x(c, k, n),
                      columns[k].high / columns[k].n_band);
        }
        for (unsigned k = i; k-- > from;) {
            put_point(c, 'L', column_x(c, k, n), columns[k].low / columns[k].n_band);
        }
        g_string_append(c->out, "Z\"/>\n");
    }
}

static void draw_lines(Canvas *c, const Column *columns, unsigned n)
{
    bool open = false;

    g_string_append(c->out, "<path class=\"actual\" d=\"");
    for (unsigned i = 0; i < n; i++) {
        if (columns[i].n_actual > 0) {
            put_point(c, open ? 'L' : 'M', column_x(c, i, n), columns[i].most);
            put_point(c, 'L', column_x(c, i, n), columns[i].least);
        }
        open = columns[i].n_actual > 0;
    }
    g_string_append(c->out, "\"/>\n<path class=\"median\" d=\"");
    open = false;
    for (unsigned i = 0; i < n; i++) {
        if (columns[i].n_band > 0) {
            put_point(c, open ? 'L' : 'M', column_x(c, i, n), columns[i].mid / columns[i].n_band);
        }
        open = columns[i].n_band > 0;
    }
    g_string_append(c->out, "\"/>\n");
}

static void draw_legend(Canvas *c)
{
    g_autofree char *median = g_strdup_printf("median, %s", c->p->ahead);
    double x = WIDTH - RIGHT - 560.0, y = TOP - 18.0;

    put_line(c, x, y - 4, x + 24, y - 4, "actual");
    put_text(c, x + 30, y, "", "actual");
    put_line(c, x + 90, y - 4, x + 114, y - 4, "median");
    put_text(c, x + 120, y, "", median);
    g_string_append_printf(c->out,
                           "<rect class=\"band\" x=\"%d\" y=\"%d\" width=\"24\" height=\"12\"/>\n",
                           (int)x + 280, (int)y - 10);
    put_text(c, x + 310, y, "", "P5 to P95");
    if (c->p->anomaly != NULL) {
        g_string_append_printf(
            c->out, "<rect class=\"anomaly\" x=\"%d\" y=\"%d\" width=\"24\" height=\"12\"/>\n",
            (int)x + 400, (int)y - 10);
        put_text(c, x + 430, y, "", "anomaly");
    }
}

char *fore_plot_svg(const ForePlot *plot)
{
    Canvas c = {.p = plot, .out = g_string_new(NULL)};
    g_autofree Column *columns = NULL;
    unsigned n = 0;

    g_assert(plot->n >= 2 && plot->n <= FORE_PLOT_MAX);
    find_scale(&c);
    g_string_append_printf(
        c.out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
        "height=\"%d\" role=\"img\">\n"
        "<style>text{font:13px sans-serif;fill:#222}.title{font-size:17px;font-weight:bold}"
        ".small{font-size:11px;fill:#555}path{fill:none}.grid{stroke:#e3e3e3}.axis{stroke:#555}"
        ".actual{stroke:#111;stroke-width:1.4;stroke-linejoin:round}"
        ".median{stroke:#0b62c4;stroke-width:1.6;stroke-dasharray:5 3}"
        ".band{fill:#7fb6ee;fill-opacity:.45;stroke:none}"
        ".anomaly{fill:#e8590c;fill-opacity:.35}</style>\n"
        "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
        WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
    put_text(&c, LEFT, 26, " class=\"title\"", plot->title);
    draw_values_axis(&c);
    draw_anomalies(&c);
    columns = gather(&c, &n);
    draw_band(&c, columns, n);
    draw_lines(&c, columns, n);
    put_line(&c, LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis");
    draw_time_axis(&c);
    draw_legend(&c);
    g_string_append(c.out, "</svg>\n");
    return g_string_free(c.out, FALSE);
}

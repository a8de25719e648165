/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp-agent/fore-plot.h"

#include <math.h>
#include <string.h>

#define N 3000

typedef struct {
    double t[N], actual[N], low[N], mid[N], high[N], anomaly[N];
} Numbers;

static Numbers *wave(void)
{
    Numbers *x = g_new(Numbers, 1);

    for (unsigned i = 0; i < N; i++) {
        x->t[i] = 1.7e9 + i;
        x->mid[i] = 2.0 + sin(i / 100.0);
        x->actual[i] = x->mid[i] + 0.1 * sin(i);
        x->low[i] = x->mid[i] - 0.3;
        x->high[i] = x->mid[i] + 0.3;
        x->anomaly[i] = i >= 1000 && i < 1040 ? 0.9 : 0.0;
    }
    return x;
}

static char *draw(const Numbers *x, size_t n, const char *title, const char *unit)
{
    ForePlot plot = {.title = title,
                     .unit = unit,
                     .ahead = "5 s ahead",
                     .n = n,
                     .time_s = x->t,
                     .actual = x->actual,
                     .low = x->low,
                     .mid = x->mid,
                     .high = x->high,
                     .anomaly = x->anomaly,
                     .anomaly_from = 0.5};

    return fore_plot_svg(&plot);
}

/* Every element is closed in its turn, as XML wants it. */
static void assert_well_formed(const char *svg)
{
    static const GMarkupParser nothing = {NULL, NULL, NULL, NULL, NULL};
    g_autoptr(GMarkupParseContext) parser = g_markup_parse_context_new(&nothing, 0, NULL, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_true(g_utf8_validate(svg, -1, NULL));
    g_assert_true(g_markup_parse_context_parse(parser, svg, -1, &error));
    g_assert_true(g_markup_parse_context_end_parse(parser, &error));
    g_assert_null(strstr(svg, "nan"));
    g_assert_null(strstr(svg, "inf\""));
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;

    for (const char *at = strstr(text, what); at != NULL; at = strstr(at + 1, what)) {
        n++;
    }
    return n;
}

static void test_parts(void)
{
    g_autofree Numbers *x = wave();
    g_autofree char *svg = draw(x, N, "web1 <&> \"x\"", "vCPUs");

    assert_well_formed(svg);
    g_assert_nonnull(strstr(svg, "web1 &lt;&amp;&gt;"));
    /* one in the picture and one in the legend */
    g_assert_cmpuint(count(svg, "class=\"anomaly\""), ==, 2);
    g_assert_cmpuint(count(svg, "<path class=\"band\""), ==, 1);
    g_assert_cmpuint(count(svg, "class=\"actual\""), ==, 2);
    g_assert_nonnull(strstr(svg, "median, 5 s ahead"));
    /* of 3000 points no more is written than a screen can show */
    g_assert_cmpuint(strlen(svg), <, 100000);
}

static void test_gap(void)
{
    g_autofree Numbers *x = wave();
    g_autofree char *svg = NULL;

    for (unsigned i = 1500; i < 1800; i++) {
        x->actual[i] = x->low[i] = x->mid[i] = x->high[i] = x->anomaly[i] = NAN;
    }
    svg = draw(x, N, "gap", "bytes");
    assert_well_formed(svg);
    g_assert_cmpuint(count(svg, "<path class=\"band\""), ==, 2); /* a gap is a gap */
}

static void test_odd(void)
{
    g_autofree Numbers *x = wave();
    g_autofree char *two = draw(x, 2, "two", "vCPUs"), *flat = NULL, *nothing = NULL;
    g_autofree char *huge = NULL, *late = NULL;

    assert_well_formed(two);
    for (unsigned i = 0; i < 10; i++) {
        x->actual[i] = x->low[i] = x->mid[i] = x->high[i] = 0.0;
    }
    flat = draw(x, 10, "flat", "vCPUs");
    assert_well_formed(flat);
    for (unsigned i = 0; i < 10; i++) {
        x->actual[i] = x->low[i] = x->mid[i] = x->high[i] = 1e300;
    }
    huge = draw(x, 10, "huge", "bytes");
    assert_well_formed(huge);
    for (unsigned i = 0; i < 10; i++) {
        x->actual[i] = x->low[i] = x->mid[i] = x->high[i] = NAN;
    }
    nothing = draw(x, 10, "nothing", "bytes");
    assert_well_formed(nothing);
    for (unsigned i = 0; i < 10; i++) {
        x->t[i] = 1e15 + 1e12 * i; /* no calendar has it */
    }
    late = draw(x, 10, "late", "bytes");
    assert_well_formed(late);
}

static void test_same(void)
{
    g_autofree Numbers *x = wave();
    g_autofree char *a = draw(x, N, "x", "bytes"), *b = draw(x, N, "x", "bytes");

    g_assert_cmpstr(a, ==, b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/plot/shows-all-parts-and-escapes-text", test_parts);
    g_test_add_func("/agent/plot/a-gap-breaks-every-line", test_gap);
    g_test_add_func("/agent/plot/odd-numbers-are-still-a-picture", test_odd);
    g_test_add_func("/agent/plot/same-numbers-same-bytes", test_same);
    return g_test_run();
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Every trace is one job: its series are run from the first sample to the last
 * before the test part, and the rows of some stretches are kept; which ones is drawn from the seed
 * and the number of the trace.  A short series is kept whole, long ones share what is left of the
 * memory. Nothing at or after the test part is read, neither as input nor as truth.
 */
#include "forecast/fore-series-set.h"

#include <math.h>
#include <string.h>

#define STRETCH    96 /* rows of a stretch of a long series */
#define FIRST_STEP 4  /* before it there is nothing to learn from */
#define MIN_ROWS   48 /* a series with fewer is left out */

typedef struct {
    GArray *x, *e, *y, *weight; /* rows of all stretches, one after another */
    double usual;               /* change over 6 steps, own unit, of the one series of this part */
    GArray *span;               /* ForeSpan, rows and series counted within this trace */
    unsigned n_series;
} Part;

typedef struct {
    GPtrArray *traces;
    const ForeSeriesTrainConfig *config;
    size_t most; /* rows of one series */
    Part *part;  /* [traces->len] */
    GMutex lock;
    bool (*tick)(gpointer data);
    gpointer data;
    gint stopped;
} Build;

static size_t usable_rows(const ForeTrace *trace)
{
    size_t end = trace->n_before;

    return end > FIRST_STEP + FORE_SERIES_MAX_LAG ? end - FIRST_STEP - FORE_SERIES_MAX_LAG : 0;
}

/* The largest number of rows of one series with which all fit into @budget. */
static size_t share_rows(GPtrArray *traces, size_t budget)
{
    size_t low = STRETCH, high = budget;

    while (low + 1 < high) {
        size_t mid = low + (high - low) / 2;
        size_t sum = 0;

        for (guint i = 0; i < traces->len && sum <= budget; i++) {
            const ForeTrace *trace = g_ptr_array_index(traces, i);

            sum += MIN(usable_rows(trace), mid) * (size_t)__builtin_popcount(trace->metrics);
        }
        if (sum <= budget) {
            low = mid;
        } else {
            high = mid;
        }
    }
    return low;
}

/* Marks the steps to keep; stretches may touch, never overlap. */
static void choose_steps(const Build *b, const ForeTrace *trace, guint number, bool *keep)
{
    size_t rows = usable_rows(trace);
    size_t slots = rows / STRETCH, want = b->most / STRETCH;
    ForeRandom rng = {.state = b->config->seed * UINT64_C(0x9e3779b97f4a7c15) + number};

    if (rows <= b->most) {
        memset(keep + FIRST_STEP, true, rows);
        return;
    }
    for (size_t s = 0; s < slots; s++) {
        /* of the slots left, each is taken with the chance that fills what is wanted */
        if (fore_random_below(&rng, slots - s) < want) {
            memset(keep + FIRST_STEP + s * STRETCH, true, STRETCH);
            want--;
        }
    }
}

static int16_t fixed(float v)
{
    return (int16_t)lrintf(CLAMP(v, -10.0f, 10.0f) * FORE_SERIES_SET_UNIT);
}

static float truth_of(const ForeTrace *trace, unsigned metric, const ForeTarget *target, size_t k,
                      const ForeSeries *s)
{
    const double *v = trace->value[metric];
    double truth = -INFINITY;
    unsigned known = 0;

    for (size_t j = target->peak ? 1 : target->lag; j <= target->lag; j++) {
        if (!isnan(v[k + j])) {
            truth = MAX(truth, v[k + j]);
            known++;
        }
    }
    if (known == 0 || (target->peak && known * 4 < target->lag * 3)) {
        return NAN;
    }
    return (float)CLAMP(asinh((truth - fore_series_last(s)) / fore_series_scale(s)), -20.0, 20.0);
}

/* How much the series changes over 6 steps, before its test part. */
static double usual_change(const ForeTrace *trace, unsigned metric)
{
    const double *v = trace->value[metric];
    double sum = 0.0, high = 0.0;
    size_t n = 0;

    for (size_t k = 6; k < trace->n_before; k++) {
        if (!isnan(v[k]) && !isnan(v[k - 6])) {
            sum += fabs(v[k] - v[k - 6]);
            high = MAX(high, fabs(v[k]));
            n++;
        }
    }
    return (n > 0 ? sum / (double)n : 0.0) + 1e-4 * high + 1e-9;
}

static void add_row(const Build *b, const ForeTrace *trace, Part *part, unsigned metric,
                    ForeSeries *const *all, size_t k)
{
    float weight = (float)CLAMP(fore_series_scale(all[metric]) / part->usual, 0.0, 10.0);
    const ForeSeriesConfig *c = &b->config->series;
    unsigned n_e = c->n_target * c->n_level * FORE_MEMBER_N;
    float x[FORE_SERIES_N_FEATURE], e[FORE_NET_MAX_E];

    fore_series_features(all[metric], all, x);
    fore_series_opinions(all[metric], e);
    for (unsigned i = 0; i < FORE_SERIES_N_FEATURE; i++) {
        int16_t v = fixed(x[i]);

        g_array_append_val(part->x, v);
    }
    for (unsigned i = 0; i < n_e; i++) {
        int16_t v = fixed(e[i]);

        g_array_append_val(part->e, v);
    }
    g_array_append_val(part->weight, weight);
    for (unsigned t = 0; t < c->n_target; t++) {
        float v = truth_of(trace, metric, &c->target[t], k, all[metric]);

        g_array_append_val(part->y, v);
    }
}

static void append_part(Part *to, const Part *from, uint32_t series)
{
    for (guint i = 0; i < from->span->len; i++) {
        ForeSpan span = g_array_index(from->span, ForeSpan, i);

        span.from += to->y->len;
        span.series = series;
        g_array_append_val(to->span, span);
    }
    g_array_append_vals(to->x, from->x->data, from->x->len);
    g_array_append_vals(to->e, from->e->data, from->e->len);
    g_array_append_vals(to->y, from->y->data, from->y->len);
    g_array_append_vals(to->weight, from->weight->data, from->weight->len);
}

static void part_init(Part *part)
{
    part->x = g_array_new(FALSE, FALSE, sizeof(int16_t));
    part->e = g_array_new(FALSE, FALSE, sizeof(int16_t));
    part->y = g_array_new(FALSE, FALSE, sizeof(float));
    part->weight = g_array_new(FALSE, FALSE, sizeof(float));
    part->span = g_array_new(FALSE, FALSE, sizeof(ForeSpan));
}

static void part_done(Part *part)
{
    g_clear_pointer(&part->x, g_array_unref);
    g_clear_pointer(&part->e, g_array_unref);
    g_clear_pointer(&part->y, g_array_unref);
    g_clear_pointer(&part->weight, g_array_unref);
    g_clear_pointer(&part->span, g_array_unref);
}

/* One step of every series of a trace; kept rows go to the part of their metric. */
static void run_step(const Build *b, const ForeTrace *trace, Part part[FORE_SERIES_METRICS],
                     ForeSeries *const *s, const bool *keep, size_t k)
{
    for (unsigned m = 0; m < FORE_SERIES_METRICS; m++) {
        if (s[m] != NULL) {
            fore_series_push(s[m], trace->value[m][k]);
        }
    }
    for (unsigned m = 0; keep[k] && m < FORE_SERIES_METRICS; m++) {
        if (s[m] == NULL || !fore_series_ready(s[m])) {
            continue;
        }
        if (part[m].span->len == 0 || !keep[k - 1]) {
            ForeSpan span = {.from = part[m].y->len};

            g_array_append_val(part[m].span, span);
        }
        g_array_index(part[m].span, ForeSpan, part[m].span->len - 1).n++;
        add_row(b, trace, &part[m], m, s, k);
    }
}

static void run_trace(gpointer item, gpointer user)
{
    Build *b = user;
    guint number = GPOINTER_TO_UINT(item) - 1;
    const ForeTrace *trace = g_ptr_array_index(b->traces, number);
    g_autofree bool *keep = g_new0(bool, trace->n + 1);
    Part part[FORE_SERIES_METRICS] = {{.n_series = 0}};
    ForeSeries *s[FORE_SERIES_METRICS] = {NULL};

    if (usable_rows(trace) >= MIN_ROWS && !g_atomic_int_get(&b->stopped)) {
        choose_steps(b, trace, number, keep);
        for (unsigned m = 0; m < FORE_SERIES_METRICS; m++) {
            ForeSeriesConfig c = b->config->series;

            c.metric = m;
            c.step_s = trace->step_s;
            c.epoch_s = trace->first_s;
            s[m] = trace->metrics >> m & 1 ? fore_series_new(&c) : NULL;
            part_init(&part[m]);
            part[m].usual = s[m] != NULL ? usual_change(trace, m) : 0.0;
        }
        for (size_t k = 0; k < trace->n_before; k++) {
            run_step(b, trace, part, s, keep, k);
        }
        part_init(&b->part[number]);
        for (unsigned m = 0; m < FORE_SERIES_METRICS; m++) {
            if (part[m].span->len > 0) {
                append_part(&b->part[number], &part[m], b->part[number].n_series++);
            }
            part_done(&part[m]);
            fore_series_free(s[m]);
        }
    }
    g_mutex_lock(&b->lock);
    if (!b->tick(b->data)) {
        g_atomic_int_set(&b->stopped, 1);
    }
    g_mutex_unlock(&b->lock);
}

/* Traces of one set (the name up to '/') together weigh the root of how many series they have: in
 * between every series alike and every set alike. */
static void set_chances(ForeSeriesSet *set, const Build *b)
{
    g_autoptr(GHashTable) size = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char **group = g_new0(char *, set->n_series + 1);
    double sum = 0.0;
    unsigned at = 0;

    for (guint i = 0; i < b->traces->len; i++) {
        const ForeTrace *trace = g_ptr_array_index(b->traces, i);
        const char *slash = strchr(trace->name, '/');

        for (unsigned j = 0; j < b->part[i].n_series; j++) {
            char *key = slash != NULL ? g_strndup(trace->name, (gsize)(slash - trace->name))
                                      : g_strdup(trace->name);

            group[at++] = key;
            g_hash_table_insert(
                size, g_strdup(key),
                GUINT_TO_POINTER(GPOINTER_TO_UINT(g_hash_table_lookup(size, key)) + 1));
        }
    }
    for (unsigned i = 0; i < set->n_series; i++) {
        sum += 1.0 / sqrt((double)GPOINTER_TO_UINT(g_hash_table_lookup(size, group[i])));
        set->chance[i] = sum;
        g_free(group[i]);
    }
    for (unsigned i = 0; i < set->n_series; i++) {
        set->chance[i] /= sum;
    }
}

static ForeSeriesSet *join(Build *b, size_t n_row)
{
    const ForeSeriesConfig *c = &b->config->series;
    ForeSeriesSet *set = g_new0(ForeSeriesSet, 1);
    size_t row = 0;

    set->n_target = c->n_target;
    set->n_e = c->n_target * c->n_level * FORE_MEMBER_N;
    set->n_row = n_row;
    set->x = g_new(int16_t, n_row * FORE_SERIES_N_FEATURE);
    set->e = g_new(int16_t, n_row * set->n_e);
    set->y = g_new(float, n_row * c->n_target);
    set->weight = g_new(float, n_row);
    set->span = g_array_new(FALSE, FALSE, sizeof(ForeSpan));
    set->first = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    for (guint i = 0; i < b->traces->len; i++) {
        Part *part = &b->part[i];
        size_t n = part->y != NULL ? part->y->len / c->n_target : 0;

        for (guint j = 0; n > 0 && j < part->span->len; j++) {
            ForeSpan span = g_array_index(part->span, ForeSpan, j);

            span.from = row + span.from / c->n_target;
            span.series += set->n_series;
            if (set->first->len == span.series) {
                g_array_append_val(set->first, set->span->len);
            }
            g_array_append_val(set->span, span);
        }
        if (n > 0) {
            memcpy(set->x + row * FORE_SERIES_N_FEATURE, part->x->data,
                   n * FORE_SERIES_N_FEATURE * sizeof(int16_t));
            memcpy(set->e + row * set->n_e, part->e->data, n * set->n_e * sizeof(int16_t));
            memcpy(set->weight + row, part->weight->data, n * sizeof(float));
            memcpy(set->y + row * c->n_target, part->y->data, n * c->n_target * sizeof(float));
        }
        row += n;
        set->n_series += part->n_series;
        part_done(part);
    }
    g_array_append_val(set->first, set->span->len);
    set->chance = g_new0(double, set->n_series);
    set_chances(set, b);
    return set;
}

ForeSeriesSet *fore_series_set_new(GPtrArray *traces, const ForeSeriesTrainConfig *config,
                                   bool (*tick)(gpointer data), gpointer data)
{
    Build b = {.traces = traces, .config = config, .tick = tick, .data = data};
    GThreadPool *pool = g_thread_pool_new(run_trace, &b, (gint)config->threads, TRUE, NULL);
    ForeSeriesSet *set = NULL;
    size_t n_row = 0;

    b.most = share_rows(traces, config->rows);
    b.part = g_new0(Part, traces->len);
    g_mutex_init(&b.lock);
    for (guint i = 0; i < traces->len; i++) {
        g_thread_pool_push(pool, GUINT_TO_POINTER(i + 1), NULL);
    }
    g_thread_pool_free(pool, FALSE, TRUE);
    for (guint i = 0; i < traces->len; i++) {
        n_row += b.part[i].y != NULL ? b.part[i].y->len / config->series.n_target : 0;
    }
    if (n_row > 0 && !b.stopped) {
        set = join(&b, n_row);
    }
    for (guint i = 0; i < traces->len; i++) {
        part_done(&b.part[i]);
    }
    g_free(b.part);
    g_mutex_clear(&b.lock);
    return set;
}

void fore_series_set_free(ForeSeriesSet *set)
{
    if (set == NULL) {
        return;
    }
    g_free(set->x);
    g_free(set->e);
    g_free(set->y);
    g_free(set->weight);
    g_free(set->chance);
    g_array_unref(set->span);
    g_array_unref(set->first);
    g_free(set);
}

size_t fore_series_set_pick(const ForeSeriesSet *set, ForeRandom *rng, unsigned n)
{
    double u = fore_random_unit(rng);
    unsigned low = 0, high = set->n_series - 1;
    uint32_t first, last;
    uint64_t places = 0, place;

    while (low < high) {
        unsigned mid = low + (high - low) / 2;

        if (set->chance[mid] <= u) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    first = g_array_index(set->first, uint32_t, low);
    last = g_array_index(set->first, uint32_t, low + 1);
    for (uint32_t i = first; i < last; i++) {
        uint32_t have = g_array_index(set->span, ForeSpan, i).n;

        places += have >= n ? have - n + 1 : 0;
    }
    place = places > 0 ? fore_random_below(rng, places) : 0;
    for (uint32_t i = first; places > 0 && i < last; i++) {
        const ForeSpan *span = &g_array_index(set->span, ForeSpan, i);
        uint64_t here = span->n >= n ? span->n - n + 1 : 0;

        if (place < here) {
            return span->from + place;
        }
        place -= here;
    }
    return SIZE_MAX;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "profile/fore-rollup.h"

#include <math.h>
#include <string.h>

#include "common/fore-bytes.h"

#define READY_MAX      256 /* a day and more of blocks while the disk is away */
#define RUNNING_BYTES  64
#define RUNNING_FORMAT 1

typedef struct {
    int64_t width_ms;
    unsigned points;
    uint64_t from_seq;
    unsigned closed; /* points in the block of the column that has most */
    bool open;       /* an interval is open, at @t_ms */
    int64_t t_ms;
    ForeTierPoint *point;  /* [columns], of the open interval */
    ForeTierBlock **block; /* [columns], each may be NULL */
} Tier;

struct ForeRollup {
    unsigned columns;
    Tier tier[FORE_ROLLUP_TIERS];
    ForeRunning *running; /* [columns] */
    GPtrArray *ready;     /* ForeRollupReady */
    uint64_t lost;
    unsigned skip; /* tiers */
};

/* --- running statistics --- */

void fore_running_add(ForeRunning *r, int64_t t_ms, double value)
{
    double off;

    if (r->n == 0) {
        *r = (ForeRunning){.min = value, .max = value, .first_ms = t_ms};
    }
    r->n++;
    r->min = fmin(r->min, value);
    r->max = fmax(r->max, value);
    off = value - r->mean;
    r->mean += value / (double)r->n - r->mean / (double)r->n; /* off itself may overflow */
    r->mean = fmin(fmax(r->mean, r->min), r->max);
    r->m2 += off * (value - r->mean); /* Welford */
    r->last = value;
    r->last_ms = t_ms;
}

void fore_running_merge(ForeRunning *into, const ForeRunning *from)
{
    double share, off;

    if (from->n == 0) {
        return;
    }
    if (into->n == 0) {
        *into = *from;
        return;
    }
    share = (double)from->n / ((double)into->n + (double)from->n);
    off = from->mean - into->mean;
    into->m2 += from->m2 + off * off * share * (double)into->n; /* Chan and others */
    into->mean = into->mean * (1 - share) + from->mean * share;
    into->n += from->n;
    into->min = fmin(into->min, from->min);
    into->max = fmax(into->max, from->max);
    into->last = from->last_ms >= into->last_ms ? from->last : into->last;
    into->first_ms = MIN(into->first_ms, from->first_ms);
    into->last_ms = MAX(into->last_ms, from->last_ms);
}

double fore_running_sd(const ForeRunning *r)
{
    return r->n > 0 && r->m2 > 0 ? sqrt(r->m2 / (double)r->n) : 0;
}

static void put_double(GByteArray *out, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof(bits));
    fore_put_be64(out, bits);
}

static double get_double(ForeCursor *cur)
{
    uint64_t bits = fore_cursor_be64(cur);
    double v;

    memcpy(&v, &bits, sizeof(v));
    return v;
}

GByteArray *fore_running_pack(const ForeRunning *r, size_t n)
{
    GByteArray *out = g_byte_array_sized_new((guint)(1 + n * RUNNING_BYTES));

    fore_put_u8(out, RUNNING_FORMAT);
    for (size_t i = 0; i < n; i++) {
        fore_put_be64(out, r[i].n);
        put_double(out, r[i].min);
        put_double(out, r[i].max);
        put_double(out, r[i].mean);
        put_double(out, r[i].m2);
        put_double(out, r[i].last);
        fore_put_be64(out, (uint64_t)r[i].first_ms);
        fore_put_be64(out, (uint64_t)r[i].last_ms);
    }
    return out;
}

bool fore_running_unpack(const void *data, size_t size, ForeRunning *ret, size_t n)
{
    size_t there = size > 0 ? (size - 1) / RUNNING_BYTES : 0;
    bool ok;
    ForeCursor cur;

    memset(ret, 0, n * sizeof(*ret));
    fore_cursor_init(&cur, data, size);
    ok = fore_cursor_u8(&cur) == RUNNING_FORMAT && size == 1 + there * RUNNING_BYTES;
    for (size_t i = 0; ok && i < MIN(n, there); i++) {
        ret[i].n = fore_cursor_be64(&cur);
        ret[i].min = get_double(&cur);
        ret[i].max = get_double(&cur);
        ret[i].mean = get_double(&cur);
        ret[i].m2 = get_double(&cur);
        ret[i].last = get_double(&cur);
        ret[i].first_ms = (int64_t)fore_cursor_be64(&cur);
        ret[i].last_ms = (int64_t)fore_cursor_be64(&cur);
        ok = isfinite(ret[i].min) && isfinite(ret[i].max) && isfinite(ret[i].last);
    }
    if (!ok) {
        memset(ret, 0, n * sizeof(*ret));
    }
    return ok;
}

/* --- tiers --- */

static void free_blocks(ForeTierBlock **block, unsigned columns)
{
    for (unsigned c = 0; block != NULL && c < columns; c++) {
        fore_tier_block_free(block[c]);
    }
    g_free(block);
}

static void ready_free(ForeRollupReady *ready, unsigned columns)
{
    free_blocks(ready->block, columns);
    g_free(ready->running);
    g_free(ready);
}

ForeRollup *fore_rollup_new(unsigned columns, const int64_t *width_ms, const unsigned *points,
                            const uint64_t *from_seq, const ForeRunning *running)
{
    ForeRollup *r = g_new0(ForeRollup, 1);

    g_assert(columns > 0);
    r->columns = columns;
    r->ready = g_ptr_array_new();
    r->running = running != NULL ? g_memdup2(running, columns * sizeof(*running))
                                 : g_new0(ForeRunning, columns);
    for (unsigned k = 0; k < FORE_ROLLUP_TIERS; k++) {
        g_assert(width_ms[k] > 0 && points[k] >= 1 && points[k] <= FORE_TIER_BLOCK);
        r->tier[k] = (Tier){.width_ms = width_ms[k],
                            .points = points[k],
                            .from_seq = from_seq[k],
                            .point = g_new0(ForeTierPoint, columns),
                            .block = g_new0(ForeTierBlock *, columns)};
    }
    return r;
}

void fore_rollup_free(ForeRollup *r)
{
    if (r == NULL) {
        return;
    }
    fore_rollup_written(r, r->ready->len);
    g_ptr_array_unref(r->ready);
    for (unsigned k = 0; k < FORE_ROLLUP_TIERS; k++) {
        free_blocks(r->tier[k].block, r->columns);
        g_free(r->tier[k].point);
    }
    g_free(r->running);
    g_free(r);
}

static void open_interval(ForeRollup *r, Tier *tier, int64_t t_ms)
{
    tier->open = true;
    tier->t_ms = t_ms;
    for (unsigned c = 0; c < r->columns; c++) {
        fore_tier_point_init(&tier->point[c], t_ms);
    }
}

static void close_interval(ForeRollup *r, Tier *tier)
{
    for (unsigned c = 0; c < r->columns; c++) {
        if (tier->point[c].n > 0) {
            if (tier->block[c] == NULL) {
                tier->block[c] = fore_tier_block_new();
            }
            fore_tier_block_add(tier->block[c], &tier->point[c]);
        }
    }
    tier->open = false;
    tier->closed++;
}

static void make_ready(ForeRollup *r, unsigned k, uint64_t end_seq)
{
    ForeRollupReady *ready = g_new0(ForeRollupReady, 1);
    Tier *tier = &r->tier[k];

    if (r->ready->len == READY_MAX) {
        ready_free(g_ptr_array_steal_index(r->ready, 0), r->columns);
        r->lost++;
    }
    ready->tier = k;
    ready->end_seq = end_seq;
    ready->block = tier->block;
    ready->running = k == 0 ? g_memdup2(r->running, r->columns * sizeof(*r->running)) : NULL;
    g_ptr_array_add(r->ready, ready);
    tier->block = g_new0(ForeTierBlock *, r->columns);
    tier->closed = 0;
}

void fore_rollup_add(ForeRollup *r, uint64_t seq, int64_t t_ms, const double *v)
{
    for (unsigned k = 0; k < FORE_ROLLUP_TIERS; k++) {
        Tier *tier = &r->tier[k];
        int64_t start = fore_tier_start(t_ms, tier->width_ms);

        if (seq < tier->from_seq || ((r->skip >> k) & 1) != 0) {
            continue;
        }
        if (tier->open && tier->t_ms != start) {
            close_interval(r, tier);
            if (tier->closed >= tier->points) {
                make_ready(r, k, seq); /* before the statistics learn this sample */
            }
        }
        if (!tier->open) {
            open_interval(r, tier, start);
        }
        for (unsigned c = 0; c < r->columns; c++) {
            if (isfinite(v[c])) {
                fore_tier_point_add(&tier->point[c], v[c]);
            }
        }
    }
    for (unsigned c = 0; seq >= r->tier[0].from_seq && c < r->columns; c++) {
        if (isfinite(v[c])) {
            fore_running_add(&r->running[c], t_ms, v[c]);
        }
    }
}

void fore_rollup_skip(ForeRollup *r, unsigned tiers)
{
    r->skip = tiers;
}

void fore_rollup_checkpoint(ForeRollup *r, uint64_t end_seq)
{
    for (unsigned k = 0; k < FORE_ROLLUP_TIERS; k++) {
        Tier *tier = &r->tier[k];

        if (((r->skip >> k) & 1) != 0 && end_seq > tier->from_seq) {
            if (tier->open) {
                close_interval(r, tier);
            }
            make_ready(r, k, end_seq);
        }
    }
}

void fore_rollup_finish(ForeRollup *r, uint64_t end_seq)
{
    for (unsigned k = 0; k < FORE_ROLLUP_TIERS; k++) {
        if (r->tier[k].open) {
            close_interval(r, &r->tier[k]);
        }
        if (r->tier[k].closed > 0) {
            make_ready(r, k, end_seq);
        }
    }
}

const ForeRollupReady *fore_rollup_ready(const ForeRollup *r, guint i)
{
    return i < r->ready->len ? r->ready->pdata[i] : NULL;
}

void fore_rollup_written(ForeRollup *r, guint n)
{
    for (; n > 0; n--) {
        ready_free(g_ptr_array_steal_index(r->ready, 0), r->columns);
    }
}

uint64_t fore_rollup_lost(const ForeRollup *r)
{
    return r->lost;
}

const ForeRunning *fore_rollup_running(const ForeRollup *r, unsigned column)
{
    return &r->running[column];
}

static void each_of_block(const ForeTierBlock *block, ForeRollupPoint fn, gpointer data)
{
    g_autofree ForeTierPoint *point = g_new(ForeTierPoint, FORE_TIER_BLOCK);
    g_autoptr(GByteArray) bytes = NULL;
    size_t n = 0;

    if (block == NULL || fore_tier_block_n(block) == 0) {
        return;
    }
    bytes = fore_tier_block_pack(block);
    if (!fore_tier_unpack(bytes->data, bytes->len, point, &n, NULL)) {
        g_assert_not_reached(); /* our own */
    }
    for (size_t i = 0; i < n; i++) {
        fn(&point[i], data);
    }
}

void fore_rollup_each(const ForeRollup *r, unsigned tier, unsigned column, ForeRollupPoint fn,
                      gpointer data)
{
    for (guint i = 0; i < r->ready->len; i++) {
        const ForeRollupReady *ready = r->ready->pdata[i];

        if (ready->tier == tier) {
            each_of_block(ready->block[column], fn, data);
        }
    }
    each_of_block(r->tier[tier].block[column], fn, data);
    if (r->tier[tier].open && r->tier[tier].point[column].n > 0) {
        fn(&r->tier[tier].point[column], data);
    }
}

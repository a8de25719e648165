/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works
 *
 * A block is five columns as profile/fore-chunk.c writes them, each after its length in two bytes
 * (times, counts, least, mean, greatest values), then a bit stream with the sketch of each point
 * whose least and greatest value differ; the others need none.  The mean is rounded to 24
 * significant bits, which is 6e-8 of it and halves its room; the rest is as it was.
 */
#include "profile/fore-tier.h"

#include <float.h>
#include <math.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "profile/fore-chunk.h"

enum { COL_N, COL_MIN, COL_MEAN, COL_MAX, COL_COUNT };

struct ForeTierBlock {
    size_t n;
    int64_t t_ms[FORE_TIER_BLOCK];
    double col[COL_COUNT][FORE_TIER_BLOCK];
    GByteArray *sketches;
    ForeBitWriter w; /* into @sketches; not finished */
};

#define MAX_COUNT 4294967296.0 /* of a point; one of every millisecond for 49 days */

int64_t fore_tier_start(int64_t t_ms, int64_t width_ms)
{
    int64_t rest = t_ms % width_ms;

    return t_ms - (rest < 0 ? rest + width_ms : rest);
}

void fore_tier_point_init(ForeTierPoint *p, int64_t t_ms)
{
    p->t_ms = t_ms;
    p->n = 0;
    p->min = p->max = p->mean = 0;
    fore_sketch_init(&p->sketch, FORE_TIER_BUCKETS);
}

/* A mean cannot leave the range that it is the mean of; rounding may want to. */
static void put_mean(ForeTierPoint *p, double mean)
{
    p->mean = fmin(fmax(mean, p->min), p->max);
}

void fore_tier_point_add(ForeTierPoint *p, double value)
{
    double before = p->mean;

    p->min = p->n > 0 ? fmin(p->min, value) : value;
    p->max = p->n > 0 ? fmax(p->max, value) : value;
    p->n++;
    /* value / n and before / n: their difference could overflow first */
    put_mean(p, before + (value / (double)p->n - before / (double)p->n));
    fore_sketch_add(&p->sketch, value);
}

void fore_tier_point_merge(ForeTierPoint *into, const ForeTierPoint *from)
{
    double share;

    if (from->n == 0) {
        return;
    }
    share = (double)from->n / ((double)into->n + (double)from->n);
    into->min = into->n > 0 ? fmin(into->min, from->min) : from->min;
    into->max = into->n > 0 ? fmax(into->max, from->max) : from->max;
    put_mean(into, into->mean * (1 - share) + from->mean * share);
    into->n += from->n;
    fore_sketch_merge(&into->sketch, &from->sketch);
}

double fore_tier_point_quantile(const ForeTierPoint *p, double q)
{
    return p->n == 0 ? NAN : fmin(fmax(fore_sketch_quantile(&p->sketch, q), p->min), p->max);
}

/* --- blocks --- */

ForeTierBlock *fore_tier_block_new(void)
{
    ForeTierBlock *b = g_new0(ForeTierBlock, 1);

    b->sketches = g_byte_array_new();
    fore_bit_writer_init(&b->w, b->sketches);
    return b;
}

void fore_tier_block_free(ForeTierBlock *b)
{
    if (b != NULL) {
        g_byte_array_unref(b->sketches);
        g_free(b);
    }
}

size_t fore_tier_block_n(const ForeTierBlock *b)
{
    return b->n;
}

void fore_tier_block_add(ForeTierBlock *b, const ForeTierPoint *p)
{
    double mean = fabs(p->mean) < FLT_MAX ? (double)(float)p->mean : p->mean;

    g_assert(b->n < FORE_TIER_BLOCK && p->n > 0);
    b->t_ms[b->n] = p->t_ms;
    b->col[COL_N][b->n] = fmin((double)p->n, MAX_COUNT);
    b->col[COL_MIN][b->n] = p->min;
    b->col[COL_MEAN][b->n] = fmin(fmax(mean, p->min), p->max);
    b->col[COL_MAX][b->n] = p->max;
    b->n++;
    if (p->min != p->max) {
        fore_sketch_write(&p->sketch, &b->w);
    }
}

void fore_tier_block_span(const ForeTierBlock *b, int64_t *ret_t0_ms, int64_t *ret_t1_ms)
{
    g_assert(b->n > 0);
    *ret_t0_ms = *ret_t1_ms = b->t_ms[0];
    for (size_t i = 1; i < b->n; i++) {
        *ret_t0_ms = MIN(*ret_t0_ms, b->t_ms[i]);
        *ret_t1_ms = MAX(*ret_t1_ms, b->t_ms[i]);
    }
}

static void put_column(GByteArray *out, GByteArray *column)
{
    fore_put_be16(out, (uint16_t)column->len); /* 60 values are at most 700 bytes */
    g_byte_array_append(out, column->data, column->len);
    g_byte_array_unref(column);
}

GByteArray *fore_tier_block_pack(const ForeTierBlock *b)
{
    GByteArray *out = g_byte_array_sized_new(256);
    ForeBitWriter w = b->w; /* the block itself stays open */

    g_assert(b->n > 0);
    put_column(out, fore_chunk_pack_times(b->t_ms, b->n));
    for (int c = 0; c < COL_COUNT; c++) {
        put_column(out, fore_chunk_pack_values(b->col[c], b->n));
    }
    g_byte_array_append(out, b->sketches->data, b->sketches->len);
    w.out = out;
    fore_bit_writer_finish(&w);
    return out;
}

static bool refuse(GError **error, const char *what, size_t size)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                "block of %zu bytes is not valid (%s); verify the store and restore it", size,
                what);
    return false;
}

static bool get_column(ForeCursor *cur, size_t n, double *ret)
{
    double v[FORE_CHUNK_MAX];
    size_t size = 0, got = 0;
    const uint8_t *data = fore_cursor_sized16(cur, &size);

    if (data == NULL || !fore_chunk_unpack_values(data, size, v, &got, NULL) || got != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (isnan(v[i])) {
            return false; /* a point has all of its numbers */
        }
        ret[i] = v[i];
    }
    return true;
}

/* What no pack() writes is refused, so that no reader need ask. */
static bool make_point(ForeTierPoint *p, int64_t t_ms, const double v[COL_COUNT], ForeBitReader *r)
{
    if (!(v[COL_N] >= 1 && v[COL_N] <= MAX_COUNT) || v[COL_N] != floor(v[COL_N]) ||
        !(v[COL_MIN] <= v[COL_MEAN] && v[COL_MEAN] <= v[COL_MAX])) {
        return false;
    }
    fore_tier_point_init(p, t_ms);
    if (v[COL_MIN] == v[COL_MAX]) {
        fore_sketch_add(&p->sketch, v[COL_MIN]);
        p->sketch.n = (uint64_t)v[COL_N];
        p->sketch.bucket[0].count = (uint32_t)MIN((uint64_t)v[COL_N], (uint64_t)UINT32_MAX);
    } else if (!fore_sketch_read(&p->sketch, FORE_TIER_BUCKETS, r)) {
        return false;
    }
    p->n = (uint64_t)v[COL_N];
    p->min = v[COL_MIN];
    p->mean = v[COL_MEAN];
    p->max = v[COL_MAX];
    return true;
}

bool fore_tier_unpack(const void *data, size_t size, ForeTierPoint *ret, size_t *ret_n,
                      GError **error)
{
    int64_t t_ms[FORE_CHUNK_MAX];
    double col[COL_COUNT][FORE_TIER_BLOCK];
    size_t n = 0, times_size = 0;
    const uint8_t *times;
    ForeBitReader r;
    ForeCursor cur;

    fore_cursor_init(&cur, data, size);
    times = fore_cursor_sized16(&cur, &times_size);
    if (times == NULL || !fore_chunk_unpack_times(times, times_size, t_ms, &n, NULL) ||
        n > FORE_TIER_BLOCK) {
        return refuse(error, "no times", size);
    }
    for (int c = 0; c < COL_COUNT; c++) {
        if (!get_column(&cur, n, col[c])) {
            return refuse(error, "bad column", size);
        }
    }
    fore_bit_reader_init(&r, cur.at, cur.left);
    for (size_t i = 0; i < n; i++) {
        const double v[COL_COUNT] = {col[COL_N][i], col[COL_MIN][i], col[COL_MEAN][i],
                                     col[COL_MAX][i]};

        if (!make_point(&ret[i], t_ms[i], v, &r)) {
            return refuse(error, "bad point", size);
        }
    }
    if (!fore_bit_reader_finished(&r)) {
        return refuse(error, "cut short or too long", size);
    }
    *ret_n = n;
    return true;
}

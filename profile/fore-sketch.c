/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works
 *
 * With gamma = (1 + a) / (1 - a), a positive value v lies in bucket i = ceil(log v / log gamma),
 * that is gamma^(i-1) < v <= gamma^i, and 2 gamma^i / (gamma + 1) is within a of all of it.  A
 * collapse merges buckets 2j-1 and 2j to j and squares gamma; a becomes (gamma - 1) / (gamma + 1)
 * of the new one.  So the level says the error, and sketches of two levels merge after the finer
 * has been collapsed.  Keys put the three stores in one order: negative values (mirrored), 0,
 * positive ones.
 *
 * Left out: the one unit in the last place by which log() may differ between machines: a value on
 * the edge of a bucket may count in its neighbour.
 */
#include "profile/fore-sketch.h"

#include <float.h>
#include <glib.h>
#include <math.h>
#include <string.h>

#define OFFSET     65536 /* above every index, so that keys of one sign never reach 0 */
#define INDEX_MAX  36000 /* ceil(log(DBL_MAX) / log gamma) is 35,489 */
#define COUNT_BITS 6     /* of the number of buckets - 1 */
#define KEY_BITS   18    /* of a zigzagged key */

G_STATIC_ASSERT(FORE_SKETCH_ROOM == 1 << COUNT_BITS && INDEX_MAX < OFFSET);

static double log_gamma(unsigned level)
{
    return ldexp(log1p(FORE_SKETCH_ERROR) - log1p(-FORE_SKETCH_ERROR), (int)level);
}

/* ceil(i / 2^level), of either sign */
static int32_t coarser(int32_t i, unsigned level)
{
    int32_t width = 1 << level; /* level is at most 30: an index has 31 bits */

    return i > 0 ? (i - 1) / width + 1 : -(-i / width);
}

static int32_t key_of_index(int32_t i, bool negative)
{
    return negative ? -(i + OFFSET) : i + OFFSET;
}

static int32_t index_of_key(int32_t key)
{
    return (key < 0 ? -key : key) - OFFSET;
}

static int32_t collapse_key(int32_t key, unsigned levels)
{
    return key == 0 ? 0 : key_of_index(coarser(index_of_key(key), levels), key < 0);
}

void fore_sketch_init(ForeSketch *sketch, unsigned limit)
{
    g_assert(limit >= FORE_SKETCH_LEAST && limit <= FORE_SKETCH_ROOM);
    sketch->limit = (uint8_t)limit;
    sketch->level = 0;
    sketch->used = 0;
    sketch->n = 0;
}

static uint32_t add_counts(uint32_t a, uint32_t b)
{
    return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

static void collapse(ForeSketch *s, unsigned levels)
{
    unsigned used = 0;

    for (unsigned i = 0; i < s->used; i++) {
        int32_t key = collapse_key(s->bucket[i].key, levels);

        if (used > 0 && s->bucket[used - 1].key == key) {
            s->bucket[used - 1].count = add_counts(s->bucket[used - 1].count, s->bucket[i].count);
        } else {
            s->bucket[used++] = (ForeSketchBucket){key, s->bucket[i].count};
        }
    }
    s->used = (uint16_t)used;
    s->level = (uint8_t)(s->level + levels);
}

/* Where @key is or belongs */
static unsigned find(const ForeSketch *s, int32_t key)
{
    unsigned low = 0, high = s->used;

    while (low < high) {
        unsigned mid = (low + high) / 2;

        if (s->bucket[mid].key < key) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* @key: of @level, at most that of @s */
static void add_key(ForeSketch *s, int32_t key, unsigned level, uint32_t count)
{
    for (;;) {
        int32_t mine = collapse_key(key, s->level - level);
        unsigned at = find(s, mine);

        if (at < s->used && s->bucket[at].key == mine) {
            s->bucket[at].count = add_counts(s->bucket[at].count, count);
            return;
        }
        if (s->used < s->limit) {
            memmove(&s->bucket[at + 1], &s->bucket[at], (s->used - at) * sizeof(s->bucket[0]));
            s->bucket[at] = (ForeSketchBucket){mine, count};
            s->used++;
            return;
        }
        /* At FORE_SKETCH_LEVEL there are at most 5 keys, fewer than FORE_SKETCH_LEAST. */
        g_assert(s->level < FORE_SKETCH_LEVEL);
        collapse(s, 1);
    }
}

void fore_sketch_add(ForeSketch *s, double value)
{
    double size = fabs(value);

    g_assert(isfinite(value));
    s->n++;
    if (size < DBL_MIN) {
        add_key(s, 0, 0, 1);
    } else {
        add_key(s, key_of_index((int32_t)ceil(log(size) / log_gamma(0)), value < 0), 0, 1);
    }
}

void fore_sketch_merge(ForeSketch *into, const ForeSketch *from)
{
    g_assert(from != into);
    if (from->level > into->level) {
        collapse(into, from->level - into->level);
    }
    for (unsigned i = 0; i < from->used; i++) {
        add_key(into, from->bucket[i].key, from->level, from->bucket[i].count);
    }
    into->n += from->n;
}

double fore_sketch_error(const ForeSketch *s)
{
    return tanh(log_gamma(s->level) / 2); /* (gamma - 1) / (gamma + 1) */
}

static double value_of(const ForeSketch *s, int32_t key)
{
    double lg = log_gamma(s->level), size;

    if (key == 0) {
        return 0;
    }
    /* 2 gamma^i / (gamma + 1) == (1 - a) gamma^i, by logarithms lest it overflow on the way */
    size = exp(fmin((double)index_of_key(key) * lg + log1p(-fore_sketch_error(s)), log(DBL_MAX)));
    size = fmin(size, DBL_MAX);
    return key < 0 ? -size : size;
}

double fore_sketch_quantile(const ForeSketch *s, double q)
{
    double rank = fmin(fmax(q, 0), 1) * (double)(s->n > 0 ? s->n - 1 : 0);
    double below = 0;

    for (unsigned i = 0; i < s->used; i++) {
        below += s->bucket[i].count;
        if (below > rank || i + 1 == s->used) {
            return value_of(s, s->bucket[i].key);
        }
    }
    return NAN;
}

void fore_sketch_write(const ForeSketch *s, ForeBitWriter *w)
{
    ForeRice steps, counts;

    g_assert(s->used > 0);
    fore_bit_put(w, s->used - 1u, COUNT_BITS);
    fore_bit_put(w, s->level, 5);
    fore_bit_put(w, fore_zigzag((uint64_t)(int64_t)s->bucket[0].key), KEY_BITS);
    fore_rice_init(&steps);
    fore_rice_init(&counts);
    for (unsigned i = 0; i < s->used; i++) {
        if (i > 0) {
            fore_rice_put(&steps, w,
                          (uint64_t)((int64_t)s->bucket[i].key - s->bucket[i - 1].key - 1));
        }
        fore_rice_put(&counts, w, s->bucket[i].count - 1u);
    }
}

static bool key_is_possible(int64_t key, unsigned level)
{
    int64_t bound = coarser(INDEX_MAX, level) + 1, i;

    if (key == 0) {
        return true;
    }
    i = (key < 0 ? -key : key) - OFFSET;
    return i >= -bound && i <= bound;
}

bool fore_sketch_read(ForeSketch *ret, unsigned limit, ForeBitReader *r)
{
    ForeRice steps, counts;
    unsigned used;
    int64_t key;

    fore_sketch_init(ret, limit);
    used = (unsigned)fore_bit_get(r, COUNT_BITS) + 1;
    ret->level = (uint8_t)fore_bit_get(r, 5);
    key = (int64_t)fore_unzigzag(fore_bit_get(r, KEY_BITS));
    if (!fore_bit_reader_ok(r) || used > limit || ret->level > FORE_SKETCH_LEVEL) {
        return false;
    }
    fore_rice_init(&steps);
    fore_rice_init(&counts);
    for (unsigned i = 0; i < used; i++) {
        uint64_t step = i > 0 ? fore_rice_get(&steps, r) : 0;
        uint64_t count = fore_rice_get(&counts, r);

        if (!fore_bit_reader_ok(r) || step > 2 * (OFFSET + INDEX_MAX) || count >= UINT32_MAX) {
            return false;
        }
        key += i > 0 ? (int64_t)step + 1 : 0;
        if (!key_is_possible(key, ret->level)) {
            return false;
        }
        ret->bucket[i] = (ForeSketchBucket){(int32_t)key, (uint32_t)count + 1};
        ret->n += ret->bucket[i].count;
        ret->used++;
    }
    return true;
}

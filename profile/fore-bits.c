/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "profile/fore-bits.h"

#define RICE_ESCAPE  24u /* so many ones: the value follows in plain bits */
#define RICE_SUM_CAP (G_GUINT64_CONSTANT(1) << 48) /* keeps the running sum from overflowing */
#define RICE_OUTLIER G_GUINT64_CONSTANT(12)
#define RICE_WINDOW  32u /* then halve: the mean follows the recent past */

void fore_bit_writer_init(ForeBitWriter *w, GByteArray *out)
{
    w->out = out;
    w->acc = 0;
    w->n = 0;
}

static void put_few(ForeBitWriter *w, uint64_t v, unsigned n)
{
    w->acc = (w->acc << n) | (v & ((G_GUINT64_CONSTANT(1) << n) - 1));
    w->n += n;
    while (w->n >= 8) {
        uint8_t byte = (uint8_t)(w->acc >> (w->n - 8));
        g_byte_array_append(w->out, &byte, 1);
        w->n -= 8;
    }
}

void fore_bit_put(ForeBitWriter *w, uint64_t v, unsigned n)
{
    g_assert(n <= 64);
    if (n > 32) {
        put_few(w, v >> 32, n - 32);
        n = 32;
    }
    put_few(w, v, n);
}

void fore_bit_writer_finish(ForeBitWriter *w)
{
    if (w->n > 0) {
        put_few(w, 0, 8 - w->n);
    }
}

void fore_bit_reader_init(ForeBitReader *r, const void *data, size_t size)
{
    /* Far above any chunk, and bits_left cannot overflow. */
    bool sane = size < (SIZE_MAX >> 4);

    r->at = data;
    r->bits_left = sane ? size * 8 : 0;
    r->bit = 0;
    r->poisoned = !sane;
}

uint64_t fore_bit_get(ForeBitReader *r, unsigned n)
{
    uint64_t v = 0;

    g_assert(n <= 64);
    if (r->poisoned || n > r->bits_left) {
        r->poisoned = true;
        return 0;
    }
    r->bits_left -= n;
    while (n > 0) {
        unsigned take = MIN(n, 8 - r->bit);
        unsigned bits = ((unsigned)*r->at >> (8 - r->bit - take)) & ((1u << take) - 1);

        v = (v << take) | bits;
        n -= take;
        r->bit += take;
        if (r->bit == 8) {
            r->bit = 0;
            r->at++;
        }
    }
    return v;
}

bool fore_bit_reader_ok(const ForeBitReader *r)
{
    return !r->poisoned;
}

bool fore_bit_reader_finished(ForeBitReader *r)
{
    return !r->poisoned && r->bits_left < 8 && fore_bit_get(r, (unsigned)r->bits_left) == 0;
}

void fore_rice_init(ForeRice *rice)
{
    rice->sum = 4;
    rice->n = 1;
}

static unsigned parameter(const ForeRice *rice)
{
    unsigned k = 0;

    while (((uint64_t)rice->n << k) < rice->sum) {
        k++; /* ends: sum < 2^54, n >= 1 */
    }
    return k;
}

static void learn(ForeRice *rice, uint64_t v, unsigned k)
{
    /* An outlier counts as RICE_OUTLIER times the mean: one jump does not make the rest dear. */
    rice->sum += MIN(v, MIN(RICE_OUTLIER << k, RICE_SUM_CAP));
    rice->n++;
    if (rice->n >= RICE_WINDOW) {
        rice->sum >>= 1;
        rice->n >>= 1;
    }
}

void fore_rice_put(ForeRice *rice, ForeBitWriter *w, uint64_t v)
{
    unsigned k = parameter(rice);
    uint64_t q = v >> k;

    if (q < RICE_ESCAPE) {
        fore_bit_put(w, (G_GUINT64_CONSTANT(2) << q) - 2, (unsigned)q + 1); /* q ones, a zero */
        fore_bit_put(w, v, k);
    } else {
        unsigned len = 64 - (unsigned)__builtin_clzll(v);

        fore_bit_put(w, (1u << RICE_ESCAPE) - 1, RICE_ESCAPE);
        fore_bit_put(w, len - 1, 6);
        fore_bit_put(w, v, len);
    }
    learn(rice, v, k);
}

uint64_t fore_rice_get(ForeRice *rice, ForeBitReader *r)
{
    unsigned k = parameter(rice);
    uint64_t q = 0, v;

    while (q < RICE_ESCAPE && fore_bit_get(r, 1) == 1) {
        q++;
    }
    if (q < RICE_ESCAPE) {
        v = (q << k) | fore_bit_get(r, k);
    } else {
        unsigned len = (unsigned)fore_bit_get(r, 6) + 1;

        v = fore_bit_get(r, len);
    }
    learn(rice, v, k);
    return v;
}

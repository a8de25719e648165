/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "profile/fore-bits.h"

#include <string.h>

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
    r->poisoned = size > SIZE_MAX / 8; /* then bits could not be counted */
    r->data = data;
    r->size = r->poisoned ? 0 : size;
    r->at = 0;
}

static size_t bits_left(const ForeBitReader *r)
{
    return r->size * 8 - r->at;
}

/* The next bits, first one highest, at least 57 of them real where so many are left, zeros behind
 * the end */
static uint64_t peek(const ForeBitReader *r)
{
    size_t byte = r->at / 8;
    uint64_t v = 0;

    if (r->size - byte >= 8) {
        memcpy(&v, r->data + byte, 8);
        v = GUINT64_FROM_BE(v);
    } else {
        for (size_t i = byte; i < r->size; i++) {
            v |= (uint64_t)r->data[i] << (56 - 8 * (i - byte));
        }
    }
    return v << (r->at % 8);
}

uint64_t fore_bit_get(ForeBitReader *r, unsigned n)
{
    uint64_t high = 0, v;

    g_assert(n <= 64);
    if (r->poisoned || n > bits_left(r)) {
        r->poisoned = true;
        return 0;
    }
    if (n > 32) {
        high = fore_bit_get(r, n - 32) << 32;
        n = 32;
    }
    v = n > 0 ? peek(r) >> (64 - n) : 0;
    r->at += n;
    return high | v;
}

bool fore_bit_reader_ok(const ForeBitReader *r)
{
    return !r->poisoned;
}

bool fore_bit_reader_finished(ForeBitReader *r)
{
    return !r->poisoned && bits_left(r) < 8 && fore_bit_get(r, (unsigned)bits_left(r)) == 0;
}

void fore_rice_init(ForeRice *rice)
{
    rice->sum = 4;
    rice->n = 1;
}

static unsigned bit_length(uint64_t v)
{
    return v == 0 ? 0 : 64 - (unsigned)__builtin_clzll(v);
}

/* Smallest k with n << k >= sum: that of the lengths, or one more.  sum < 2^54, n >= 1 */
static unsigned parameter(const ForeRice *rice)
{
    unsigned len_sum = bit_length(rice->sum), len_n = bit_length(rice->n);
    unsigned k = len_sum > len_n ? len_sum - len_n : 0;

    return k + (((uint64_t)rice->n << k) < rice->sum);
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
        unsigned len = bit_length(v);

        fore_bit_put(w, (1u << RICE_ESCAPE) - 1, RICE_ESCAPE);
        fore_bit_put(w, len - 1, 6);
        fore_bit_put(w, v, len);
    }
    learn(rice, v, k);
}

uint64_t fore_rice_get(ForeRice *rice, ForeBitReader *r)
{
    unsigned k = parameter(rice);
    uint64_t ones = ~(r->poisoned ? 0 : peek(r));
    unsigned q = ones == 0 ? 64 : (unsigned)__builtin_clzll(ones);
    uint64_t v;

    q = MIN(q, RICE_ESCAPE);
    (void)fore_bit_get(r, q < RICE_ESCAPE ? q + 1 : RICE_ESCAPE); /* with the zero that ends them */
    if (q < RICE_ESCAPE) {
        v = ((uint64_t)q << k) | fore_bit_get(r, k);
    } else {
        unsigned len = (unsigned)fore_bit_get(r, 6) + 1;

        v = fore_bit_get(r, len);
    }
    learn(rice, v, k);
    return v;
}

/* Four bits at a time: the remainder of each nibble times x^32, polynomial 0x1edc6f41 reflected */
uint32_t fore_crc32c(const void *data, size_t size)
{
    static const uint32_t table[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
                                       0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                                       0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                       0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    const uint8_t *byte = data;
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < size; i++) {
        crc ^= byte[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

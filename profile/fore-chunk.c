/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works
 *
 * A column is a bit stream: kind (4 bits), n - 1 (10 bits), a body, zero padding to a byte.
 *
 * STEADY    first instant (64 bits) and one step (length in 6 bits, bits): all steps are equal.
 *
 * TIMES     first instant (64 bits), then the zigzagged delta of delta of each in the adaptive Rice
 * code.
 *
 * Values start with one bit: 1, all are present; 0, a bitmap of n bits follows.  Absent ones take
 * no further room.  Then one of CONST     one value (64 bits), all present ones are equal. DECIMAL
 * measurements mostly are short decimals or counts: v == i / 10^e with one e for the column. e (4
 * bits), the smallest i and the greatest common divisor g of i - smallest, each as length (6 bits)
 * and bits, then (i - smallest) / g in the Rice code: plain, or the zigzagged difference to the one
 * before, whichever is shorter.  i and 10^e are exact doubles, so the division rounds once and
 * gives the same bits on every machine; the encoder checks each value. XOR       anything else, as
 * in Gorilla (Pelkonen and others, VLDB 2015, section 4.1.2): XOR with the value before; 0, or 10
 * and the meaningful bits of the window in use, or 11, leading zeros (5 bits), length - 1 (6 bits),
 * bits.
 *
 * Left out: searching e per value (ALP), dictionary coding.  Both were not needed to pass under 2
 * bytes a value on the public traces (docs/decisions/0003-store-layout.md).
 */
#include "profile/fore-chunk.h"

#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "profile/fore-bits.h"

enum { KIND_TIMES = 1, KIND_CONST, KIND_DECIMAL, KIND_DECIMAL_DELTA, KIND_XOR, KIND_STEADY };

#define KIND_BITS   4
#define COUNT_BITS  10 /* n - 1; FORE_CHUNK_MAX is 2^10 */
#define MAX_E       15
#define MAX_INTEGER (INT64_C(1) << 53)

G_STATIC_ASSERT(FORE_CHUNK_MAX == 1 << COUNT_BITS);

static const double pow10_table[MAX_E + 1] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                              1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};

static uint64_t bits_of(double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

static double double_of(uint64_t bits)
{
    double v;

    memcpy(&v, &bits, sizeof(v));
    return v;
}

static bool refuse(GError **error, const char *what, size_t size)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                "chunk of %zu bytes is not valid (%s); verify the store and restore it", size,
                what);
    return false;
}

static GByteArray *start_column(ForeBitWriter *w, unsigned kind, size_t n)
{
    GByteArray *out = g_byte_array_sized_new(64);

    fore_bit_writer_init(w, out);
    fore_bit_put(w, kind, KIND_BITS);
    fore_bit_put(w, n - 1, COUNT_BITS);
    return out;
}

/* --- instants --- */

static void put_sized(ForeBitWriter *w, uint64_t v)
{
    unsigned len = v == 0 ? 1 : 64 - (unsigned)__builtin_clzll(v);

    fore_bit_put(w, len - 1, 6);
    fore_bit_put(w, v, len);
}

static uint64_t get_sized(ForeBitReader *r)
{
    unsigned len = (unsigned)fore_bit_get(r, 6) + 1;

    return fore_bit_get(r, len);
}

GByteArray *fore_chunk_pack_times(const int64_t *t, size_t n)
{
    ForeBitWriter w;
    ForeRice rice;
    GByteArray *out;
    uint64_t delta = 0;
    bool steady = n > 1;

    g_assert(n >= 1 && n <= FORE_CHUNK_MAX);
    for (size_t i = 2; i < n && steady; i++) {
        steady = (uint64_t)t[i] - (uint64_t)t[i - 1] == (uint64_t)t[1] - (uint64_t)t[0];
    }
    out = start_column(&w, steady ? KIND_STEADY : KIND_TIMES, n);
    fore_bit_put(&w, (uint64_t)t[0], 64);
    if (steady) {
        put_sized(&w, fore_zigzag((uint64_t)t[1] - (uint64_t)t[0]));
        fore_bit_writer_finish(&w);
        return out;
    }
    fore_rice_init(&rice);
    for (size_t i = 1; i < n; i++) {
        uint64_t next = (uint64_t)t[i] - (uint64_t)t[i - 1];

        if (i == 1) {
            put_sized(&w, fore_zigzag(next));
        } else {
            fore_rice_put(&rice, &w, fore_zigzag(next - delta));
        }
        delta = next;
    }
    fore_bit_writer_finish(&w);
    return out;
}

bool fore_chunk_unpack_times(const void *data, size_t size, int64_t *ret_t, size_t *ret_n,
                             GError **error)
{
    ForeBitReader r;
    ForeRice rice;
    uint64_t at, delta = 0;
    unsigned kind;
    size_t n;

    fore_bit_reader_init(&r, data, size);
    kind = (unsigned)fore_bit_get(&r, KIND_BITS);
    n = (size_t)fore_bit_get(&r, COUNT_BITS) + 1;
    at = fore_bit_get(&r, 64);
    if (!fore_bit_reader_ok(&r) || (kind != KIND_TIMES && kind != KIND_STEADY)) {
        return refuse(error, "no time column", size);
    }
    ret_t[0] = (int64_t)at;
    fore_rice_init(&rice);
    for (size_t i = 1; i < n && fore_bit_reader_ok(&r); i++) {
        if (i == 1 || kind == KIND_TIMES) {
            delta += fore_unzigzag(i == 1 ? get_sized(&r) : fore_rice_get(&rice, &r));
        }
        at += delta;
        ret_t[i] = (int64_t)at;
    }
    if (!fore_bit_reader_finished(&r)) {
        return refuse(error, "time column cut short or too long", size);
    }
    *ret_n = n;
    return true;
}

/* --- values: what of them is there --- */

static void put_presence(ForeBitWriter *w, const double *v, size_t n, size_t n_present)
{
    fore_bit_put(w, n_present == n, 1);
    for (size_t i = 0; n_present != n && i < n; i++) {
        fore_bit_put(w, !isnan(v[i]), 1);
    }
}

/* Returns: how many are present; ret_present: [FORE_CHUNK_MAX] indices of them */
static size_t get_presence(ForeBitReader *r, size_t n, uint16_t *ret_present)
{
    bool all = fore_bit_get(r, 1) == 1;
    size_t m = 0;

    for (size_t i = 0; i < n; i++) {
        if (all || fore_bit_get(r, 1) == 1) {
            ret_present[m++] = (uint16_t)i;
        }
    }
    return m;
}

/* --- values: decimals --- */

typedef struct {
    unsigned e;
    int64_t least;
    uint64_t divisor;               /* 0 when all are equal, which CONST takes */
    uint64_t steps[FORE_CHUNK_MAX]; /* (i - least) / divisor */
} Decimals;

static bool as_integer(double v, unsigned e, int64_t *ret_i)
{
    double scaled = v * pow10_table[e];
    int64_t i;

    if (!(fabs(scaled) < (double)MAX_INTEGER)) {
        return false;
    }
    i = (int64_t)llrint(scaled);
    if (bits_of((double)i / pow10_table[e]) != bits_of(v)) {
        return false; /* also sends -0.0 to XOR */
    }
    *ret_i = i;
    return true;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* @v: [m] present values.  Returns: false when they are no short decimals */
static bool find_decimals(const double *v, size_t m, Decimals *ret)
{
    int64_t ints[FORE_CHUNK_MAX];

    ret->e = 0;
    for (size_t i = 0; i < m; i++) {
        while (!as_integer(v[i], ret->e, &ints[i])) {
            if (++ret->e > MAX_E) {
                return false;
            }
        }
    }
    ret->least = INT64_MAX;
    for (size_t i = 0; i < m; i++) { /* again: e may have grown after the value was seen */
        if (!as_integer(v[i], ret->e, &ints[i])) {
            return false;
        }
        ret->least = MIN(ret->least, ints[i]);
    }
    ret->divisor = 0;
    for (size_t i = 0; i < m; i++) {
        ret->steps[i] = (uint64_t)ints[i] - (uint64_t)ret->least;
        ret->divisor = common_divisor(ret->steps[i], ret->divisor);
    }
    for (size_t i = 0; ret->divisor > 1 && i < m; i++) {
        ret->steps[i] /= ret->divisor;
    }
    return true;
}

static void put_decimals(ForeBitWriter *w, const Decimals *d, size_t m, bool delta)
{
    ForeRice rice;
    uint64_t before = 0;

    fore_bit_put(w, d->e, 4);
    put_sized(w, fore_zigzag((uint64_t)d->least));
    put_sized(w, d->divisor);
    fore_rice_init(&rice);
    for (size_t i = 0; i < m; i++) {
        fore_rice_put(&rice, w, delta ? fore_zigzag(d->steps[i] - before) : d->steps[i]);
        before = d->steps[i];
    }
}

static bool get_decimals(ForeBitReader *r, double *v, size_t m, bool delta)
{
    unsigned e = (unsigned)fore_bit_get(r, 4);
    uint64_t least = fore_unzigzag(get_sized(r));
    uint64_t divisor = get_sized(r);
    uint64_t step = 0;
    ForeRice rice;

    fore_rice_init(&rice);
    for (size_t i = 0; i < m && fore_bit_reader_ok(r); i++) {
        uint64_t z = fore_rice_get(&rice, r);
        int64_t whole;

        step = delta ? step + fore_unzigzag(z) : z;
        whole =
            (int64_t)(least + step * divisor); /* wraps on hostile bytes, then the bound refuses */
        if (whole <= -MAX_INTEGER || whole >= MAX_INTEGER) {
            return false;
        }
        v[i] = (double)whole / pow10_table[e];
    }
    return true;
}

/* --- values: XOR --- */

static void put_xor(ForeBitWriter *w, const double *v, size_t m)
{
    unsigned lead = 0, len = 0; /* the window in use; len 0: none yet */
    uint64_t before = bits_of(v[0]);

    fore_bit_put(w, before, 64);
    for (size_t i = 1; i < m; i++) {
        uint64_t x = bits_of(v[i]) ^ before;
        unsigned x_lead, x_tail;

        before ^= x;
        if (x == 0) {
            fore_bit_put(w, 0, 1);
            continue;
        }
        x_lead = MIN((unsigned)__builtin_clzll(x), 31u);
        x_tail = (unsigned)__builtin_ctzll(x);
        if (len > 0 && x_lead >= lead && x_tail >= 64 - lead - len) {
            fore_bit_put(w, 2, 2);
        } else {
            lead = x_lead;
            len = 64 - x_lead - x_tail;
            fore_bit_put(w, 3, 2);
            fore_bit_put(w, lead, 5);
            fore_bit_put(w, len - 1, 6);
        }
        fore_bit_put(w, x >> (64 - lead - len), len);
    }
}

static bool get_xor(ForeBitReader *r, double *v, size_t m)
{
    unsigned lead = 0, len = 0;
    uint64_t bits = fore_bit_get(r, 64);

    for (size_t i = 0; i < m && fore_bit_reader_ok(r); i++) {
        if (i > 0 && fore_bit_get(r, 1) == 1) {
            if (fore_bit_get(r, 1) == 1) {
                lead = (unsigned)fore_bit_get(r, 5);
                len = (unsigned)fore_bit_get(r, 6) + 1;
            }
            if (len == 0 || lead + len > 64) {
                return false;
            }
            bits ^= fore_bit_get(r, len) << (64 - lead - len);
        }
        v[i] = double_of(bits);
        if (!isfinite(v[i])) {
            return false;
        }
    }
    return true;
}

/* --- values: the column --- */

static GByteArray *pack_as(unsigned kind, const double *all, size_t n, const double *v, size_t m,
                           const Decimals *d)
{
    ForeBitWriter w;
    GByteArray *out = start_column(&w, kind, n);

    put_presence(&w, all, n, m);
    if (kind == KIND_CONST) {
        fore_bit_put(&w, bits_of(v[0]), 64);
    } else if (kind == KIND_XOR) {
        put_xor(&w, v, m);
    } else {
        put_decimals(&w, d, m, kind == KIND_DECIMAL_DELTA);
    }
    fore_bit_writer_finish(&w);
    return out;
}

GByteArray *fore_chunk_pack_values(const double *v, size_t n)
{
    double there[FORE_CHUNK_MAX];
    g_autoptr(GByteArray) plain = NULL;
    g_autoptr(GByteArray) delta = NULL;
    g_autofree Decimals *d = NULL;
    size_t m = 0;
    bool equal = true;

    g_assert(n >= 1 && n <= FORE_CHUNK_MAX);
    for (size_t i = 0; i < n; i++) {
        if (!isnan(v[i])) {
            g_assert(isfinite(v[i]));
            there[m++] = v[i];
            equal = equal && bits_of(there[m - 1]) == bits_of(there[0]);
        }
    }
    if (m == 0) {
        return NULL;
    }
    if (equal) {
        return pack_as(KIND_CONST, v, n, there, m, NULL);
    }
    d = g_new(Decimals, 1);
    if (!find_decimals(there, m, d)) {
        return pack_as(KIND_XOR, v, n, there, m, NULL);
    }
    plain = pack_as(KIND_DECIMAL, v, n, there, m, d);
    delta = pack_as(KIND_DECIMAL_DELTA, v, n, there, m, d);
    return plain->len <= delta->len ? g_steal_pointer(&plain) : g_steal_pointer(&delta);
}

/* Returns: false on a kind or a body that no encoder writes */
static bool get_body(ForeBitReader *r, unsigned kind, double *v, size_t m)
{
    double first;

    switch (kind) {
    case KIND_CONST:
        first = double_of(fore_bit_get(r, 64));
        for (size_t i = 0; i < m; i++) {
            v[i] = first;
        }
        return isfinite(first);
    case KIND_DECIMAL:
        return get_decimals(r, v, m, false);
    case KIND_DECIMAL_DELTA:
        return get_decimals(r, v, m, true);
    case KIND_XOR:
        return get_xor(r, v, m);
    default:
        return false;
    }
}

bool fore_chunk_unpack_values(const void *data, size_t size, double *ret_v, size_t *ret_n,
                              GError **error)
{
    uint16_t present[FORE_CHUNK_MAX];
    double there[FORE_CHUNK_MAX];
    ForeBitReader r;
    unsigned kind;
    size_t n, m;

    fore_bit_reader_init(&r, data, size);
    kind = (unsigned)fore_bit_get(&r, KIND_BITS);
    n = (size_t)fore_bit_get(&r, COUNT_BITS) + 1;
    m = get_presence(&r, n, present);
    if (!fore_bit_reader_ok(&r) || m == 0) {
        return refuse(error, "no value column", size);
    }
    if (!get_body(&r, kind, there, m)) {
        return refuse(error, "bad value column", size);
    }
    if (!fore_bit_reader_finished(&r)) {
        return refuse(error, "value column cut short or too long", size);
    }
    for (size_t i = 0; i < n; i++) {
        ret_v[i] = NAN;
    }
    for (size_t i = 0; i < m; i++) {
        ret_v[present[i]] = there[i];
    }
    *ret_n = n;
    return true;
}

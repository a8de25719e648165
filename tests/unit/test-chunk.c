/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "profile/fore-bits.h"
#include "profile/fore-chunk.h"

static uint64_t bits_of(double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

/* Packs, unpacks, compares bit by bit.  Returns: bytes of the column */
static size_t round_trip(const double *v, size_t n)
{
    g_autoptr(GByteArray) col = fore_chunk_pack_values(v, n);
    g_autoptr(GError) error = NULL;
    double back[FORE_CHUNK_MAX];
    size_t n_back = 0;

    g_assert_nonnull(col);
    g_assert_true(fore_chunk_unpack_values(col->data, col->len, back, &n_back, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(n_back, ==, n);
    for (size_t i = 0; i < n; i++) {
        if (isnan(v[i])) {
            g_assert_true(isnan(back[i]));
        } else {
            g_assert_cmphex(bits_of(back[i]), ==, bits_of(v[i]));
        }
    }
    return col->len;
}

static size_t round_trip_times(const int64_t *t, size_t n)
{
    g_autoptr(GByteArray) col = fore_chunk_pack_times(t, n);
    g_autoptr(GError) error = NULL;
    int64_t back[FORE_CHUNK_MAX];
    size_t n_back = 0;

    g_assert_true(fore_chunk_unpack_times(col->data, col->len, back, &n_back, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(n_back, ==, n);
    g_assert_cmpmem(back, n * sizeof(*t), t, n * sizeof(*t));
    return col->len;
}

static void test_rice(void)
{
    static const uint64_t odd[] = {0, 1, 23, 24, 1u << 30, UINT64_MAX, 0, 0, UINT64_MAX - 1, 7};
    g_autoptr(GByteArray) out = g_byte_array_new();
    ForeBitWriter w;
    ForeBitReader r;
    ForeRice rice;

    fore_bit_writer_init(&w, out);
    fore_rice_init(&rice);
    for (size_t i = 0; i < G_N_ELEMENTS(odd); i++) {
        fore_rice_put(&rice, &w, odd[i]);
    }
    fore_bit_writer_finish(&w);
    fore_bit_reader_init(&r, out->data, out->len);
    fore_rice_init(&rice);
    for (size_t i = 0; i < G_N_ELEMENTS(odd); i++) {
        g_assert_cmphex(fore_rice_get(&rice, &r), ==, odd[i]);
    }
    g_assert_true(fore_bit_reader_finished(&r));
    g_assert_cmphex(fore_bit_get(&r, 64), ==, 0);
    g_assert_false(fore_bit_reader_ok(&r));
}

static void test_times_steady(void)
{
    int64_t t[FORE_CHUNK_MAX];

    for (size_t i = 0; i < 240; i++) {
        t[i] = INT64_C(1700000000000) + (int64_t)i * 1000;
    }
    /* head 14 + 64 bits, first step escapes, then one bit a sample */
    g_assert_cmpuint(round_trip_times(t, 240), <=, 60);
}

static void test_times_any(void)
{
    static const int64_t odd[] = {INT64_MIN, INT64_MAX, 0, -1, 5, 5, 5, 4, INT64_MIN};
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    int64_t t[FORE_CHUNK_MAX];

    for (size_t i = 0; i < FORE_CHUNK_MAX; i++) {
        t[i] = (int64_t)(((uint64_t)g_rand_int(rand) << 32) | g_rand_int(rand));
    }
    round_trip_times(odd, G_N_ELEMENTS(odd));
    round_trip_times(t, FORE_CHUNK_MAX);
    round_trip_times(t, 1);
}

static void test_values_exact(void)
{
    static const double odd[] = {0.0,     -0.0,      1.0,
                                 -1.0,    0.1,       1e-300,
                                 1.7e308, -4.9e-324, 9007199254740992.0,
                                 1e15,    1e-15,     3.141592653589793};
    g_autoptr(GRand) rand = g_rand_new_with_seed(2);
    double v[FORE_CHUNK_MAX];

    round_trip(odd, G_N_ELEMENTS(odd));
    for (size_t i = 0; i < G_N_ELEMENTS(odd); i++) {
        round_trip(&odd[i], 1);
    }
    for (unsigned round = 0; round < 200; round++) {
        size_t n = (size_t)g_rand_int_range(rand, 1, FORE_CHUNK_MAX + 1);
        int e = g_rand_int_range(rand, -3, 8);

        for (size_t i = 0; i < n; i++) {
            v[i] = round % 2 == 0 ? g_rand_double_range(rand, -1e6, 1e6)
                                  : g_rand_int_range(rand, -100000, 100000) / pow(10, e);
            if (round % 3 == 0 && g_rand_int_range(rand, 0, 4) == 0) {
                v[i] = NAN;
            }
        }
        v[0] = 1.5; /* at least one */
        round_trip(v, n);
    }
}

static void test_values_small(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);
    double busy[240], bytes[240], same[240];

    for (size_t i = 0; i < 240; i++) {
        busy[i] = g_rand_int_range(rand, 180, 220) / 100.0;
        bytes[i] = 4096.0 * g_rand_int_range(rand, 100000, 100256);
        same[i] = 2.0;
    }
    g_assert_cmpuint(round_trip(busy, 240), <=,
                     240); /* 40 levels: 5.3 bits of entropy, under a byte */
    g_assert_cmpuint(round_trip(bytes, 240), <=, 320); /* 256 levels of a 4096 grid: 8 bits */
    g_assert_cmpuint(round_trip(same, 240), <=, 16);
}

static void test_values_absent(void)
{
    double v[3] = {NAN, NAN, NAN};

    g_assert_null(fore_chunk_pack_values(v, 3));
    v[1] = 7;
    round_trip(v, 3);
}

/* Every cut and every flipped bit: refused or other values, never a crash or a value that is
 * infinite. */
static void test_hostile(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(4);
    double v[100], back[FORE_CHUNK_MAX];
    size_t n = 0;

    for (unsigned form = 0; form < 3; form++) {
        g_autoptr(GByteArray) col = NULL;

        for (size_t i = 0; i < 100; i++) {
            v[i] = form == 0 ? g_rand_double(rand) : g_rand_int_range(rand, 0, 50) / 4.0;
            v[i] = form == 2 && i % 7 == 0 ? NAN : v[i];
        }
        col = fore_chunk_pack_values(v, 100);
        for (guint cut = 0; cut < col->len; cut++) {
            g_autoptr(GError) error = NULL;

            g_assert_false(fore_chunk_unpack_values(col->data, cut, back, &n, &error));
            g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
        }
        for (guint bit = 0; bit < col->len * 8; bit++) {
            col->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            if (fore_chunk_unpack_values(col->data, col->len, back, &n, NULL)) {
                for (size_t i = 0; i < n; i++) {
                    g_assert_false(isinf(back[i]));
                }
            }
            col->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
    }
}

static void test_trailing(void)
{
    static const int64_t t[] = {1, 2, 3};
    static const double v[] = {1, 2, 3};
    g_autoptr(GByteArray) times = fore_chunk_pack_times(t, 3);
    g_autoptr(GByteArray) values = fore_chunk_pack_values(v, 3);
    int64_t t_back[FORE_CHUNK_MAX];
    double v_back[FORE_CHUNK_MAX];
    size_t n = 0;

    /* One kind is not read as the other. */
    g_assert_false(fore_chunk_unpack_values(times->data, times->len, v_back, &n, NULL));
    g_assert_false(fore_chunk_unpack_times(values->data, values->len, t_back, &n, NULL));
    g_byte_array_append(times, (const uint8_t *)"", 1);
    g_byte_array_append(values, (const uint8_t *)"", 1);
    g_assert_false(fore_chunk_unpack_times(times->data, times->len, t_back, &n, NULL));
    g_assert_false(fore_chunk_unpack_values(values->data, values->len, v_back, &n, NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/profile/bits/rice-code-gives-every-integer-back", test_rice);
    g_test_add_func("/profile/chunk/a-steady-step-costs-a-bit", test_times_steady);
    g_test_add_func("/profile/chunk/any-instants-come-back", test_times_any);
    g_test_add_func("/profile/chunk/values-come-back-bit-by-bit", test_values_exact);
    g_test_add_func("/profile/chunk/measurements-compress", test_values_small);
    g_test_add_func("/profile/chunk/absent-stays-absent", test_values_absent);
    g_test_add_func("/profile/chunk/cut-or-flipped-bytes-are-harmless", test_hostile);
    g_test_add_func("/profile/chunk/trailing-bytes-are-refused", test_trailing);
    return g_test_run();
}

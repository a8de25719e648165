/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Chunk columns: any bytes are refused or decode to what packs and unpacks to the same again. */
#include <math.h>
#include <string.h>

#include "profile/fore-chunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_times(const uint8_t *data, size_t size)
{
    int64_t t[FORE_CHUNK_MAX], again[FORE_CHUNK_MAX];
    g_autoptr(GByteArray) col = NULL;
    size_t n = 0, n_again = 0;

    if (!fore_chunk_unpack_times(data, size, t, &n, NULL)) {
        return;
    }
    col = fore_chunk_pack_times(t, n);
    g_assert_true(fore_chunk_unpack_times(col->data, col->len, again, &n_again, NULL));
    g_assert_cmpmem(t, n * sizeof(*t), again, n_again * sizeof(*t));
}

static void check_values(const uint8_t *data, size_t size)
{
    double v[FORE_CHUNK_MAX], again[FORE_CHUNK_MAX];
    g_autoptr(GByteArray) col = NULL;
    size_t n = 0, n_again = 0;

    if (!fore_chunk_unpack_values(data, size, v, &n, NULL)) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        g_assert_false(isinf(v[i]));
    }
    col = fore_chunk_pack_values(v, n);
    g_assert_nonnull(col);
    g_assert_true(fore_chunk_unpack_values(col->data, col->len, again, &n_again, NULL));
    g_assert_cmpmem(v, n * sizeof(*v), again, n_again * sizeof(*v));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_times(data, size);
    check_values(data, size);
    return 0;
}

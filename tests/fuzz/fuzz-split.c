/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The index and the CSV of recorded traces: what is before the first NUL is the index, the rest is
 * read as the CSV of each trace it names. */
#include <stddef.h>
#include <string.h>

#include "forecast/fore-split.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *cut = size > 0 ? memchr(data, '\0', size) : NULL;
    size_t n_index = cut != NULL ? (size_t)(cut - data) : size;
    const char *csv = (const char *)data + n_index + (cut != NULL ? 1 : 0);
    size_t n_csv = size - n_index - (cut != NULL ? 1 : 0);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) traces = fore_split_read_index((const char *)data, n_index, &error);

    g_assert_true((traces == NULL) == (error != NULL));
    for (guint i = 0; traces != NULL && i < traces->len && i < 4; i++) {
        ForeTrace *trace = g_ptr_array_index(traces, i);
        g_autoptr(GError) bad = NULL;

        if (trace->n <= 4096) { /* larger grids only cost time here */
            bool ok = fore_split_read_csv(trace, csv, n_csv, &bad);

            g_assert_true(ok == (bad == NULL));
        }
    }
    return 0;
}

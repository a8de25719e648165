/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decoder of models over all series.  A real file is mostly numbers of the network, so these
 * are left out of the input: its first 52 bytes are the head of a model of one target and level,
 * then come zeros for the network, then the rest of the input, then the right checksum.  What
 * decodes must encode to the same bytes and forecast within bounds.
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "forecast/fore-series-model.h"

#define HEAD 52

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_decode(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeSeriesModel) model = fore_series_model_decode(data, size, &error);

    g_assert_true((model == NULL) == (error != NULL));
    if (model != NULL) {
        g_autoptr(GBytes) again = fore_series_model_encode(model);
        float x[FORE_SERIES_N_FEATURE] = {1.0f}, e[FORE_NET_MAX_E] = {2.0f};
        double q[FORE_SERIES_MAX_LEVEL];

        g_assert_cmpmem(data, size, g_bytes_get_data(again, NULL), g_bytes_get_size(again));
        for (unsigned t = 0; t < model->shape.n_target; t++) {
            fore_series_model_forest(model, t, x, e, q);
            for (unsigned k = 0; k < model->shape.n_level; k++) {
                g_assert_true(fabs(q[k]) <= 20.0 && (k == 0 || q[k] >= q[k - 1]));
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ForeNetShape shape = {.hidden = 1, .n_target = 1, .n_level = 1};
    size_t n = fore_net_layout(&shape).n * sizeof(float);
    g_autofree uint8_t *file = NULL;
    g_autoptr(GChecksum) sum = NULL;
    gsize len = 32;

    try_decode(data, size);
    if (size < HEAD || size > 65536) {
        return 0;
    }
    file = g_malloc0(size + n + 32);
    memcpy(file, data, HEAD);
    memcpy(file + HEAD + n, data + HEAD, size - HEAD);
    sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_checksum_update(sum, file, (gssize)(size + n));
    g_checksum_get_digest(sum, file + size + n, &len);
    try_decode(file, size + n + 32);
    return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The weights decoder.  Each input is tried as it is, and once more with its checksum put right,
 * for else no mutation would get past it.  What decodes must encode back to the same bytes and
 * forecast sanely.
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "forecast/fore-forecaster.h"
#include "forecast/fore-weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(ForeModel *model)
{
    g_autoptr(ForeForecaster) fc = fore_forecaster_new(model, FORE_NS_PER_S);

    for (unsigned t = 0; t < 4; t++) {
        ForeSample sample = {.mono_ns = t, .valid = t == 2 ? 0 : UINT32_MAX};
        ForeForecast ret;

        for (unsigned f = 0; f < FORE_FIELD_N; f++) {
            sample.value[f] = (t + 1.0) * (f + 1.0);
        }
        fore_forecaster_step(fc, &sample, &ret);
        for (unsigned h = 0; ret.valid && h < FORE_N_HORIZON; h++) {
            for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
                double q = ret.peak[FORE_RES_MEM][h][k];

                g_assert_true(isfinite(q) && q >= 0.0);
                g_assert_true(k == 0 || q >= ret.peak[FORE_RES_MEM][h][k - 1]);
            }
        }
    }
}

static void try_decode(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeModel) model = fore_model_decode(data, size, &error);

    g_assert_true((model == NULL) == (error != NULL));
    if (model != NULL) {
        g_autoptr(GBytes) again = fore_model_encode(model);

        g_assert_cmpmem(data, size, g_bytes_get_data(again, NULL), g_bytes_get_size(again));
        run(model);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_decode(data, size);
    if (size > 32 && size < 65536) {
        g_autofree uint8_t *copy = g_memdup2(data, size);
        g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
        gsize len = 32;

        g_checksum_update(sum, copy, (gssize)(size - 32));
        g_checksum_get_digest(sum, copy + size - 32, &len);
        try_decode(copy, size);
    }
    return 0;
}

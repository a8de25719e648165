/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The checkpoint decoder, with the fingerprint and the checksum put right, for else no mutation
 * would get past them.  What is taken must be taken whole: it encodes to the same bytes.
 */
#include <stddef.h>
#include <string.h>

#include "forecast/fore-trainer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PRINT_AT 12
#define SUM_LEN  32

static ForeTrainer *some_trainer(void)
{
    static ForeSample samples[64];
    static ForeTrainer *tr;
    ForeWindow window = {.samples = samples, .n = 64, .step_ns = FORE_NS_PER_S};
    ForeTrainConfig config = {.hidden = 1, .seed = 1};
    ForeFeatureNorm norm;

    if (tr == NULL) {
        for (unsigned t = 0; t < 64; t++) {
            samples[t].valid = 1u << FORE_FIELD_DEMAND_VCPU;
            samples[t].value[FORE_FIELD_DEMAND_VCPU] = 1.0 + t % 5;
        }
        fore_features_fit(&window, 1, &norm);
        tr = fore_trainer_new(&window, 1, &norm, &config);
    }
    return tr;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ForeTrainer *tr = some_trainer();
    g_autoptr(GError) error = NULL;
    g_autofree uint8_t *copy = g_memdup2(data, size);

    if (size > PRINT_AT + FORE_TRAIN_FINGERPRINT + SUM_LEN) {
        g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
        gsize len = SUM_LEN;

        memcpy(copy + PRINT_AT, tr->fingerprint, FORE_TRAIN_FINGERPRINT);
        g_checksum_update(sum, copy, (gssize)(size - SUM_LEN));
        g_checksum_get_digest(sum, copy + size - SUM_LEN, &len);
    }
    if (fore_checkpoint_restore(tr, copy, size, &error)) {
        g_autoptr(GBytes) again = fore_train_checkpoint(tr);

        g_assert_cmpuint(g_bytes_get_size(again), ==, size);
    } else {
        g_assert_nonnull(error);
    }
    return 0;
}

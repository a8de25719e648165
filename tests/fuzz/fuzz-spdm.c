/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A signed exchange of measurements, with its own bytes as certificate: never accepted. */
#include "vtpm/attest/fore-spdm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) exchange = g_bytes_new_static(data, size);
    g_autoptr(GBytes) value = fore_spdm_measurement(exchange, 2);
    ForeSpdmMeasurement listed = {.index = 2, .value = value != NULL ? value : exchange};
    ForeSpdmPolicy policy = {
        .root = exchange, .now_s = 1800000000, .measurements = &listed, .n_measurements = 1};

    g_assert(fore_spdm_judge(exchange, &exchange, 1, &policy,
                             size >= 36 ? data + 4 : (const uint8_t[32]){0}) != FORE_SPDM_OK);
    return 0;
}

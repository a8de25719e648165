/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Evidence of a node or guest, as JSON from outside: never affirming, whatever it says, without the
 * key. */
#include "common/fore-json.h"
#include "vtpm/attest/fore-pathway.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t nothing[32];
    g_autoptr(json_t) evidence =
        fore_json_parse((const char *)data, size, &fore_json_limits_guest, NULL);
    g_autoptr(GBytes) key = g_bytes_new_static(nothing, sizeof(nothing));
    ForeNodeExpect expect = {
        .id = "hv1",
        .role = FORE_ROLE_HYPERVISOR,
        .ak_public = key,
        .extra = key,
        .pcr_mask = 0x81,
        .allow_software_tpm = true,
    };
    ForeNodeResult result;

    fore_pathway_judge(&expect, evidence, &result);
    g_assert(result.verdict != FORE_VERDICT_AFFIRMING && result.n_reasons > 0);
    return 0;
}

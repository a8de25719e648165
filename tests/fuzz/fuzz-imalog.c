/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An IMA list, text or binary: judged against the PCR 10 that it itself leads to. */
#include <string.h>

#include "vtpm/attest/fore-imalog.h"
#include "vtpm/attest/fore-public.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ForeImaPolicy *policy(void)
{
    static ForeImaPolicy *made;
    static const uint8_t digest[32] = {1};

    if (made == NULL) {
        made = fore_ima_policy_new();
        g_assert(fore_ima_policy_allow(made, "/bin/sh", digest, 32, NULL));
        g_assert(fore_ima_policy_allow_buffer(made, ".ima", digest, 32, NULL));
        g_assert(fore_ima_policy_exclude(made, "/tmp/*a*b/**", NULL));
        fore_ima_policy_set(made, true, 16);
    }
    return made;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) list = g_bytes_new_static(data, size);
    g_autoptr(ForeImaState) state = fore_ima_state_new();
    ForeImaSlice slice = {.bytes = list};
    ForeImaResult result;
    uint8_t pcrs[24][32] = {{0}};

    (void)fore_ima_replay(list, FORE_ALG_SHA1, NULL, &result);
    if (fore_ima_replay(list, FORE_ALG_SHA256, pcrs[10], &result) == FORE_IMA_OK) {
        g_assert(result.consumed == size);
    }
    if (fore_ima_judge(state, policy(), &slice, (const uint8_t(*)[32])pcrs, &result) ==
        FORE_IMA_OK) {
        g_assert(result.proved && result.consumed <= size);
        g_assert(fore_ima_state_offset(state) == result.consumed);
    } else {
        g_assert(fore_ima_state_offset(state) == 0);
    }
    fore_ima_state_reset(state);
    slice.more = true;
    pcrs[10][0] ^= 1;
    (void)fore_ima_judge(state, policy(), &slice, (const uint8_t(*)[32])pcrs, &result);
    g_assert(!result.proved);
    /* The same bytes as a key and as a pattern. */
    {
        g_autoptr(ForeImaPolicy) own = fore_ima_policy_new();
        g_autofree char *text = g_strndup((const char *)data, MIN(size, 512));

        (void)fore_ima_policy_add_key(own, data, size, NULL);
        (void)fore_ima_policy_exclude(own, text, NULL);
    }
    return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TPMS_ATTEST and TPMT_SIGNATURE: two bytes give the length of the first, which they precede. First
 * as they are, which is never accepted; then the attest signed well by a key of our own, which
 * reaches the judge behind the signature.
 */
#include <glib.h>
#include <stdint.h>

#include "tests/lib/fore-test-key.h"
#include "vtpm/attest/fore-ak.h"
#include "vtpm/attest/fore-quote.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t pcrs[24][32];
    static const ForeTpmClock last = {.clock_ms = 900, .reset_count = 3, .restart_count = 1};
    static ForeTestKey key;
    static GBytes *ak, *signer;
    g_autoptr(GBytes) extra = g_bytes_new_static("\xaa\xbb", 2);
    g_autoptr(GBytes) attest = NULL, signature = NULL, own = NULL;
    ForeQuoteExpect expect = {.extra = extra, .pcr_mask = 7, .pcrs = pcrs, .last = &last};
    ForeQuoteInfo info;
    ForeQuoteReason reason;
    size_t first = 0;

    if (ak == NULL) {
        static const uint8_t name[34] = {0, 0x0b}; /* as the seeds have it */

        fore_test_key_init(&key, "P-256", FORE_ALG_ECDSA, FORE_ALG_SHA256);
        ak = fore_test_key_public(&key);
        signer = g_bytes_new_static(name, sizeof(name));
    }
    expect.ak_public = ak;
    expect.signer = signer;
    if (size >= 2) {
        first = MIN((size_t)data[0] << 8 | data[1], size - 2);
        attest = g_bytes_new(data + 2, first);
        signature = g_bytes_new(data + 2 + first, size - 2 - first);
    }
    reason = fore_quote_verify(&expect, attest, signature, &info);
    g_assert_cmpstr(fore_quote_reason_name(reason), !=, "ok");
    if (attest != NULL && reason != FORE_QUOTE_ATTEST_MALFORMED) {
        own = fore_test_key_sign(&key, attest);
        if (fore_quote_verify(&expect, attest, own, &info) == FORE_QUOTE_OK) {
            g_assert_true(info.rebooted || info.clock.clock_ms > last.clock_ms);
        }
    }
    return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TPMS_ATTEST of an NV index and TPMT_SIGNATURE: two bytes give the length of the first, which they
 * precede.  First as they are, which is never accepted; then the attest signed well by a key of our
 * own, which reaches the judge behind the signature.
 */
#include <glib.h>
#include <stdint.h>

#include "tests/lib/fore-test-key.h"
#include "vtpm/attest/fore-nvcert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ForeTestKey key;
    static GBytes *ak;
    g_autoptr(GBytes) extra = g_bytes_new_static("\xaa\xbb", 2);
    g_autoptr(GBytes) attest = NULL, signature = NULL, own = NULL;
    ForeNvcertExpect expect = {.extra = extra, .index = FORE_NVCERT_LAUNCHES, .by_boot = true};
    ForeTpmClock clock;
    uint8_t head[32];
    size_t first;

    if (ak == NULL) {
        fore_test_key_init(&key, "P-256", FORE_ALG_ECDSA, FORE_ALG_SHA256);
        ak = fore_test_key_public(&key);
    }
    expect.ak_public = ak;
    if (size < 2) {
        return 0;
    }
    first = MIN((size_t)data[0] << 8 | data[1], size - 2);
    attest = g_bytes_new(data + 2, first);
    signature = g_bytes_new(data + 2 + first, size - 2 - first);
    g_assert_cmpint(fore_nvcert_verify(&expect, attest, signature, head, &clock, NULL), !=,
                    FORE_NVCERT_OK);
    own = fore_test_key_sign(&key, attest);
    if (fore_nvcert_verify(&expect, attest, own, head, &clock, NULL) == FORE_NVCERT_OK) {
        g_assert_cmpuint(first, >=, 32 + 4); /* what was certified is in it */
    }
    return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Grants as a guest gets them.  First as they are (never accepted); then the input as claims that
 * the PAM really signed, which reaches the reader behind the signature.
 */
#include <glib.h>
#include <openssl/ec.h>
#include <stdint.h>

#include "vtpm/attest/fore-grant.h"
#include "vtpm/attest/fore-jws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static EVP_PKEY *key;
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autofree char *token = NULL;
    g_autoptr(json_t) claims =
        fore_json_parse((const char *)data, size, &fore_json_limits_guest, NULL);
    ForeGrantExpect expect = {
        .vm_uuid = "6f1d4c1e-0a52-4a8e-9d57-2f3c8b1a7e40",
        .ak_name = "000b00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        .last_seq = 7,
        .now_s = 1750000000,
    };
    ForeGrant grant;

    if (key == NULL) {
        key = EVP_EC_gen("P-256");
    }
    expect.pam_key = key;
    g_assert_cmpint(fore_grant_verify(text, &expect, &grant), !=, FORE_GRANT_OK);
    if (claims != NULL) {
        token = fore_jws_sign("foresee-grant+jwt", claims, key, NULL);
        if (token != NULL && fore_grant_verify(token, &expect, &grant) == FORE_GRANT_OK) {
            g_assert_cmpuint(grant.seq, >, expect.last_seq);
            g_assert_cmpuint(grant.vcpus, >, 0);
            g_assert_cmpuint(grant.vcpus, <=, FORE_GRANT_MAX_VCPUS);
            g_assert_cmpuint(grant.mem_bytes, <=, FORE_GRANT_MAX_MEM);
            g_assert_cmpuint(grant.n_nodes, <=, FORE_GRANT_MAX_NODES);
            g_assert_cmpstr(grant.vm_uuid, ==, expect.vm_uuid);
        }
    }
    return 0;
}

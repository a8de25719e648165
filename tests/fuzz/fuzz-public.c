/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TPM2B_PUBLIC, as an AK, as an EK, and as a parent */
#include <glib.h>
#include <stdint.h>

#include "vtpm/attest/fore-ak.h"
#include "vtpm/attest/fore-credential.h"
#include "vtpm/attest/fore-public.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(GBytes) name = fore_ak_name(bytes);
    g_autoptr(GBytes) qualified = fore_ak_qualified_name(bytes, bytes);
    g_autoptr(GBytes) secret = g_bytes_new_static("secret", 6), blob = NULL;
    static const guint8 seed[32] = {1};
    ForeAkReason reason = fore_ak_check(bytes, NULL);

    g_assert_true((name != NULL) == (qualified != NULL));
    g_assert_true(reason != FORE_AK_OK || name != NULL);
    if (name != NULL) {
        g_assert_cmpint(fore_ak_check(bytes, name), ==, reason);
        blob = fore_credential_make_seeded(bytes, name, secret, seed, sizeof(seed));
    }
    return 0;
}

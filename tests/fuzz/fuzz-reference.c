/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reference values from outside: the text that an operator reviews, and the document that the PAM
 * takes. What parses must survive a round trip, and nothing but what the key signed may be
 * accepted.
 */
#include <string.h>

#include "common/fore-identity.h"
#include "vtpm/attest/fore-rule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static EVP_PKEY *policy_key(void)
{
    static ForeIdentity *identity;

    if (identity == NULL) {
        identity = fore_identity_new("fuzz", NULL);
    }
    return fore_identity_key(identity);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(ForeReference) ref = fore_reference_parse((const char *)data, size, NULL);
    g_autofree char *jws = g_strndup((const char *)data, size);
    g_autoptr(ForeReference) forged = fore_reference_verify(jws, policy_key(), NULL);

    g_assert(forged == NULL);
    if (ref != NULL) {
        ForeRules *rules = fore_rules_compile(ref, NULL);
        g_autofree char *text = fore_reference_format(ref);
        g_autoptr(ForeReference) again = fore_reference_parse(text, strlen(text), NULL);
        g_autofree char *text_again = again != NULL ? fore_reference_format(again) : NULL;

        fore_rules_free(rules);
        g_assert(text_again != NULL && strcmp(text, text_again) == 0);
    }
    return 0;
}

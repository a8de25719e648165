/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/attest/fore-ak.h"

#include <string.h>

#include "common/fore-bytes.h"

/* TPM_RH_ENDORSEMENT, Part 2, 7.4 */
static const uint8_t endorsement[4] = {0x40, 0, 0, 0x0b};

/* Judged bits.  noDA, stClear and adminWithPolicy change nothing about what a signature proves. */
#define JUDGED                                                                                     \
    (FORE_OBJECT_FIXED_TPM | FORE_OBJECT_FIXED_PARENT | FORE_OBJECT_SENSITIVE_DATA_ORIGIN |        \
     FORE_OBJECT_USER_WITH_AUTH | FORE_OBJECT_ENCRYPTED_DUPLICATION | FORE_OBJECT_RESTRICTED |     \
     FORE_OBJECT_DECRYPT | FORE_OBJECT_SIGN)
#define WANTED                                                                                     \
    (FORE_OBJECT_FIXED_TPM | FORE_OBJECT_FIXED_PARENT | FORE_OBJECT_SENSITIVE_DATA_ORIGIN |        \
     FORE_OBJECT_USER_WITH_AUTH | FORE_OBJECT_RESTRICTED | FORE_OBJECT_SIGN)
#define KNOWN (JUDGED | FORE_OBJECT_ST_CLEAR | FORE_OBJECT_ADMIN_WITH_POLICY | FORE_OBJECT_NO_DA)

static const char *const names[] = {
    [FORE_AK_OK] = "ok",
    [FORE_AK_MALFORMED] = "ak-malformed",
    [FORE_AK_NAME_ALG] = "ak-name-algorithm",
    [FORE_AK_KEY_WEAK] = "ak-key-weak",
    [FORE_AK_KEY_INVALID] = "ak-key-invalid",
    [FORE_AK_ATTRIBUTES] = "ak-attributes",
    [FORE_AK_SCHEME] = "ak-scheme",
    [FORE_AK_NAME] = "ak-name-mismatch",
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == FORE_AK_N);

const char *fore_ak_reason_name(ForeAkReason reason)
{
    g_assert(reason < FORE_AK_N);
    return names[reason];
}

static ForeAkReason from_public(ForePublicReason reason)
{
    switch (reason) {
    case FORE_PUBLIC_OK:
        return FORE_AK_OK;
    case FORE_PUBLIC_NAME_ALG:
        return FORE_AK_NAME_ALG;
    case FORE_PUBLIC_WEAK:
        return FORE_AK_KEY_WEAK;
    case FORE_PUBLIC_INVALID:
        return FORE_AK_KEY_INVALID;
    default:
        return FORE_AK_MALFORMED;
    }
}

static bool scheme_fits(const ForePublic *pub)
{
    bool fits = pub->type == FORE_ALG_ECC
                    ? pub->scheme == FORE_ALG_ECDSA
                    : pub->scheme == FORE_ALG_RSASSA || pub->scheme == FORE_ALG_RSAPSS;

    return fits && (pub->scheme_hash == FORE_ALG_SHA256 || pub->scheme_hash == FORE_ALG_SHA384) &&
           pub->sym_alg == FORE_ALG_NULL;
}

ForeAkReason fore_ak_judge(const ForePublic *pub, GBytes *claimed_name)
{
    if ((pub->attributes & JUDGED) != WANTED || (pub->attributes & ~KNOWN) != 0) {
        return FORE_AK_ATTRIBUTES;
    }
    if (!scheme_fits(pub)) {
        return FORE_AK_SCHEME;
    }
    if (claimed_name != NULL &&
        (g_bytes_get_size(claimed_name) != pub->name_size ||
         memcmp(g_bytes_get_data(claimed_name, NULL), pub->name, pub->name_size) != 0)) {
        return FORE_AK_NAME;
    }
    return FORE_AK_OK;
}

ForeAkReason fore_ak_check(GBytes *ak_public, GBytes *claimed_name)
{
    g_auto(ForePublic) pub = {0};
    ForeAkReason reason = from_public(fore_public_init(&pub, ak_public));

    return reason == FORE_AK_OK ? fore_ak_judge(&pub, claimed_name) : reason;
}

GBytes *fore_ak_name(GBytes *ak_public)
{
    g_auto(ForePublic) pub = {0};

    if (fore_public_init(&pub, ak_public) != FORE_PUBLIC_OK) {
        return NULL;
    }
    return g_bytes_new(pub.name, pub.name_size);
}

char *fore_ak_name_hex(GBytes *ak_public)
{
    g_autoptr(GBytes) name = fore_ak_name(ak_public);

    return name != NULL ? fore_hex_encode(g_bytes_get_data(name, NULL), g_bytes_get_size(name))
                        : NULL;
}

/* QN = nameAlg || H(QN of the parent || name) */
static GBytes *extend_name(const uint8_t *parent, size_t n, const ForePublic *pub)
{
    uint8_t text[2 * FORE_NAME_BYTES], out[FORE_NAME_BYTES];
    unsigned size = 0;

    memcpy(text, parent, n);
    memcpy(text + n, pub->name, pub->name_size);
    memcpy(out, pub->name, 2);
    if (EVP_Digest(text, n + pub->name_size, out + 2, &size, fore_public_md(pub->name_alg), NULL) !=
        1) {
        return NULL;
    }
    return g_bytes_new(out, 2 + size);
}

GBytes *fore_ak_primary_name(const ForePublic *pub)
{
    return extend_name(endorsement, sizeof(endorsement), pub);
}

GBytes *fore_ak_qualified_name(GBytes *ak_public, GBytes *parent_public)
{
    g_auto(ForePublic) ak = {0};
    g_auto(ForePublic) parent = {0};
    g_autoptr(GBytes) above = NULL;

    if (fore_public_init(&ak, ak_public) != FORE_PUBLIC_OK) {
        return NULL;
    }
    if (parent_public == NULL) {
        return fore_ak_primary_name(&ak);
    }
    if (fore_public_init(&parent, parent_public) != FORE_PUBLIC_OK) {
        return NULL;
    }
    above = fore_ak_primary_name(&parent);
    return above != NULL ? extend_name(g_bytes_get_data(above, NULL), g_bytes_get_size(above), &ak)
                         : NULL;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/tpm/fore-tpm-sign.h"

#include <string.h>
#include <tss2/tss2_mu.h>

#include "common/fore-error.h"
#include "vtpm/tpm/fore-tpm-priv.h"

#define BLOB_VERSION 2 /* 1: sealed data */

static void fill_template(TPMT_PUBLIC *t)
{
    t->type = TPM2_ALG_ECC;
    t->nameAlg = TPM2_ALG_SHA256;
    /* not restricted: it signs digests that are made outside; noDA as for the other keys */
    t->objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                          TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH |
                          TPMA_OBJECT_NODA | TPMA_OBJECT_SIGN_ENCRYPT;
    t->parameters.eccDetail = (TPMS_ECC_PARMS){
        .symmetric.algorithm = TPM2_ALG_NULL,
        .scheme = {.scheme = TPM2_ALG_ECDSA, .details.ecdsa.hashAlg = TPM2_ALG_SHA256},
        .curveID = TPM2_ECC_NIST_P256,
        .kdf.scheme = TPM2_ALG_NULL,
    };
}

bool fore_tpm_sign_create(ForeTpm *tpm, GBytes **ret_blob, GError **error)
{
    g_auto(ForeTpmRef) session = FORE_TPM_REF(tpm);
    TPM2B_SENSITIVE_CREATE sensitive = {0};
    TPM2B_PUBLIC template = {0};
    TPM2B_DATA outside = {0};
    TPML_PCR_SELECTION no_pcrs = {0};
    FORE_ESYS_FREE TPM2B_PRIVATE *private = NULL;
    FORE_ESYS_FREE TPM2B_PUBLIC *public = NULL;
    uint8_t bytes[1 + sizeof(TPM2B_PUBLIC) + sizeof(TPM2B_PRIVATE)] = {BLOB_VERSION};
    size_t size = 1;
    TSS2_RC rc;

    fill_template(&template.publicArea);
    if (!fore_tpm_session(tpm, false, &session, error)) {
        return false;
    }
    rc = Esys_Create(tpm->esys, tpm->srk, session.tr, ESYS_TR_NONE, ESYS_TR_NONE, &sensitive,
                     &template, &outside, &no_pcrs, &private, &public, NULL, NULL, NULL);
    if (!fore_tpm_ok(tpm, rc, "making a signing key", error) ||
        !fore_tpm_ok(tpm, Tss2_MU_TPM2B_PUBLIC_Marshal(public, bytes, sizeof(bytes), &size),
                     "public part of a key", error) ||
        !fore_tpm_ok(tpm, Tss2_MU_TPM2B_PRIVATE_Marshal(private, bytes, sizeof(bytes), &size),
                     "private part of a key", error)) {
        return false;
    }
    *ret_blob = g_bytes_new(bytes, size);
    return true;
}

static bool parse_blob(GBytes *blob, TPM2B_PUBLIC *ret_public, TPM2B_PRIVATE *ret_private,
                       GError **error)
{
    gsize n = 0;
    const uint8_t *bytes = g_bytes_get_data(blob, &n);
    size_t at = 1;

    if (n < 2 || bytes[0] != BLOB_VERSION ||
        Tss2_MU_TPM2B_PUBLIC_Unmarshal(bytes, n, &at, ret_public) != TSS2_RC_SUCCESS ||
        Tss2_MU_TPM2B_PRIVATE_Unmarshal(bytes, n, &at, ret_private) != TSS2_RC_SUCCESS || at != n ||
        ret_public->publicArea.type != TPM2_ALG_ECC ||
        ret_public->publicArea.parameters.eccDetail.curveID != TPM2_ECC_NIST_P256) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "signing key blob of %zu bytes is damaged; restore it from a backup", n);
        return false;
    }
    return true;
}

/* Big-endian, of at most 32 bytes. */
static bool put_padded(const TPM2B_ECC_PARAMETER *value, uint8_t ret[32])
{
    if (value->size > 32) {
        return false;
    }
    memset(ret, 0, 32);
    memcpy(ret + 32 - value->size, value->buffer, value->size);
    return true;
}

bool fore_tpm_sign_public(GBytes *blob, uint8_t ret_x[32], uint8_t ret_y[32], GError **error)
{
    TPM2B_PUBLIC public = {0};
    TPM2B_PRIVATE private = {0};

    if (!parse_blob(blob, &public, &private, error)) {
        return false;
    }
    if (!put_padded(&public.publicArea.unique.ecc.x, ret_x) ||
        !put_padded(&public.publicArea.unique.ecc.y, ret_y)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "signing key blob: no P-256 point");
        return false;
    }
    return true;
}

bool fore_tpm_sign(ForeTpm *tpm, GBytes *blob, const uint8_t digest[32], uint8_t ret_raw[64],
                   GError **error)
{
    g_auto(ForeTpmRef) session = FORE_TPM_REF(tpm);
    g_auto(ForeTpmRef) object = FORE_TPM_REF(tpm);
    TPM2B_PUBLIC public = {0};
    TPM2B_PRIVATE private = {0};
    TPM2B_DIGEST what = {.size = 32};
    TPMT_SIG_SCHEME key_scheme = {.scheme = TPM2_ALG_NULL}; /* the key's own */
    TPMT_TK_HASHCHECK ticket = {.tag = TPM2_ST_HASHCHECK, .hierarchy = TPM2_RH_NULL};
    FORE_ESYS_FREE TPMT_SIGNATURE *signature = NULL;
    TSS2_RC rc;

    if (!parse_blob(blob, &public, &private, error) ||
        !fore_tpm_session(tpm, false, &session, error)) {
        return false;
    }
    rc = Esys_Load(tpm->esys, tpm->srk, session.tr, ESYS_TR_NONE, ESYS_TR_NONE, &private, &public,
                   &object.tr);
    if (rc != TSS2_RC_SUCCESS && fore_tpm_code(rc) & TPM2_RC_FMT1) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "TPM '%s' refuses the signing key (0x%x): another TPM made it, or it is "
                    "damaged",
                    tpm->tcti_name, rc);
        return false;
    }
    if (!fore_tpm_ok(tpm, rc, "loading the signing key", error)) {
        return false;
    }
    memcpy(what.buffer, digest, 32);
    rc = Esys_Sign(tpm->esys, object.tr, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &what,
                   &key_scheme, &ticket, &signature);
    if (!fore_tpm_ok(tpm, rc, "signing", error)) {
        return false;
    }
    if (signature->sigAlg != TPM2_ALG_ECDSA ||
        !put_padded(&signature->signature.ecdsa.signatureR, ret_raw) ||
        !put_padded(&signature->signature.ecdsa.signatureS, ret_raw + 32)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED, "TPM '%s' gave no ECDSA signature",
                    tpm->tcti_name);
        return false;
    }
    return true;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Secrets that only this TPM gives back, and, when asked, only while chosen PCRs hold what they
 * held when the secret was sealed: a disk that is read elsewhere, or a host that booted something
 * else, gets nothing.  A blob is: version, for version 2 the PCR mask, public part, private part.
 */
#include <string.h>
#include <tss2/tss2_mu.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "vtpm/tpm/fore-tpm-priv.h"

#define MAX_SECRET 128
#define BLOB_PLAIN 1 /* whoever may use the SRK may unseal */
#define BLOB_PCRS  2 /* the PCRs of the mask have to agree too */
#define MASK_BYTES 4
#define BLOB_MAX   (1 + MASK_BYTES + sizeof(TPM2B_PUBLIC) + sizeof(TPM2B_PRIVATE))

/* What a blob says. */
typedef struct {
    uint32_t pcr_mask; /* 0: none */
    TPM2B_PUBLIC public;
    TPM2B_PRIVATE private;
} Blob;

/* A session that has satisfied PolicyPCR for the PCRs as they are now. */
static bool pcr_session(ForeTpm *tpm, TPM2_SE type, uint32_t mask, ForeTpmRef *ret, GError **error)
{
    const TPMT_SYM_DEF none = {.algorithm = TPM2_ALG_NULL};
    const TPM2B_DIGEST as_they_are = {0};
    TPML_PCR_SELECTION pcrs = {0};
    TSS2_RC rc;

    if (!fore_tpm_select(mask, &pcrs)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "PCR mask 0x%x: give bits 0..23, at least one", mask);
        return false;
    }
    rc = Esys_StartAuthSession(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                               ESYS_TR_NONE, NULL, type, &none, TPM2_ALG_SHA256, &ret->tr);
    if (!fore_tpm_ok(tpm, rc, "starting a policy session", error)) {
        return false;
    }
    rc = Esys_PolicyPCR(tpm->esys, ret->tr, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &as_they_are,
                        &pcrs);
    return fore_tpm_ok(tpm, rc, "policy of PCRs", error);
}

static bool pcr_policy(ForeTpm *tpm, uint32_t mask, TPM2B_DIGEST *ret, GError **error)
{
    g_auto(ForeTpmRef) trial = FORE_TPM_REF(tpm);
    FORE_ESYS_FREE TPM2B_DIGEST *digest = NULL;
    TSS2_RC rc;

    if (!pcr_session(tpm, TPM2_SE_TRIAL, mask, &trial, error)) {
        return false;
    }
    rc = Esys_PolicyGetDigest(tpm->esys, trial.tr, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                              &digest);
    if (!fore_tpm_ok(tpm, rc, "digest of a policy", error)) {
        return false;
    }
    *ret = *digest;
    return true;
}

static GBytes *encode_blob(const ForeTpm *tpm, uint32_t mask, const TPM2B_PUBLIC *public,
                           const TPM2B_PRIVATE *private, GError **error)
{
    uint8_t bytes[BLOB_MAX] = {mask != 0 ? BLOB_PCRS : BLOB_PLAIN};
    size_t size = 1;

    for (unsigned i = 0; mask != 0 && i < MASK_BYTES; i++) {
        bytes[size++] = (uint8_t)(mask >> (24 - 8 * i));
    }
    if (!fore_tpm_ok(tpm, Tss2_MU_TPM2B_PUBLIC_Marshal(public, bytes, sizeof(bytes), &size),
                     "sealed public part", error) ||
        !fore_tpm_ok(tpm, Tss2_MU_TPM2B_PRIVATE_Marshal(private, bytes, sizeof(bytes), &size),
                     "sealed private part", error)) {
        return NULL;
    }
    return g_bytes_new(bytes, size);
}

static bool decode_blob(GBytes *blob, Blob *ret, GError **error)
{
    gsize n = 0;
    const uint8_t *bytes = g_bytes_get_data(blob, &n);
    ForeCursor cur;
    uint8_t version;
    size_t at;

    fore_cursor_init(&cur, bytes, n);
    version = fore_cursor_u8(&cur);
    ret->pcr_mask = version == BLOB_PCRS ? fore_cursor_be32(&cur) : 0;
    at = version == BLOB_PCRS ? 1 + MASK_BYTES : 1;
    if (!fore_cursor_ok(&cur) || (version != BLOB_PLAIN && version != BLOB_PCRS) ||
        (version == BLOB_PCRS) != (ret->pcr_mask != 0) ||
        Tss2_MU_TPM2B_PUBLIC_Unmarshal(bytes, n, &at, &ret->public) != TSS2_RC_SUCCESS ||
        Tss2_MU_TPM2B_PRIVATE_Unmarshal(bytes, n, &at, &ret->private) != TSS2_RC_SUCCESS ||
        at != n) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "sealed blob of %zu bytes is damaged; restore it from a backup", n);
        return false;
    }
    return true;
}

bool fore_tpm_seal_to(ForeTpm *tpm, GBytes *secret, uint32_t pcr_mask, GBytes **ret_blob,
                      GError **error)
{
    g_auto(ForeTpmRef) session = FORE_TPM_REF(tpm);
    TPM2B_SENSITIVE_CREATE sensitive = {0};
    TPM2B_PUBLIC template = {
        .publicArea = {.type = TPM2_ALG_KEYEDHASH, .nameAlg = TPM2_ALG_SHA256}};
    TPM2B_DATA outside = {0};
    TPML_PCR_SELECTION no_pcrs = {0};
    FORE_ESYS_FREE TPM2B_PRIVATE *private = NULL;
    FORE_ESYS_FREE TPM2B_PUBLIC *public = NULL;
    gsize n = 0;
    const void *data = g_bytes_get_data(secret, &n);
    TSS2_RC rc;

    if (n == 0 || n > MAX_SECRET) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "a secret of %zu bytes cannot be sealed; 1 to %d can", n, MAX_SECRET);
        return false;
    }
    template.publicArea.objectAttributes =
        TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_NODA |
        (pcr_mask != 0 ? TPMA_OBJECT_ADMINWITHPOLICY : TPMA_OBJECT_USERWITHAUTH);
    template.publicArea.parameters.keyedHashDetail.scheme.scheme = TPM2_ALG_NULL;
    if (pcr_mask != 0 && !pcr_policy(tpm, pcr_mask, &template.publicArea.authPolicy, error)) {
        return false;
    }
    if (!fore_tpm_session(tpm, false, &session, error)) {
        return false;
    }
    sensitive.sensitive.data.size = (uint16_t)n;
    memcpy(sensitive.sensitive.data.buffer, data, n);
    rc = Esys_Create(tpm->esys, tpm->srk, session.tr, ESYS_TR_NONE, ESYS_TR_NONE, &sensitive,
                     &template, &outside, &no_pcrs, &private, &public, NULL, NULL, NULL);
    explicit_bzero(&sensitive, sizeof(sensitive));
    if (!fore_tpm_ok(tpm, rc, "sealing", error)) {
        return false;
    }
    *ret_blob = encode_blob(tpm, pcr_mask, public, private, error);
    return *ret_blob != NULL;
}

bool fore_tpm_seal(ForeTpm *tpm, GBytes *secret, GBytes **ret_blob, GError **error)
{
    return fore_tpm_seal_to(tpm, secret, 0, ret_blob, error);
}

/* @session encrypts the answer on its way; with PCRs, a policy session authorizes. */
static TSS2_RC unseal(ForeTpm *tpm, ESYS_TR object, const ForeTpmRef *session,
                      const ForeTpmRef *policy, TPM2B_SENSITIVE_DATA **ret)
{
    if (policy->tr == ESYS_TR_NONE) {
        return Esys_Unseal(tpm->esys, object, session->tr, ESYS_TR_NONE, ESYS_TR_NONE, ret);
    }
    return Esys_Unseal(tpm->esys, object, policy->tr, session->tr, ESYS_TR_NONE, ret);
}

bool fore_tpm_unseal(ForeTpm *tpm, GBytes *blob, GBytes **ret_secret, GError **error)
{
    g_auto(ForeTpmRef) session = FORE_TPM_REF(tpm);
    g_auto(ForeTpmRef) policy = FORE_TPM_REF(tpm);
    g_auto(ForeTpmRef) object = FORE_TPM_REF(tpm);
    FORE_ESYS_FREE TPM2B_SENSITIVE_DATA *plain = NULL;
    Blob parts = {0};
    TSS2_RC rc;

    if (!decode_blob(blob, &parts, error) || !fore_tpm_session(tpm, false, &session, error)) {
        return false;
    }
    rc = Esys_Load(tpm->esys, tpm->srk, session.tr, ESYS_TR_NONE, ESYS_TR_NONE, &parts.private,
                   &parts.public, &object.tr);
    if (rc != TSS2_RC_SUCCESS && fore_tpm_code(rc) & TPM2_RC_FMT1) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "TPM '%s' refuses the sealed blob (0x%x): it was sealed by another TPM, or is "
                    "damaged; use the TPM that sealed it",
                    tpm->tcti_name, rc);
        return false;
    }
    if (!fore_tpm_ok(tpm, rc, "loading a sealed blob", error) ||
        (parts.pcr_mask != 0 &&
         !pcr_session(tpm, TPM2_SE_POLICY, parts.pcr_mask, &policy, error))) {
        return false;
    }
    rc = unseal(tpm, object.tr, &session, &policy, &plain);
    if (fore_tpm_code(rc) == TPM2_RC_POLICY_FAIL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "TPM '%s': PCRs of mask 0x%06x are not what they were when the secret was "
                    "sealed; did this host boot something else?",
                    tpm->tcti_name, parts.pcr_mask);
        return false;
    }
    if (!fore_tpm_ok(tpm, rc, "unsealing", error)) {
        return false;
    }
    *ret_secret = g_bytes_new(plain->buffer, plain->size);
    explicit_bzero(plain, sizeof(*plain));
    return true;
}

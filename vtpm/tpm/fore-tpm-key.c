/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keys.  EK: TCG EK Credential Profile 2.3, template L-1 (RSA 2048), the one that swtpm_setup
 * and nearly all vendors certify.  AK: an ECC P-256 restricted signing key that is a *primary* key
 * of the endorsement hierarchy: the TPM can make it again at any time, no policy session is needed
 * to use it, and its qualified name follows from its public area alone, so a verifier can pin the
 * hierarchy.
 */
#include "vtpm/tpm/fore-tpm.h"

#include <string.h>
#include <tss2/tss2_mu.h>

#include "common/fore-error.h"
#include "vtpm/tpm/fore-tpm-priv.h"

#define EK_CERT_RSA2048 0x01c00002u /* EK Credential Profile 2.3, table 3 */
#define EK_CERT_P256    0x01c0000au
#define EK_CERT_P384    0x01c00016u
#define MAX_CERT        8192

/* PolicySecret(TPM_RH_ENDORSEMENT), EK Credential Profile 2.3, B.3.2 */
static const uint8_t ek_policy[32] = {
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
};

static void fill_ek_template(TPMT_PUBLIC *t)
{
    t->type = TPM2_ALG_RSA;
    t->nameAlg = TPM2_ALG_SHA256;
    t->objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                          TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_ADMINWITHPOLICY |
                          TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT;
    t->authPolicy.size = sizeof(ek_policy);
    memcpy(t->authPolicy.buffer, ek_policy, sizeof(ek_policy));
    t->parameters.rsaDetail = (TPMS_RSA_PARMS){
        .symmetric = {.algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB},
        .scheme.scheme = TPM2_ALG_NULL,
        .keyBits = 2048,
    };
    t->unique.rsa.size = 256; /* L-1: 256 zero bytes */
}

static void fill_ak_template(TPMT_PUBLIC *t)
{
    static const char label[] = "foresee-ak-v1";

    t->type = TPM2_ALG_ECC;
    t->nameAlg = TPM2_ALG_SHA256;
    /* noDA: a TPM that was cut off a few times locks keys without it, and the key has no password
     * to guess. */
    t->objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                          TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH |
                          TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_SIGN_ENCRYPT;
    t->parameters.eccDetail = (TPMS_ECC_PARMS){
        .symmetric.algorithm = TPM2_ALG_NULL,
        .scheme = {.scheme = TPM2_ALG_ECDSA, .details.ecdsa.hashAlg = TPM2_ALG_SHA256},
        .curveID = TPM2_ECC_NIST_P256,
        .kdf.scheme = TPM2_ALG_NULL,
    };
    /* A primary key is a function of seed and template: this keeps ours apart from others'. */
    t->unique.ecc.x.size = sizeof(label) - 1;
    memcpy(t->unique.ecc.x.buffer, label, sizeof(label) - 1);
}

/* TCG "SRK" template for ECC P-256 (Provisioning Guidance 7.5.1) */
static void fill_srk_template(TPMT_PUBLIC *t)
{
    t->type = TPM2_ALG_ECC;
    t->nameAlg = TPM2_ALG_SHA256;
    t->objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                          TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH |
                          TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT;
    t->parameters.eccDetail = (TPMS_ECC_PARMS){
        .symmetric = {.algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB},
        .scheme.scheme = TPM2_ALG_NULL,
        .curveID = TPM2_ECC_NIST_P256,
        .kdf.scheme = TPM2_ALG_NULL,
    };
    t->unique.ecc.x.size = 32;
    t->unique.ecc.y.size = 32;
}

typedef struct {
    TPM2_HANDLE handle;
    ESYS_TR hierarchy;
    void (*fill)(TPMT_PUBLIC *t);
    const char *what;
    TPMA_OBJECT must; /* attributes that a key found there has to have */
} KeySlot;

#define KEY_MUST                                                                                   \
    (TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |            \
     TPMA_OBJECT_RESTRICTED)

static const KeySlot ek_slot = {FORE_TPM_EK_HANDLE, ESYS_TR_RH_ENDORSEMENT, fill_ek_template, "EK",
                                KEY_MUST | TPMA_OBJECT_DECRYPT};
static const KeySlot ak_slot = {FORE_TPM_AK_HANDLE, ESYS_TR_RH_ENDORSEMENT, fill_ak_template, "AK",
                                KEY_MUST | TPMA_OBJECT_SIGN_ENCRYPT};
static const KeySlot srk_slot = {FORE_TPM_SRK_HANDLE, ESYS_TR_RH_OWNER, fill_srk_template, "SRK",
                                 KEY_MUST | TPMA_OBJECT_DECRYPT};

static bool create_persistent(ForeTpm *tpm, const KeySlot *slot, ESYS_TR *ret, GError **error)
{
    g_auto(ForeTpmRef) key = FORE_TPM_REF(tpm);
    TPM2B_SENSITIVE_CREATE sensitive = {0};
    TPM2B_PUBLIC template = {0};
    TPM2B_DATA outside = {0};
    TPML_PCR_SELECTION no_pcrs = {0};
    FORE_ESYS_FREE TPM2B_PUBLIC *public = NULL;
    FORE_ESYS_FREE TPM2B_CREATION_DATA *creation = NULL;
    FORE_ESYS_FREE TPM2B_DIGEST *hash = NULL;
    FORE_ESYS_FREE TPMT_TK_CREATION *ticket = NULL;
    TSS2_RC rc;

    slot->fill(&template.publicArea);
    rc = Esys_CreatePrimary(tpm->esys, slot->hierarchy, ESYS_TR_PASSWORD, ESYS_TR_NONE,
                            ESYS_TR_NONE, &sensitive, &template, &outside, &no_pcrs, &key.tr,
                            &public, &creation, &hash, &ticket);
    if (!fore_tpm_ok(tpm, rc, slot->what, error)) {
        g_prefix_error(error, "creating a primary key: ");
        return false;
    }
    /* Persistent handles below 0x81800000 are the owner's to fill. */
    rc = Esys_EvictControl(tpm->esys, ESYS_TR_RH_OWNER, key.tr, ESYS_TR_PASSWORD, ESYS_TR_NONE,
                           ESYS_TR_NONE, slot->handle, ret);
    if (!fore_tpm_ok(tpm, rc, slot->what, error)) {
        g_prefix_error(error, "making the key persistent at 0x%08x: ", slot->handle);
        return false;
    }
    return true;
}

static bool use_key(ForeTpm *tpm, const KeySlot *slot, ESYS_TR *key, GBytes **ret_public,
                    GError **error)
{
    FORE_ESYS_FREE TPM2B_PUBLIC *public = NULL;
    uint8_t bytes[sizeof(TPM2B_PUBLIC)];
    size_t size = 0;
    TSS2_RC rc;

    if (*key == ESYS_TR_NONE) {
        ESYS_TR found = ESYS_TR_NONE;

        rc = Esys_TR_FromTPMPublic(tpm->esys, slot->handle, ESYS_TR_NONE, ESYS_TR_NONE,
                                   ESYS_TR_NONE, &found);
        if (fore_tpm_code(rc) == TPM2_RC_HANDLE) {
            if (!create_persistent(tpm, slot, &found, error)) {
                return false;
            }
        } else if (!fore_tpm_ok(tpm, rc, slot->what, error)) {
            return false;
        }
        *key = found;
    }
    rc = Esys_ReadPublic(tpm->esys, *key, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &public, NULL,
                         NULL);
    if (!fore_tpm_ok(tpm, rc, slot->what, error)) {
        return false;
    }
    if ((public->publicArea.objectAttributes & slot->must) != slot->must) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_EXISTS,
            "TPM '%s': handle 0x%08x holds another key than our %s (attributes 0x%08x); remove "
            "it with: tpm2_evictcontrol -c 0x%08x",
            tpm->tcti_name, slot->handle, slot->what, public->publicArea.objectAttributes,
            slot->handle);
        return false;
    }
    rc = Tss2_MU_TPM2B_PUBLIC_Marshal(public, bytes, sizeof(bytes), &size);
    if (!fore_tpm_ok(tpm, rc, slot->what, error)) {
        return false;
    }
    if (ret_public != NULL) {
        *ret_public = g_bytes_new(bytes, size);
    }
    return true;
}

bool fore_tpm_use_srk(ForeTpm *tpm, GError **error)
{
    return tpm->srk != ESYS_TR_NONE || use_key(tpm, &srk_slot, &tpm->srk, NULL, error);
}

static bool use_ek(ForeTpm *tpm, GError **error)
{
    return tpm->ek_public != NULL || use_key(tpm, &ek_slot, &tpm->ek, &tpm->ek_public, error);
}

static bool use_ak(ForeTpm *tpm, GError **error)
{
    return tpm->ak_public != NULL || use_key(tpm, &ak_slot, &tpm->ak, &tpm->ak_public, error);
}

static TPM2_HANDLE cert_index(GBytes *ek_public)
{
    TPM2B_PUBLIC public = {0};
    gsize size = 0;
    size_t offset = 0;
    const uint8_t *bytes = g_bytes_get_data(ek_public, &size);

    Tss2_MU_TPM2B_PUBLIC_Unmarshal(bytes, size, &offset, &public);
    if (public.publicArea.type == TPM2_ALG_RSA) {
        return EK_CERT_RSA2048;
    }
    return public.publicArea.parameters.eccDetail.curveID == TPM2_ECC_NIST_P384 ? EK_CERT_P384
                                                                                : EK_CERT_P256;
}

/* Vendors pad the index behind the certificate: cut at the length that the outer SEQUENCE states.
 */
static GBytes *trim_der(GByteArray *nv)
{
    size_t want = nv->len;

    if (nv->len >= 4 && nv->data[0] == 0x30 && nv->data[1] == 0x82) {
        want = 4 + ((size_t)nv->data[2] << 8 | nv->data[3]);
    }
    return g_bytes_new(nv->data, MIN(want, nv->len));
}

bool fore_tpm_ek(ForeTpm *tpm, GBytes **ret_public, GBytes **ret_cert, GError **error)
{
    g_autoptr(GByteArray) nv = NULL;
    g_autoptr(GError) why = NULL;

    if (!use_ek(tpm, error)) {
        return false;
    }
    nv = fore_tpm_nv_read(tpm, cert_index(tpm->ek_public), MAX_CERT, &why);
    if (nv == NULL && !g_error_matches(why, FORE_ERROR, FORE_ERROR_NOT_FOUND)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&why), "EK certificate: ");
        return false;
    }
    *ret_public = g_bytes_ref(tpm->ek_public);
    if (ret_cert != NULL) {
        *ret_cert = nv != NULL ? trim_der(nv) : NULL;
    }
    return true;
}

bool fore_tpm_ak(ForeTpm *tpm, GBytes **ret_public, GBytes **ret_name, GError **error)
{
    FORE_ESYS_FREE TPM2B_NAME *name = NULL;

    if (!use_ak(tpm, error) ||
        !fore_tpm_ok(tpm, Esys_TR_GetName(tpm->esys, tpm->ak, &name), "name of the AK", error)) {
        return false;
    }
    *ret_public = g_bytes_ref(tpm->ak_public);
    if (ret_name != NULL) {
        *ret_name = g_bytes_new(name->name, name->size);
    }
    return true;
}

bool fore_tpm_session(ForeTpm *tpm, bool policy, ForeTpmRef *ret, GError **error)
{
    const TPMT_SYM_DEF aes = {
        .algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB};
    const TPMT_SYM_DEF none = {.algorithm = TPM2_ALG_NULL};
    TSS2_RC rc;

    if (!policy && !fore_tpm_use_srk(tpm, error)) {
        return false;
    }
    rc = Esys_StartAuthSession(tpm->esys, policy ? ESYS_TR_NONE : tpm->srk, ESYS_TR_NONE,
                               ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, NULL,
                               policy ? TPM2_SE_POLICY : TPM2_SE_HMAC, policy ? &none : &aes,
                               TPM2_ALG_SHA256, &ret->tr);
    if (!fore_tpm_ok(tpm, rc, "starting a session", error)) {
        return false;
    }
    if (!policy) {
        rc = Esys_TRSess_SetAttributes(
            tpm->esys, ret->tr,
            TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT, 0xff);
    }
    return fore_tpm_ok(tpm, rc, "session attributes", error);
}

static bool parse_credential(GBytes *blob, GBytes *secret, TPM2B_ID_OBJECT *ret_blob,
                             TPM2B_ENCRYPTED_SECRET *ret_secret, GError **error)
{
    gsize blob_size = 0, secret_size = 0;
    const uint8_t *b = g_bytes_get_data(blob, &blob_size);
    const uint8_t *s = g_bytes_get_data(secret, &secret_size);
    size_t b_at = 0, s_at = 0;

    if (b == NULL || s == NULL ||
        Tss2_MU_TPM2B_ID_OBJECT_Unmarshal(b, blob_size, &b_at, ret_blob) != TSS2_RC_SUCCESS ||
        Tss2_MU_TPM2B_ENCRYPTED_SECRET_Unmarshal(s, secret_size, &s_at, ret_secret) !=
            TSS2_RC_SUCCESS ||
        b_at != blob_size || s_at != secret_size) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "credential of %zu and %zu bytes is not a TPM2B_ID_OBJECT and a "
                    "TPM2B_ENCRYPTED_SECRET; enrol again",
                    blob_size, secret_size);
        return false;
    }
    return true;
}

/* libtpms answers TPM_RC_FAILURE, as if broken, when the RSA decryption of a seed fails; then the
 * next command works, which it does not in real failure mode. */
static bool is_refusal(ForeTpm *tpm, TSS2_RC rc)
{
    FORE_ESYS_FREE TPM2B_DIGEST *random = NULL;

    switch (fore_tpm_code(rc)) {
    case TPM2_RC_INTEGRITY:
    case TPM2_RC_VALUE:
    case TPM2_RC_SIZE:
    case TPM2_RC_INSUFFICIENT:
    case TPM2_RC_ECC_POINT:
        return true;
    case TPM2_RC_FAILURE:
        return Esys_GetRandom(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, 1, &random) ==
               TSS2_RC_SUCCESS;
    default:
        return false;
    }
}

bool fore_tpm_activate(ForeTpm *tpm, GBytes *credential_blob, GBytes *encrypted_secret,
                       GBytes **ret_secret, GError **error)
{
    g_auto(ForeTpmRef) policy = FORE_TPM_REF(tpm);
    TPM2B_ID_OBJECT blob = {0};
    TPM2B_ENCRYPTED_SECRET secret = {0};
    FORE_ESYS_FREE TPM2B_DIGEST *plain = NULL;
    TSS2_RC rc;

    if (!parse_credential(credential_blob, encrypted_secret, &blob, &secret, error) ||
        !use_ek(tpm, error) || !use_ak(tpm, error) ||
        !fore_tpm_session(tpm, true, &policy, error)) {
        return false;
    }
    rc = Esys_PolicySecret(tpm->esys, ESYS_TR_RH_ENDORSEMENT, policy.tr, ESYS_TR_PASSWORD,
                           ESYS_TR_NONE, ESYS_TR_NONE, NULL, NULL, NULL, 0, NULL, NULL);
    if (!fore_tpm_ok(tpm, rc, "policy of the EK", error)) {
        return false;
    }
    rc = Esys_ActivateCredential(tpm->esys, tpm->ak, tpm->ek, ESYS_TR_PASSWORD, policy.tr,
                                 ESYS_TR_NONE, &blob, &secret, &plain);
    if (is_refusal(tpm, rc)) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
            "TPM '%s' refuses the credential (0x%x): it is for another AK or EK, or damaged; "
            "enrol again",
            tpm->tcti_name, rc);
        return false;
    }
    if (!fore_tpm_ok(tpm, rc, "activating the credential", error)) {
        return false;
    }
    *ret_secret = g_bytes_new(plain->buffer, plain->size);
    return true;
}

bool fore_tpm_quote(ForeTpm *tpm, GBytes *extra, uint32_t pcr_mask, GBytes **ret_attest,
                    GBytes **ret_signature, GError **error)
{
    TPM2B_DATA qualifying = {0};
    TPMT_SIG_SCHEME own = {.scheme = TPM2_ALG_NULL}; /* the key's own */
    TPML_PCR_SELECTION pcrs = {0};
    FORE_ESYS_FREE TPM2B_ATTEST *attest = NULL;
    FORE_ESYS_FREE TPMT_SIGNATURE *signature = NULL;
    uint8_t bytes[sizeof(TPMT_SIGNATURE)];
    size_t size = 0;
    gsize extra_size = 0;
    const void *extra_data = g_bytes_get_data(extra, &extra_size);
    TSS2_RC rc;

    if (extra_size > 64 || !fore_tpm_select(pcr_mask, &pcrs)) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_INVALID,
            "quote over %zu bytes of extra data (at most 64) and PCR mask 0x%x (bits 0..23, "
            "not none)",
            extra_size, pcr_mask);
        return false;
    }
    if (!use_ak(tpm, error)) {
        return false;
    }
    qualifying.size = (uint16_t)extra_size;
    if (extra_size > 0) {
        memcpy(qualifying.buffer, extra_data, extra_size);
    }
    rc = Esys_Quote(tpm->esys, tpm->ak, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &qualifying,
                    &own, &pcrs, &attest, &signature);
    if (!fore_tpm_ok(tpm, rc, "quote", error) ||
        !fore_tpm_ok(tpm, Tss2_MU_TPMT_SIGNATURE_Marshal(signature, bytes, sizeof(bytes), &size),
                     "quote signature", error)) {
        return false;
    }
    *ret_attest = g_bytes_new(attest->attestationData, attest->size);
    *ret_signature = g_bytes_new(bytes, size);
    return true;
}

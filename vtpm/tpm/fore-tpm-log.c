/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Logs that a TPM keeps the head of: an NV index of type extend (Part 2, 13.2) holds
 * H(old value || entry), and TPM2_NV_Certify lets the AK vouch for what it holds.  Whoever knows
 * the owner's authorization (empty by default) may remove an index and define it again, so a head
 * proves order and completeness only as far as the owner is trusted.
 */
#include <string.h>
#include <tss2/tss2_mu.h>

#include "common/fore-error.h"
#include "vtpm/tpm/fore-tpm-priv.h"

#define HEAD_BYTES 32

static TPMA_NV attributes_of(ForeTpmLogLife life)
{
    TPMA_NV attributes = TPM2_NT_EXTEND << TPMA_NV_TPM2_NT_SHIFT | TPMA_NV_AUTHREAD |
                         TPMA_NV_AUTHWRITE | TPMA_NV_OWNERREAD | TPMA_NV_OWNERWRITE | TPMA_NV_NO_DA;

    return life == FORE_TPM_LOG_BOOT ? attributes | TPMA_NV_CLEAR_STCLEAR | TPMA_NV_ORDERLY
                                     : attributes;
}

static bool log_define(ForeTpm *tpm, TPM2_HANDLE index, ForeTpmLogLife life, ESYS_TR *ret,
                       GError **error)
{
    TPM2B_AUTH no_auth = {0};
    TPM2B_NV_PUBLIC public = {.nvPublic = {
                                  .nvIndex = index,
                                  .nameAlg = TPM2_ALG_SHA256,
                                  .attributes = attributes_of(life),
                                  .dataSize = HEAD_BYTES,
                              }};
    TSS2_RC rc = Esys_NV_DefineSpace(tpm->esys, ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE,
                                     ESYS_TR_NONE, &no_auth, &public, ret);

    return fore_tpm_ok(tpm, rc, "defining an NV extend index", error);
}

/* NOT_FOUND when there is none; EXISTS when something else is there. */
static bool log_find(ForeTpm *tpm, TPM2_HANDLE index, ForeTpmLogLife life, ESYS_TR *ret,
                     bool *ret_written, GError **error)
{
    FORE_ESYS_FREE TPM2B_NV_PUBLIC *public = NULL;
    TPMA_NV found;

    if (!fore_tpm_nv_open(tpm, index, ret, &public, error)) {
        return false;
    }
    found = public->nvPublic.attributes;
    *ret_written = (found & TPMA_NV_WRITTEN) != 0;
    if ((found & ~TPMA_NV_WRITTEN) != attributes_of(life) ||
        public->nvPublic.dataSize != HEAD_BYTES || public->nvPublic.nameAlg != TPM2_ALG_SHA256) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS,
                    "TPM '%s': NV index 0x%08x is not the log that is kept there (attributes "
                    "0x%08x); remove it with: tpm2_nvundefine 0x%08x",
                    tpm->tcti_name, index, found, index);
        Esys_TR_Close(tpm->esys, ret);
        return false;
    }
    return true;
}

bool fore_tpm_log_extend(ForeTpm *tpm, uint32_t index, ForeTpmLogLife life,
                         const uint8_t entry[FORE_TPM_LOG_BYTES], GError **error)
{
    g_autoptr(GError) why = NULL;
    ESYS_TR nv = ESYS_TR_NONE;
    TPM2B_MAX_NV_BUFFER data = {.size = HEAD_BYTES};
    bool written, ok = log_find(tpm, index, life, &nv, &written, &why);

    if (!ok && !g_error_matches(why, FORE_ERROR, FORE_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (!ok && !log_define(tpm, index, life, &nv, error)) {
        return false;
    }
    memcpy(data.buffer, entry, HEAD_BYTES);
    ok = fore_tpm_ok(
        tpm, Esys_NV_Extend(tpm->esys, nv, nv, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &data),
        "extending an NV index", error);
    Esys_TR_Close(tpm->esys, &nv);
    return ok;
}

bool fore_tpm_log_head(ForeTpm *tpm, uint32_t index, ForeTpmLogLife life,
                       uint8_t ret[FORE_TPM_LOG_BYTES], GError **error)
{
    FORE_ESYS_FREE TPM2B_MAX_NV_BUFFER *value = NULL;
    ESYS_TR nv = ESYS_TR_NONE;
    bool written, ok = log_find(tpm, index, life, &nv, &written, error);

    if (!ok) {
        return false;
    }
    memset(ret, 0, HEAD_BYTES);
    if (written) {
        TSS2_RC rc = Esys_NV_Read(tpm->esys, nv, nv, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                  HEAD_BYTES, 0, &value);

        ok = fore_tpm_ok(tpm, rc, "reading an NV index", error);
        if (ok && value->size != HEAD_BYTES) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED,
                        "TPM '%s': NV index 0x%08x gave %u bytes instead of %d", tpm->tcti_name,
                        index, value->size, HEAD_BYTES);
            ok = false;
        }
        if (ok) {
            memcpy(ret, value->buffer, HEAD_BYTES);
        }
    }
    Esys_TR_Close(tpm->esys, &nv);
    return ok;
}

static bool certify(ForeTpm *tpm, ESYS_TR nv, GBytes *extra, GBytes **ret_attest,
                    GBytes **ret_signature, GError **error)
{
    TPM2B_DATA qualifying = {.size = (uint16_t)g_bytes_get_size(extra)};
    TPMT_SIG_SCHEME own = {.scheme = TPM2_ALG_NULL}; /* the key's own */
    FORE_ESYS_FREE TPM2B_ATTEST *attest = NULL;
    FORE_ESYS_FREE TPMT_SIGNATURE *signature = NULL;
    uint8_t bytes[sizeof(TPMT_SIGNATURE)];
    size_t size = 0;
    TSS2_RC rc;

    memcpy(qualifying.buffer, g_bytes_get_data(extra, NULL), qualifying.size);
    rc = Esys_NV_Certify(tpm->esys, tpm->ak, nv, nv, ESYS_TR_PASSWORD, ESYS_TR_PASSWORD,
                         ESYS_TR_NONE, &qualifying, &own, HEAD_BYTES, 0, &attest, &signature);
    if (!fore_tpm_ok(tpm, rc, "certifying an NV index", error) ||
        !fore_tpm_ok(tpm, Tss2_MU_TPMT_SIGNATURE_Marshal(signature, bytes, sizeof(bytes), &size),
                     "signature of a certificate", error)) {
        return false;
    }
    *ret_attest = g_bytes_new(attest->attestationData, attest->size);
    *ret_signature = g_bytes_new(bytes, size);
    return true;
}

bool fore_tpm_log_certify(ForeTpm *tpm, uint32_t index, ForeTpmLogLife life, GBytes *extra,
                          GBytes **ret_attest, GBytes **ret_signature, GError **error)
{
    g_autoptr(GBytes) ak = NULL;
    ESYS_TR nv = ESYS_TR_NONE;
    bool written, ok;
    gsize n = g_bytes_get_size(extra);

    if (n == 0 || n > 64) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "certificate over %zu bytes of extra data; 1 to 64 are possible", n);
        return false;
    }
    if (!fore_tpm_ak(tpm, &ak, NULL, error) || !log_find(tpm, index, life, &nv, &written, error)) {
        return false;
    }
    ok = written;
    if (!written) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND,
                    "TPM '%s': the log at NV index 0x%08x is empty", tpm->tcti_name, index);
    } else {
        ok = certify(tpm, nv, extra, ret_attest, ret_signature, error);
    }
    Esys_TR_Close(tpm->esys, &nv);
    return ok;
}

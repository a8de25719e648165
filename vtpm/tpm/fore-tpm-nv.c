/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a TPM keeps: PCRs and NV.  A counter that is undefined and defined again starts
 * from the highest value that any counter of that TPM ever had (Part 1, 37.2.4), so undefining it
 * is no way back.
 */
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "vtpm/tpm/fore-tpm-priv.h"

#define NV_CHUNK  512 /* below every TPM2_PT_NV_BUFFER_MAX met */
#define MAX_STEPS 1024

bool fore_tpm_select(uint32_t mask, TPML_PCR_SELECTION *ret)
{
    if (mask == 0 || mask >= 1u << FORE_TPM_PCRS) {
        return false;
    }
    *ret = (TPML_PCR_SELECTION){.count = 1};
    ret->pcrSelections[0].hash = TPM2_ALG_SHA256;
    ret->pcrSelections[0].sizeofSelect = 3;
    for (unsigned i = 0; i < 3; i++) {
        ret->pcrSelections[0].pcrSelect[i] = (uint8_t)(mask >> (8 * i));
    }
    return true;
}

/* One TPM2_PCR_Read: takes what came out of @left and clears it there. */
static bool read_some(ForeTpm *tpm, uint32_t *left, uint8_t ret[FORE_TPM_PCRS][32], GError **error)
{
    TPML_PCR_SELECTION want;
    FORE_ESYS_FREE TPML_PCR_SELECTION *got = NULL;
    FORE_ESYS_FREE TPML_DIGEST *values = NULL;
    uint32_t mask = 0, n = 0;
    TSS2_RC rc;

    fore_tpm_select(*left, &want);
    rc = Esys_PCR_Read(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &want, NULL, &got,
                       &values);
    if (!fore_tpm_ok(tpm, rc, "reading PCRs", error)) {
        return false;
    }
    for (unsigned i = 0; got->count == 1 && i < MIN(got->pcrSelections[0].sizeofSelect, 3); i++) {
        mask |= (uint32_t)got->pcrSelections[0].pcrSelect[i] << (8 * i);
    }
    mask &= *left;
    for (unsigned pcr = 0; pcr < FORE_TPM_PCRS; pcr++) {
        if (!(mask >> pcr & 1u)) {
            continue;
        }
        if (n >= values->count || values->digests[n].size != 32) {
            mask = 0;
            break;
        }
        memcpy(ret[pcr], values->digests[n++].buffer, 32);
    }
    if (mask == 0) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_UNSUPPORTED,
            "TPM '%s' has no values for PCR mask 0x%06x in its SHA-256 bank; activate the bank "
            "(tpm2_pcrallocate sha256:all, then reboot)",
            tpm->tcti_name, *left);
        return false;
    }
    *left &= ~mask;
    return true;
}

bool fore_tpm_pcr_read(ForeTpm *tpm, uint32_t pcr_mask, uint8_t ret[FORE_TPM_PCRS][32],
                       GError **error)
{
    TPML_PCR_SELECTION unused;

    if (!fore_tpm_select(pcr_mask, &unused)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "PCR mask 0x%x: give bits 0..23, at least one", pcr_mask);
        return false;
    }
    while (pcr_mask != 0) {
        if (!read_some(tpm, &pcr_mask, ret, error)) {
            return false;
        }
    }
    return true;
}

bool fore_tpm_pcr_updates(ForeTpm *tpm, uint32_t *ret, GError **error)
{
    TPML_PCR_SELECTION none = {0}, *read = NULL;
    TPML_DIGEST *values = NULL;
    UINT32 updates = 0;
    TSS2_RC rc = Esys_PCR_Read(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &none, &updates,
                               &read, &values);

    if (!fore_tpm_ok(tpm, rc, "reading the PCR update counter", error)) {
        return false;
    }
    Esys_Free(read);
    Esys_Free(values);
    *ret = updates;
    return true;
}

bool fore_tpm_pcr_extend(ForeTpm *tpm, unsigned pcr, const uint8_t digest[32], GError **error)
{
    TPML_DIGEST_VALUES values = {.count = 1};
    TSS2_RC rc;

    if (pcr >= FORE_TPM_PCRS) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "PCR %u: there are 0..23", pcr);
        return false;
    }
    values.digests[0].hashAlg = TPM2_ALG_SHA256;
    memcpy(values.digests[0].digest.sha256, digest, 32);
    rc = Esys_PCR_Extend(tpm->esys, ESYS_TR_PCR0 + pcr, ESYS_TR_PASSWORD, ESYS_TR_NONE,
                         ESYS_TR_NONE, &values);
    return fore_tpm_ok(tpm, rc, "extending a PCR", error);
}

bool fore_tpm_nv_open(ForeTpm *tpm, TPM2_HANDLE index, ESYS_TR *ret, TPM2B_NV_PUBLIC **ret_public,
                      GError **error)
{
    ESYS_TR nv = ESYS_TR_NONE;
    TSS2_RC rc =
        Esys_TR_FromTPMPublic(tpm->esys, index, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &nv);

    if (fore_tpm_code(rc) == TPM2_RC_HANDLE) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND, "TPM '%s' has no NV index 0x%08x",
                    tpm->tcti_name, index);
        return false;
    }
    if (!fore_tpm_ok(tpm, rc, "NV index", error)) {
        return false;
    }
    rc = Esys_NV_ReadPublic(tpm->esys, nv, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ret_public,
                            NULL);
    if (!fore_tpm_ok(tpm, rc, "NV index", error)) {
        Esys_TR_Close(tpm->esys, &nv);
        return false;
    }
    *ret = nv;
    return true;
}

GByteArray *fore_tpm_nv_read(ForeTpm *tpm, TPM2_HANDLE index, size_t max, GError **error)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    FORE_ESYS_FREE TPM2B_NV_PUBLIC *public = NULL;
    ESYS_TR nv = ESYS_TR_NONE, auth;
    bool ok = true;
    size_t size;

    if (!fore_tpm_nv_open(tpm, index, &nv, &public, error)) {
        return NULL;
    }
    size = public->nvPublic.dataSize;
    auth = public->nvPublic.attributes & TPMA_NV_AUTHREAD ? nv : ESYS_TR_RH_OWNER;
    if (size > max) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "TPM '%s': NV index 0x%08x holds %zu bytes, more than %zu", tpm->tcti_name,
                    index, size, max);
        ok = false;
    }
    while (ok && out->len < size) {
        FORE_ESYS_FREE TPM2B_MAX_NV_BUFFER *part = NULL;
        TSS2_RC rc =
            Esys_NV_Read(tpm->esys, auth, nv, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                         (uint16_t)MIN(size - out->len, NV_CHUNK), (uint16_t)out->len, &part);

        ok = fore_tpm_ok(tpm, rc, "reading NV", error);
        if (ok && part->size == 0) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED,
                        "TPM '%s': NV index 0x%08x ends at byte %u of %zu", tpm->tcti_name, index,
                        out->len, size);
            ok = false;
        } else if (ok) {
            g_byte_array_append(out, part->buffer, part->size);
        }
    }
    Esys_TR_Close(tpm->esys, &nv);
    return ok ? g_steal_pointer(&out) : NULL;
}

static bool counter_define(ForeTpm *tpm, TPM2_HANDLE index, ESYS_TR *ret, GError **error)
{
    TPM2B_AUTH no_auth = {0};
    TPM2B_NV_PUBLIC public = {.nvPublic = {
                                  .nvIndex = index,
                                  .nameAlg = TPM2_ALG_SHA256,
                                  .attributes = TPM2_NT_COUNTER << TPMA_NV_TPM2_NT_SHIFT |
                                                TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE |
                                                TPMA_NV_OWNERREAD | TPMA_NV_OWNERWRITE |
                                                TPMA_NV_NO_DA,
                                  .dataSize = 8,
                              }};
    TSS2_RC rc = Esys_NV_DefineSpace(tpm->esys, ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE,
                                     ESYS_TR_NONE, &no_auth, &public, ret);

    return fore_tpm_ok(tpm, rc, "defining an NV counter", error);
}

static bool counter_increment(ForeTpm *tpm, ESYS_TR nv, GError **error)
{
    TSS2_RC rc = Esys_NV_Increment(tpm->esys, nv, nv, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE);

    return fore_tpm_ok(tpm, rc, "incrementing an NV counter", error);
}

/* An ordinary or orderly index in the counter's place could go back. */
static bool is_counter(const TPMS_NV_PUBLIC *public)
{
    TPMA_NV type = (public->attributes & TPMA_NV_TPM2_NT_MASK) >> TPMA_NV_TPM2_NT_SHIFT;

    return type == TPM2_NT_COUNTER && !(public->attributes & TPMA_NV_ORDERLY) &&
           public->dataSize == 8;
}

static bool counter_open(ForeTpm *tpm, TPM2_HANDLE index, ESYS_TR *ret, GError **error)
{
    FORE_ESYS_FREE TPM2B_NV_PUBLIC *public = NULL;
    g_autoptr(GError) why = NULL;
    ESYS_TR nv = ESYS_TR_NONE;
    bool written = false;

    if (fore_tpm_nv_open(tpm, index, &nv, &public, &why)) {
        if (!is_counter(&public->nvPublic)) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS,
                        "TPM '%s': NV index 0x%08x is not a counter (attributes 0x%08x); remove it "
                        "with: tpm2_nvundefine 0x%08x",
                        tpm->tcti_name, index, public->nvPublic.attributes, index);
            Esys_TR_Close(tpm->esys, &nv);
            return false;
        }
        written = (public->nvPublic.attributes & TPMA_NV_WRITTEN) != 0;
    } else if (!g_error_matches(why, FORE_ERROR, FORE_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    } else if (!counter_define(tpm, index, &nv, error)) {
        return false;
    }
    if (!written && !counter_increment(tpm, nv, error)) {
        Esys_TR_Close(tpm->esys, &nv);
        return false;
    }
    *ret = nv;
    return true;
}

static bool counter_read(ForeTpm *tpm, ESYS_TR nv, uint64_t *ret, GError **error)
{
    FORE_ESYS_FREE TPM2B_MAX_NV_BUFFER *value = NULL;
    TSS2_RC rc =
        Esys_NV_Read(tpm->esys, nv, nv, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, 8, 0, &value);
    ForeCursor cur;

    if (!fore_tpm_ok(tpm, rc, "reading an NV counter", error)) {
        return false;
    }
    fore_cursor_init(&cur, value->buffer, value->size);
    *ret = fore_cursor_be64(&cur);
    if (!fore_cursor_finished(&cur)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED,
                    "TPM '%s': an NV counter of %u bytes instead of 8", tpm->tcti_name,
                    value->size);
        return false;
    }
    return true;
}

bool fore_tpm_counter(ForeTpm *tpm, uint32_t index, uint64_t *ret_value, GError **error)
{
    ESYS_TR nv = ESYS_TR_NONE;
    uint64_t value = 0;
    bool ok = counter_open(tpm, index, &nv, error) && counter_read(tpm, nv, &value, error);

    Esys_TR_Close(tpm->esys, &nv);
    if (ok) {
        *ret_value = value;
    }
    return ok;
}

bool fore_tpm_counter_raise(ForeTpm *tpm, uint32_t index, uint64_t value, GError **error)
{
    ESYS_TR nv = ESYS_TR_NONE;
    uint64_t now = 0;
    bool ok = counter_open(tpm, index, &nv, error) && counter_read(tpm, nv, &now, error);

    if (ok && value > now && value - now > MAX_STEPS) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "TPM '%s': NV counter 0x%08x is at %" G_GUINT64_FORMAT
                    ", too far below %" G_GUINT64_FORMAT " (at most %d steps); enrol the VM again",
                    tpm->tcti_name, index, now, value, MAX_STEPS);
        ok = false;
    }
    for (; ok && now < value; now++) {
        ok = counter_increment(tpm, nv, error);
    }
    Esys_TR_Close(tpm->esys, &nv);
    return ok;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What the files of this folder share.  Every transient object and session sits in a ForeTpmRef, so
 * that each way out of a function flushes it: a TPM without a resource manager has three slots.
 */
#include <tss2/tss2_esys.h>

#include "vtpm/tpm/fore-tcti.h"
#include "vtpm/tpm/fore-tpm.h"

struct ForeTpm {
    char *tcti_name;
    ForeTcti *socket;               /* an emulator on a socket, or NULL */
    TSS2_TCTI_CONTEXT *loaded_tcti; /* a device, through tctildr, or NULL */
    ESYS_CONTEXT *esys;
    bool software;
    ESYS_TR ek, ak, srk; /* persistent; ESYS_TR_NONE until first used */
    GBytes *ek_public, *ak_public;
};

typedef struct {
    ForeTpm *tpm;
    ESYS_TR tr; /* ESYS_TR_NONE: nothing to flush */
} ForeTpmRef;
#define FORE_TPM_REF(tpm_)                                                                         \
    {                                                                                              \
        .tpm = (tpm_), .tr = ESYS_TR_NONE                                                          \
    }
void fore_tpm_ref_flush(ForeTpmRef *ref);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ForeTpmRef, fore_tpm_ref_flush)

/* Memory that ESYS allocated. */
#define FORE_ESYS_FREE __attribute__((cleanup(fore_tpm_esys_free)))
void fore_tpm_esys_free(void *pointer_to_pointer);

/** fore_tpm_ok: true when @rc is success, else sets @error with @what, the code and its remedy */
bool fore_tpm_ok(const ForeTpm *tpm, TSS2_RC rc, const char *what, GError **error);
/** fore_tpm_code: the TPM's own response code without handle, session and parameter numbers; 0 when
 *  @rc does not come from the TPM */
TSS2_RC fore_tpm_code(TSS2_RC rc);
/** fore_tpm_session: an unbound HMAC session salted by the SRK that encrypts first parameters both
 *  ways (interposers on the bus), or a policy session when @policy */
bool fore_tpm_session(ForeTpm *tpm, bool policy, ForeTpmRef *ret, GError **error);
/** fore_tpm_use_srk: @tpm->srk is usable; created when missing */
bool fore_tpm_use_srk(ForeTpm *tpm, GError **error);
/** fore_tpm_select: SHA-256 bank, PCRs of @mask; false when the mask is empty or names PCR 24 or
 * more */
bool fore_tpm_select(uint32_t mask, TPML_PCR_SELECTION *ret);
/** fore_tpm_nv_open: *@ret_public is ESYS's, the caller frees it; close *@ret with Esys_TR_Close()
 *  Errors: FORE_ERROR_NOT_FOUND */
bool fore_tpm_nv_open(ForeTpm *tpm, TPM2_HANDLE index, ESYS_TR *ret, TPM2B_NV_PUBLIC **ret_public,
                      GError **error);
/** fore_tpm_nv_read: the whole ordinary index
 *  Errors: FORE_ERROR_NOT_FOUND, FORE_ERROR_LIMIT (longer than @max bytes) */
GByteArray *fore_tpm_nv_read(ForeTpm *tpm, TPM2_HANDLE index, size_t max, GError **error);

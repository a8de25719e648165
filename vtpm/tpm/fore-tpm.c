/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works: opening connects, asks for the manufacturer as a probe, and clears what a crashed
 * predecessor left loaded.  An emulator serves one client: a second one's connect() succeeds and
 * its first command simply gets no answer, so the probe carries a deadline and is tried again until
 * OPEN_MS have passed.
 */
#include "vtpm/tpm/fore-tpm.h"

#include <stdlib.h>
#include <string.h>
#include <tss2/tss2_rc.h>
#include <tss2/tss2_sys.h>
#include <tss2/tss2_tctildr.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "vtpm/tpm/fore-tpm-priv.h"

#define OPEN_MS    3000  /* how long a busy or starting TPM is waited for */
#define COMMAND_MS 30000 /* one command; RSA key generation is the slowest */

/* Handle ranges (Part 2, 7.2); tss2's own macros shift into the sign bit of an int. */
#define TRANSIENT_FIRST      0x80000000u
#define LOADED_SESSION_FIRST 0x02000000u
#define ACTIVE_SESSION_FIRST 0x03000000u

/* tpm2-tss logs each refused byte to stderr unless told otherwise; before there are threads. */
static void __attribute__((constructor)) silence_tss(void)
{
    setenv("TSS2_LOG", "all+none", 0);
}

void fore_tpm_esys_free(void *pointer_to_pointer)
{
    Esys_Free(*(void **)pointer_to_pointer);
}

void fore_tpm_ref_flush(ForeTpmRef *ref)
{
    if (ref->tr != ESYS_TR_NONE) {
        Esys_FlushContext(ref->tpm->esys, ref->tr);
        ref->tr = ESYS_TR_NONE;
    }
}

TSS2_RC fore_tpm_code(TSS2_RC rc)
{
    TSS2_RC layer = rc & TSS2_RC_LAYER_MASK;

    if (layer != TSS2_TPM_RC_LAYER && layer != TSS2_RESMGR_TPM_RC_LAYER) {
        return 0;
    }
    rc &= ~TSS2_RC_LAYER_MASK;
    /* Part 2, 6.6.2: format one carries its error in 6 bits beside the parameter's number. */
    return rc & TPM2_RC_FMT1 ? rc & (TPM2_RC_FMT1 | 0x3f) : rc;
}

static ForeErrorCode classify(const ForeTpm *tpm, TSS2_RC rc, const char **ret_hint)
{
    TSS2_RC code = fore_tpm_code(rc);

    if (tpm->socket != NULL && fore_tcti_timed_out(tpm->socket)) {
        *ret_hint =
            "no answer in time; is another client connected to it, or the emulator stopped?";
        return FORE_ERROR_TIMEOUT;
    }
    switch (code) {
    case TPM2_RC_FAILURE:
        *ret_hint =
            "the TPM is in failure mode; restart it (swtpm: state directory absolute, readable, "
            "right key)";
        return FORE_ERROR_UNAVAILABLE;
    case TPM2_RC_OBJECT_MEMORY:
    case TPM2_RC_SESSION_MEMORY:
    case TPM2_RC_OBJECT_HANDLES:
    case TPM2_RC_SESSION_HANDLES:
    case TPM2_RC_NV_SPACE:
        *ret_hint =
            "the TPM is out of room; use the resource manager (/dev/tpmrm0), flush what other "
            "programs left";
        return FORE_ERROR_UNAVAILABLE;
    case TPM2_RC_LOCKOUT:
        *ret_hint = "dictionary-attack lockout; wait, or reset it with tpm2_dictionarylockout";
        return FORE_ERROR_UNAVAILABLE;
    case TPM2_RC_RETRY:
    case TPM2_RC_YIELDED:
    case TPM2_RC_TESTING:
    case TPM2_RC_NV_RATE:
        *ret_hint = "the TPM is busy; try again";
        return FORE_ERROR_UNAVAILABLE;
    case TPM2_RC_BAD_AUTH:
    case TPM2_RC_AUTH_FAIL:
        *ret_hint = "a hierarchy or object has a password; Foresee expects empty ones";
        return FORE_ERROR_FAILED;
    case TPM2_RC_INTEGRITY:
        *ret_hint = "made for another TPM or key, or damaged";
        return FORE_ERROR_UNTRUSTED;
    default:
        *ret_hint = "see the response code";
        return code == 0 ? FORE_ERROR_UNAVAILABLE : FORE_ERROR_FAILED;
    }
}

bool fore_tpm_ok(const ForeTpm *tpm, TSS2_RC rc, const char *what, GError **error)
{
    const char *hint = NULL;
    ForeErrorCode code;

    if (rc == TSS2_RC_SUCCESS) {
        return true;
    }
    code = classify(tpm, rc, &hint);
    g_set_error(error, FORE_ERROR, code, "TPM '%s': %s: 0x%x %s: %s", tpm->tcti_name, what, rc,
                Tss2_RC_Decode(rc), hint);
    return false;
}

/* Through the SAPI: ESYS has no way to name a session that it did not start. */
static bool flush_range(ForeTpm *tpm, TPM2_HANDLE first, GError **error)
{
    TSS2_SYS_CONTEXT *sys = NULL;
    TPMI_YES_NO more = TPM2_NO;
    FORE_ESYS_FREE TPMS_CAPABILITY_DATA *cap = NULL;
    TSS2_RC rc = Esys_GetCapability(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                    TPM2_CAP_HANDLES, first, TPM2_MAX_CAP_HANDLES, &more, &cap);

    if (!fore_tpm_ok(tpm, rc, "listing loaded handles", error) ||
        !fore_tpm_ok(tpm, Esys_GetSysContext(tpm->esys, &sys), "system context", error)) {
        return false;
    }
    for (uint32_t i = 0; i < cap->data.handles.count; i++) {
        /* One that is gone meanwhile is as good as flushed. */
        Tss2_Sys_FlushContext(sys, cap->data.handles.handle[i]);
    }
    return true;
}

static bool is_software_vendor(uint32_t manufacturer)
{
    /* TCG vendor id registry: libtpms, the reference simulator, and the clouds' virtual TPMs. */
    static const char ids[][5] = {"IBM", "MSFT", "GOOG", "AMZN", "BABA"};

    for (unsigned i = 0; i < G_N_ELEMENTS(ids); i++) {
        uint32_t id = (uint32_t)ids[i][0] << 24 | (uint32_t)ids[i][1] << 16 |
                      (uint32_t)ids[i][2] << 8 | (uint32_t)ids[i][3];
        if (manufacturer == id) {
            return true;
        }
    }
    return false;
}

/* The first command; a TPM that nobody started yet is started. */
static bool probe(ForeTpm *tpm, GError **error)
{
    FORE_ESYS_FREE TPMS_CAPABILITY_DATA *cap = NULL;
    TPMI_YES_NO more = TPM2_NO;
    TSS2_RC rc = TPM2_RC_INITIALIZE;

    for (int i = 0; i < 2 && fore_tpm_code(rc) == TPM2_RC_INITIALIZE; i++) {
        if (i > 0) {
            Esys_Startup(tpm->esys, TPM2_SU_CLEAR);
        }
        rc = Esys_GetCapability(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                TPM2_CAP_TPM_PROPERTIES, TPM2_PT_MANUFACTURER, 1, &more, &cap);
    }
    if (!fore_tpm_ok(tpm, rc, "asking for its manufacturer", error)) {
        return false;
    }
    if (cap->data.tpmProperties.count != 1) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNSUPPORTED,
                    "TPM '%s' does not name its manufacturer; is it a TPM 2.0?", tpm->tcti_name);
        return false;
    }
    tpm->software =
        tpm->socket != NULL || is_software_vendor(cap->data.tpmProperties.tpmProperty[0].value);
    return true;
}

static bool attach(ForeTpm *tpm, unsigned patience_ms, GError **error)
{
    TSS2_TCTI_CONTEXT *context = NULL;
    TSS2_RC rc;

    if (g_str_has_prefix(tpm->tcti_name, "swtpm:")) {
        tpm->socket = fore_tcti_new(tpm->tcti_name + strlen("swtpm:"), error);
        if (tpm->socket == NULL) {
            return false;
        }
        fore_tcti_set_deadline(tpm->socket, patience_ms);
        context = fore_tcti_context(tpm->socket);
    } else {
        const char *path = strchr(tpm->tcti_name, ':');

        /* Unlike an emulator's socket, a device does not appear while one waits. */
        if (g_str_has_prefix(tpm->tcti_name, "device:") && access(path + 1, F_OK) != 0) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND,
                        "there is no TPM at '%s'; is one enabled in the firmware?", path + 1);
            return false;
        }
        rc = Tss2_TctiLdr_Initialize(tpm->tcti_name, &tpm->loaded_tcti);
        if (!fore_tpm_ok(tpm, rc, "cannot open it (missing, busy, or no permission)", error)) {
            return false;
        }
        context = tpm->loaded_tcti;
    }
    rc = Esys_Initialize(&tpm->esys, context, NULL);
    return fore_tpm_ok(tpm, rc, "ESYS", error) && probe(tpm, error);
}

static void detach(ForeTpm *tpm)
{
    if (tpm->esys != NULL) {
        Esys_Finalize(&tpm->esys);
    }
    Tss2_TctiLdr_Finalize(&tpm->loaded_tcti);
    g_clear_pointer(&tpm->socket, fore_tcti_free);
}

static bool is_worth_retrying(const GError *error)
{
    return g_error_matches(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE) ||
           g_error_matches(error, FORE_ERROR, FORE_ERROR_TIMEOUT);
}

/* A quick look first, then one long wait in the queue: leaving the queue would lose the place. */
static bool attach_patiently(ForeTpm *tpm, GError **error)
{
    gint64 until = g_get_monotonic_time() + OPEN_MS * 1000;
    gulong pause_us = 5000;

    for (;;) {
        g_autoptr(GError) why = NULL;
        gint64 left_us = until - g_get_monotonic_time();

        if (attach(tpm, (unsigned)MAX(left_us / 1000, 1), &why)) {
            return true;
        }
        detach(tpm);
        if (!is_worth_retrying(why)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        if (g_get_monotonic_time() + (gint64)pause_us >= until) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "%s (waited %d s)", why->message,
                        OPEN_MS / 1000);
            return false;
        }
        g_usleep(pause_us);
        pause_us = MIN(pause_us * 2, 200000);
    }
}

ForeTpm *fore_tpm_open(const char *tcti, GError **error)
{
    g_autoptr(ForeTpm) tpm = g_new0(ForeTpm, 1);

    tpm->tcti_name = g_strdup(tcti);
    tpm->ek = tpm->ak = tpm->srk = ESYS_TR_NONE;
    if (!attach_patiently(tpm, error)) {
        return NULL;
    }
    if (tpm->socket != NULL) {
        fore_tcti_set_deadline(tpm->socket, COMMAND_MS);
    }
    /* An emulator has one client, so what is loaded now is a crashed predecessor's.  Not so on a
     * device: there the kernel's resource manager parks the sessions of others. */
    if (tpm->socket != NULL && (!flush_range(tpm, TRANSIENT_FIRST, error) ||
                                !flush_range(tpm, LOADED_SESSION_FIRST, error) ||
                                !flush_range(tpm, ACTIVE_SESSION_FIRST, error))) {
        return NULL;
    }
    return g_steal_pointer(&tpm);
}

void fore_tpm_close(ForeTpm *tpm)
{
    if (tpm == NULL) {
        return;
    }
    detach(tpm);
    g_clear_pointer(&tpm->ek_public, g_bytes_unref);
    g_clear_pointer(&tpm->ak_public, g_bytes_unref);
    g_free(tpm->tcti_name);
    g_free(tpm);
}

bool fore_tpm_is_software(const ForeTpm *tpm)
{
    return tpm->software;
}

static bool count_range(ForeTpm *tpm, TPM2_HANDLE first, unsigned *ret, GError **error)
{
    TPMI_YES_NO more = TPM2_NO;
    FORE_ESYS_FREE TPMS_CAPABILITY_DATA *cap = NULL;
    TSS2_RC rc = Esys_GetCapability(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                    TPM2_CAP_HANDLES, first, TPM2_MAX_CAP_HANDLES, &more, &cap);

    if (!fore_tpm_ok(tpm, rc, "listing loaded handles", error)) {
        return false;
    }
    *ret = cap->data.handles.count;
    return true;
}

bool fore_tpm_loaded(ForeTpm *tpm, unsigned *ret_objects, unsigned *ret_sessions, GError **error)
{
    unsigned objects = 0, loaded = 0, saved = 0;

    if (!count_range(tpm, TRANSIENT_FIRST, &objects, error) ||
        !count_range(tpm, LOADED_SESSION_FIRST, &loaded, error) ||
        !count_range(tpm, ACTIVE_SESSION_FIRST, &saved, error)) {
        return false;
    }
    *ret_objects = objects;
    *ret_sessions = loaded + saved;
    return true;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The TPM commands that Foresee needs, over ESYS: used by the SEA (vTPM) and the attester and
 * foreseed (host TPM).  Blocking: call from a worker thread or at start.  Structures go in and out
 * as the TPM's own marshalled bytes, so that vtpm/attest can judge them without a TPM.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_TPM_AK_HANDLE  0x81010F01u /* persistent, primary key of the endorsement hierarchy */
#define FORE_TPM_EK_HANDLE  0x81010001u /* persistent, TCG default */
#define FORE_TPM_SRK_HANDLE 0x81000001u
#define FORE_TPM_SEQ_INDEX  0x01800F01u /* NV counter: grant sequence, in a vTPM */
#define FORE_TPM_PCRS       24

typedef struct ForeTpm ForeTpm;

/**
 * fore_tpm_open: connect
 * @tcti: tss2 TCTI string: "device:/dev/tpmrm0", "swtpm:path=/run/x/sock",
 *         "swtpm:host=127.0.0.1,port=2321"
 * A busy or starting TPM is waited for, at most 3 s.  An emulator gets 30 s a command, then the
 * connection is dead (FORE_ERROR_TIMEOUT): open anew.
 * Errors: FORE_ERROR_UNAVAILABLE (no emulator, busy, in failure mode: the message says which),
 *         FORE_ERROR_NOT_FOUND (no such device), FORE_ERROR_INVALID (@tcti)
 */
ForeTpm *fore_tpm_open(const char *tcti, GError **error);
void fore_tpm_close(ForeTpm *tpm); /* flushes what it made; NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeTpm, fore_tpm_close)
bool fore_tpm_is_software(const ForeTpm *tpm); /* a software TPM: every verdict says so */
/** fore_tpm_loaded: transient objects and sessions that are loaded now; more than 0 between two
 * calls is a leak */
bool fore_tpm_loaded(ForeTpm *tpm, unsigned *ret_objects, unsigned *ret_sessions, GError **error);

/** fore_tpm_ek: TPM2B_PUBLIC of the EK (made persistent when missing) and its DER certificate from
 *  NV; *@ret_cert is NULL when the TPM carries none; @ret_cert may be NULL */
bool fore_tpm_ek(ForeTpm *tpm, GBytes **ret_public, GBytes **ret_cert, GError **error);
/** fore_tpm_ak: TPM2B_PUBLIC and name (nameAlg || digest) of the AK; created on first use: ECC
 * P-256, ECDSA-SHA256, fixedTPM|fixedParent|sensitiveDataOrigin|userWithAuth|noDA|restricted|sign
 */
bool fore_tpm_ak(ForeTpm *tpm, GBytes **ret_public, GBytes **ret_name, GError **error);
/** fore_tpm_activate: TPM2_ActivateCredential with EK and AK; @ret_secret at most 64 bytes
 *  Errors: FORE_ERROR_UNTRUSTED (the TPM refuses: other AK name, other EK, damaged blob) */
bool fore_tpm_activate(ForeTpm *tpm, GBytes *credential_blob, GBytes *encrypted_secret,
                       GBytes **ret_secret, GError **error);
/**
 * fore_tpm_quote: TPM2_Quote by the AK
 * @extra: qualifying data, at most 64 bytes   @pcr_mask: bit n = PCR n, SHA-256 bank
 * @ret_attest: TPMS_ATTEST bytes  @ret_signature: TPMT_SIGNATURE bytes
 */
bool fore_tpm_quote(ForeTpm *tpm, GBytes *extra, uint32_t pcr_mask, GBytes **ret_attest,
                    GBytes **ret_signature, GError **error);
/** fore_tpm_pcr_read: SHA-256 values of the PCRs in @pcr_mask into @ret[pcr] */
bool fore_tpm_pcr_read(ForeTpm *tpm, uint32_t pcr_mask, uint8_t ret[FORE_TPM_PCRS][32],
                       GError **error);
/** fore_tpm_pcr_updates: how often PCRs changed since the TPM started (pcrUpdateCounter of
 *  TPM2_PCR_Read; PCRs that the profile exempts, 16 and 21 to 23 on a PC, are not counted) */
bool fore_tpm_pcr_updates(ForeTpm *tpm, uint32_t *ret, GError **error);
bool fore_tpm_pcr_extend(ForeTpm *tpm, unsigned pcr, const uint8_t digest[32], GError **error);
/** fore_tpm_seal: @secret (at most 128 bytes) under the SRK; @ret_blob holds public and private
 * parts */
bool fore_tpm_seal(ForeTpm *tpm, GBytes *secret, GBytes **ret_blob, GError **error);
/** fore_tpm_seal_to: as fore_tpm_seal(), and to be had only while the PCRs of @pcr_mask (bit n =
 * PCR n, SHA-256 bank; 0: none) hold what they hold now */
bool fore_tpm_seal_to(ForeTpm *tpm, GBytes *secret, uint32_t pcr_mask, GBytes **ret_blob,
                      GError **error);
/** fore_tpm_unseal. Errors: FORE_ERROR_UNTRUSTED (another TPM's blob, other PCRs, or damaged) */
bool fore_tpm_unseal(ForeTpm *tpm, GBytes *blob, GBytes **ret_secret, GError **error);
/** fore_tpm_counter: current value of NV counter @index; created (and first incremented) when
 * missing */
bool fore_tpm_counter(ForeTpm *tpm, uint32_t index, uint64_t *ret_value, GError **error);
/** fore_tpm_counter_raise: increment @index until it is @value; at most 1024 steps, else LIMIT */
bool fore_tpm_counter_raise(ForeTpm *tpm, uint32_t index, uint64_t value, GError **error);

/* A log whose head is an NV index of type extend: head = SHA-256(head before || entry), zeros
 * first. */
#define FORE_TPM_LOG_BYTES    32
#define FORE_TPM_LAUNCH_INDEX 0x01800F11u /* what was launched on this host, by boot */
#define FORE_TPM_AUDIT_INDEX  0x01800F12u /* the PAM's audit log */
typedef enum {
    FORE_TPM_LOG_FOREVER,
    FORE_TPM_LOG_BOOT, /* starts anew when the TPM is reset; spares the NV memory */
} ForeTpmLogLife;
/** fore_tpm_log_extend: add an entry; the index is defined when missing */
bool fore_tpm_log_extend(ForeTpm *tpm, uint32_t index, ForeTpmLogLife life,
                         const uint8_t entry[FORE_TPM_LOG_BYTES], GError **error);
/** fore_tpm_log_head: zeros while nothing was added. Errors: FORE_ERROR_NOT_FOUND (no such index),
 * FORE_ERROR_EXISTS (the index is something else) */
bool fore_tpm_log_head(ForeTpm *tpm, uint32_t index, ForeTpmLogLife life,
                       uint8_t ret[FORE_TPM_LOG_BYTES], GError **error);
/**
 * fore_tpm_log_certify: TPM2_NV_Certify by the AK, for fore_nvcert_verify()
 * @extra: 1..64 bytes of qualifying data
 * Errors: as fore_tpm_log_head(), FORE_ERROR_NOT_FOUND (nothing was added yet)
 */
bool fore_tpm_log_certify(ForeTpm *tpm, uint32_t index, ForeTpmLogLife life, GBytes *extra,
                          GBytes **ret_attest, GBytes **ret_signature, GError **error);

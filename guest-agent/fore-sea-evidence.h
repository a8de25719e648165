/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What the guest's vTPM has to say, as the commands of docs/wire-format.md return it.  Blocking;
 * used by one thread at a time.  The TPM is opened when it is first needed, and again after an
 * error.
 */
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "guest-agent/fore-sea-grant.h"
#include "guest-agent/fore-sea-keys.h"
#include "guest-agent/fore-sea-log.h"

typedef struct ForeSeaEvidence ForeSeaEvidence;

/**
 * fore_sea_evidence_new: all strings are copied
 * @tcti: as fore_tpm_open()   @vm_uuid: canonical, 36 characters   @channel_pin: 64 hex characters
 * @keys: whose grants are taken (transfer full)
 */
ForeSeaEvidence *fore_sea_evidence_new(const char *tcti, const char *vm_uuid,
                                       const char *channel_pin, const char *sysfs_root,
                                       const char *procfs_root, ForeSeaKeys *keys);
void fore_sea_evidence_free(ForeSeaEvidence *evidence); /* NULL allowed */

/* Each returns the command's "return" object (transfer full), or NULL with the TPM's error. */
json_t *fore_sea_evidence_info(ForeSeaEvidence *evidence, GError **error);
json_t *fore_sea_evidence_activate(ForeSeaEvidence *evidence, GBytes *blob, GBytes *secret,
                                   GError **error);
/**
 * fore_sea_evidence_attest
 * @nonce: 32 bytes   @pcr_mask: bit n = PCR n, 0..15 only
 * Errors also: FORE_ERROR_UNAVAILABLE when PCRs moved under the quote twice; ask again
 */
json_t *fore_sea_evidence_attest(ForeSeaEvidence *evidence, GBytes *nonce, uint32_t pcr_mask,
                                 GError **error);
json_t *fore_sea_evidence_log(ForeSeaEvidence *evidence, ForeSeaLogKind kind, size_t offset,
                              size_t length, GError **error);

/** fore_sea_evidence_changes: fore_tpm_pcr_updates(); what IMA measures is in PCR 10, so it counts
 */
bool fore_sea_evidence_changes(ForeSeaEvidence *evidence, uint32_t *ret, GError **error);
/** fore_sea_evidence_grant: fore_sea_grant_accept() on this TPM */
bool fore_sea_evidence_grant(ForeSeaEvidence *evidence, const ForeSeaGrantExpect *expect,
                             const char *jws, ForeGrant *ret, GError **error);

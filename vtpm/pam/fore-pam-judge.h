/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Is a TPM that wants to be enrolled what it says?  The EK's certificate must lead to an anchor of
 * its kind (a software vTPM's maker never vouches for a node's hardware), the AK must be a key that
 * cannot leave its TPM and signs nothing but the TPM's own statements, and a credential made for
 * both must come back.
 */
#include <glib.h>
#include <stdbool.h>

#include "vtpm/attest/fore-reference.h"
#include "vtpm/pam/fore-pam-config.h"

#define FORE_PAM_SECRET_SIZE 32

typedef struct ForePamAnchors ForePamAnchors;

/** fore_pam_anchors_load: the two bundles of the configuration. Errors: FORE_ERROR_INVALID,
 * UNAVAILABLE */
ForePamAnchors *fore_pam_anchors_load(const ForePamConfig *config, GError **error);
void fore_pam_anchors_free(ForePamAnchors *anchors); /* NULL allowed */

/* Keys as a node or guest claims them: bytes from outside. */
typedef struct {
    GBytes *ek_public, *ek_certificate /* NULL: none */, *ak_public;
    GBytes *ak_name;     /* as claimed, or NULL */
    const char *vm_uuid; /* VM: whose vTPM it should be; node: NULL */
} ForePamKeysClaim;

/**
 * fore_pam_judge_keys
 * A vTPM's certificate whose common name carries a VM UUID (swtpm_setup --vmid) is for that VM
 * only.
 * @subject: which anchors count   @now_s: UTC seconds, for the certificate's dates
 * @ret_ak_name: name of the AK, computed (transfer full)
 * Errors: FORE_ERROR_UNTRUSTED (the message names the reason)
 */
bool fore_pam_judge_keys(const ForePamAnchors *anchors, ForeSubject subject,
                         const ForePamKeysClaim *claim, int64_t now_s, GBytes **ret_ak_name,
                         GError **error);

/* A credential and the secret that proves its activation. */
typedef struct {
    uint8_t secret[FORE_PAM_SECRET_SIZE];
    GBytes *blob, *encrypted;
} ForePamCredential;
/** fore_pam_credential_init: a fresh secret, readable only by the TPM that holds EK and AK */
bool fore_pam_credential_init(ForePamCredential *ret, GBytes *ek_public, GBytes *ak_name,
                              GError **error);
void fore_pam_credential_done(ForePamCredential *credential);
/** fore_pam_credential_matches: in constant time */
bool fore_pam_credential_matches(const ForePamCredential *credential, GBytes *secret);

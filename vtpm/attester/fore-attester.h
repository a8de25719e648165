/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The attester: serves one PAM over TLS 1.3 (docs/wire-format.md, Attester).  TPM commands run one
 * after the other in one worker thread, because the TPM blocks; everything else runs in the main
 * context.
 */
#include "common/fore-identity.h"
#include "vtpm/attester/fore-attester-config.h"

typedef struct ForeAttester ForeAttester;

/** fore_attester_prepare: the state folder and the key in it (transfer full) */
ForeIdentity *fore_attester_prepare(const ForeAttesterConfig *config, GError **error);
/**
 * fore_attester_new: listens from now on
 * @context: where it runs   @config, @identity: borrowed, outlive it; pam-pin must be set
 * Errors: FORE_ERROR_INVALID (no pam-pin, address), FORE_ERROR_EXISTS (the address is taken),
 *         FORE_ERROR_UNAVAILABLE
 */
ForeAttester *fore_attester_new(GMainContext *context, const ForeAttesterConfig *config,
                                ForeIdentity *identity, GError **error);
/** fore_attester_free: drops all peers, waits for the TPM command that runs.  NULL allowed. */
void fore_attester_free(ForeAttester *attester);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeAttester, fore_attester_free)

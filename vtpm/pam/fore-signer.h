/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Signs in a thread of its own: a token or TPM may take its time, or hang, and the others must be
 * served meanwhile.  One job after the other.
 */
#include <jansson.h>

#include "vtpm/host/fore-key.h"

#define FORE_SIGNER_TOKENS 2

typedef struct ForeSigner ForeSigner;
typedef struct ForeSignerJob ForeSignerJob;

/** ForeSignerDone: from the loop, once; the job is gone afterwards
 *  @tokens: [FORE_SIGNER_TOKENS] as asked for (borrowed), NULL with @error */
typedef void (*ForeSignerDone)(char *const *tokens, const GError *error, gpointer data);

/** fore_signer_new: @context: where answers come */
ForeSigner *fore_signer_new(GMainContext *context);
/** fore_signer_free: waits for the signature that is being made; nobody is answered.  NULL allowed
 */
void fore_signer_free(ForeSigner *signer);

/**
 * fore_signer_start
 * @key: borrowed, outlives the signer
 * @types, @claims: [FORE_SIGNER_TOKENS]; NULL claims: no such token; claims are (transfer full)
 * @timeout_ms: after it @done is called with FORE_ERROR_TIMEOUT, whatever the key still does
 */
ForeSignerJob *fore_signer_start(ForeSigner *signer, ForeKey *key, const char *const *types,
                                 json_t *const *claims, unsigned timeout_ms, ForeSignerDone done,
                                 gpointer data);
/** fore_signer_cancel: @done will not be called */
void fore_signer_cancel(ForeSignerJob *job);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A TCTI (TSS 2.0 TCTI API) for a TPM emulator on a Unix or TCP socket, with deadlines.  The one
 * that tpm2-tss 3.2.1 brings ignores its timeout, so a stopped or busy swtpm would hold its caller
 * forever.
 */
#include <glib.h>
#include <stdbool.h>
#include <tss2/tss2_tcti.h>

typedef struct ForeTcti ForeTcti;

/**
 * fore_tcti_new: connect
 * @config: "path=/run/x/sock" or "host=127.0.0.1,port=2321" (numeric address)
 * Errors: FORE_ERROR_INVALID (config), FORE_ERROR_UNAVAILABLE (refused, missing)
 */
ForeTcti *fore_tcti_new(const char *config, GError **error);
void fore_tcti_free(ForeTcti *tcti);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeTcti, fore_tcti_free)
/** fore_tcti_context: what Esys_Initialize() wants; lives as long as @tcti */
TSS2_TCTI_CONTEXT *fore_tcti_context(ForeTcti *tcti);
/** fore_tcti_set_deadline: milliseconds that one response may take; a late one breaks the
 * connection */
void fore_tcti_set_deadline(ForeTcti *tcti, unsigned deadline_ms);
/** fore_tcti_timed_out: the connection broke because a response came too late */
bool fore_tcti_timed_out(const ForeTcti *tcti);

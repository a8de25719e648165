/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The secure enclave agent: reports the guest's usage to its host, proves the guest's integrity
 * with its vTPM, and lets hot-plugged CPUs and memory in only against a grant.  The protocol is in
 * docs/wire-format.md, section SEA.
 */
#include <glib.h>

#include "guest-agent/fore-sea-config.h"

typedef struct ForeSea ForeSea;

/**
 * fore_sea_new: start serving in @context (NULL: the default one)
 * @config: borrowed, must outlive the agent
 * Errors: FORE_ERROR_INVALID, FORE_ERROR_UNAVAILABLE, FORE_ERROR_UNSUPPORTED: what was configured
 *         cannot be used; the message names it
 */
ForeSea *fore_sea_new(GMainContext *context, const ForeSeaConfig *config, GError **error);
void fore_sea_free(ForeSea *sea); /* NULL allowed; waits for a TPM command under way */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeSea, fore_sea_free)

/** fore_sea_pin: pin of the channel's key, 64 hex characters */
const char *fore_sea_pin(const ForeSea *sea);

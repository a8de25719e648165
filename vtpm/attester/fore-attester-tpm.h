/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The attester's use of its TPM.  Each call opens the TPM, works and closes it again, because a
 * software TPM serves one client at a time and foreseed uses the same one.  Blocking: called from
 * the worker thread only.
 */
#include <glib.h>
#include <jansson.h>

#include "vtpm/attester/fore-attester-config.h"

/** fore_attester_info: "return" of attester-info (transfer full) */
json_t *fore_attester_info(const ForeAttesterConfig *config, GError **error);
/** fore_attester_activate: @arguments of attester-activate, any content */
json_t *fore_attester_activate(const ForeAttesterConfig *config, const json_t *arguments,
                               GError **error);
/** fore_attester_quote: @arguments of attester-quote, any content; the evidence */
json_t *fore_attester_quote(const ForeAttesterConfig *config, const json_t *arguments,
                            GError **error);

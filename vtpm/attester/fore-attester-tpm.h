/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The attester's use of its TPM.  Each call opens the TPM, works and closes it again, because a
 * software TPM serves one client at a time and foreseed uses the same one.  Blocking, unless said
 * otherwise: called from the worker thread only.
 */
#include <glib.h>
#include <jansson.h>

#include "vtpm/attester/fore-attester-config.h"
#include "vtpm/attester/fore-attester-log.h"

/** fore_attester_info: "return" of attester-info (transfer full) */
json_t *fore_attester_info(const ForeAttesterConfig *config, GError **error);
/** fore_attester_activate: @arguments of attester-activate, any content */
json_t *fore_attester_activate(const ForeAttesterConfig *config, const json_t *arguments,
                               GError **error);

/* One asker's question. */
typedef struct {
    uint8_t extra[32]; /* fore_pathway_node_extra() of its nonce, this node, its VM and vTPM key */
    uint32_t mask;     /* PCRs, of 0..15 */
} ForeAttesterQuestion;
/** fore_attester_question: @arguments of attester-quote, any content.  Does not touch the TPM.
 *  Errors: FORE_ERROR_INVALID */
bool fore_attester_question(const ForeAttesterConfig *config, const json_t *arguments,
                            ForeAttesterQuestion *ret, GError **error);
/** fore_attester_quote: one quote that answers all of @n questions, 1..FORE_BATCH_MAX, of one mask.
 *  @logs: read on after the quote, so that they are never behind it */
json_t *fore_attester_quote(const ForeAttesterConfig *config, ForeAttesterLogs *logs,
                            const ForeAttesterQuestion *questions, size_t n, GError **error);

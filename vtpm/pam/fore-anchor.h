/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Anchors of an audit log: heads of it that were extended into a TPM's NV index, in order.  The
 * index cannot be turned back, so old copies of log and anchors put back together give another
 * value than it holds.  Here is the file of anchors and what it must add up to; the TPM is the
 * caller's.
 *
 *     {"base":HEX}            value of the index before the first anchor
 *     {"n":7,"hash":HEX}      head after line 7
 *
 * A line is on disk before its head is extended: after a crash the last one may be missing in the
 * index, never the reverse.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vtpm/pam/fore-audit.h"

typedef struct {
    uint8_t base[32];
    GArray *heads; /* ForeAuditHead, lines grow */
} ForeAnchorList;

/** fore_anchor_list_load: Errors: FORE_ERROR_NOT_FOUND (no file), FORE_ERROR_UNTRUSTED (not what
 * this program writes), FORE_ERROR_UNAVAILABLE.  A half-written last line is left out. */
ForeAnchorList *fore_anchor_list_load(const char *path, GError **error);
void fore_anchor_list_free(ForeAnchorList *anchors); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeAnchorList, fore_anchor_list_free)

/** fore_anchor_list_create: a new file with nothing anchored. Errors: FORE_ERROR_UNAVAILABLE */
bool fore_anchor_list_create(const char *path, const uint8_t base[32], GError **error);
/** fore_anchor_list_append: on disk when true */
bool fore_anchor_list_append(const char *path, const ForeAuditHead *head, GError **error);

/** fore_anchor_list_value: of the index after the first @n anchors */
void fore_anchor_list_value(const ForeAnchorList *anchors, guint n, uint8_t ret[32]);

/**
 * fore_anchor_list_check: the log's chain is whole, every anchor lies on it, and the index holds
 * what they add up to
 * @index: value of the NV index, read or certified
 * @ret_head: where the log ends   @ret_pending: the last anchor is not in the index yet (a crash)
 * Errors: FORE_ERROR_UNTRUSTED (what is wrong, and where), FORE_ERROR_UNAVAILABLE
 */
bool fore_anchor_list_check(const ForeAnchorList *anchors, const char *log_path,
                            const uint8_t index[32], ForeAuditHead *ret_head, bool *ret_pending,
                            GError **error);

/* A certified value of the index beside them, to be checked elsewhere. */
typedef struct {
    GBytes *attest, *signature, *ak_public;
} ForeAnchorProof;
void fore_anchor_proof_done(ForeAnchorProof *proof);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ForeAnchorProof, fore_anchor_proof_done)
/** fore_anchor_proof_extra: what the statement must be bound to: SHA-256 of a domain and @head */
GBytes *fore_anchor_proof_extra(const ForeAuditHead *head);
bool fore_anchor_proof_save(const char *path, const ForeAnchorProof *proof,
                            const ForeAuditHead *head, GError **error);
/** fore_anchor_proof_check: reads it and judges the statement.  @ret_index: the value it proves
 *  @ak_name: hex name that its key must have; NULL: whatever key it brings (then it shows only
 *  that some TPM said so).  Errors: FORE_ERROR_UNTRUSTED, FORE_ERROR_UNAVAILABLE, INVALID */
bool fore_anchor_proof_check(const char *path, const char *ak_name, uint8_t ret_index[32],
                             ForeAuditHead *ret_head, GError **error);

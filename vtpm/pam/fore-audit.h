/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The audit log: one JSON object a line, append-only, each line carrying the SHA-256 of itself and
 * its predecessor.  An edited, removed or moved line breaks the chain; a cut tail is told by the
 * head that the encrypted inventory keeps.
 *
 *     {"n":7,"at":"2026-01-02T03:04:05Z","what":"grant","id":"...","peer":"...","detail":"...","hash":HEX}
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct ForeAudit ForeAudit;

typedef struct {
    uint64_t lines;
    char hash[65]; /* hex of the last line's hash; zeros for an empty log */
} ForeAuditHead;

/**
 * fore_audit_open: checks the whole chain, then keeps the file open for appending (mode 0600)
 * @ret_torn: a half-written last line (a crash) was cut off
 * Errors: FORE_ERROR_UNTRUSTED (the chain is broken; names the line), FORE_ERROR_UNAVAILABLE
 */
ForeAudit *fore_audit_open(const char *path, bool *ret_torn, GError **error);
void fore_audit_close(ForeAudit *audit); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeAudit, fore_audit_close)

/**
 * fore_audit_append: one line, on disk (fsync) when it returns true
 * @what: stable verb   @id: node or VM   @peer: pin of who asked, "" for the PAM itself   @detail:
 * text Errors: FORE_ERROR_UNAVAILABLE (disk); the file then is as before
 */
bool fore_audit_append(ForeAudit *audit, const char *what, const char *id, const char *peer,
                       const char *detail, GError **error);
/** fore_audit_rewind: takes the last appended line back: what it told of did not happen.  Once. */
bool fore_audit_rewind(ForeAudit *audit, GError **error);
void fore_audit_head(const ForeAudit *audit, ForeAuditHead *ret);

/**
 * fore_audit_verify: reads the chain without opening it for writing
 * @anchor: a head that must lie on the chain, or NULL
 * @ret: where the chain ends
 * Errors: as fore_audit_open(); FORE_ERROR_UNTRUSTED also when the log ends before @anchor
 */
bool fore_audit_verify(const char *path, const ForeAuditHead *anchor, ForeAuditHead *ret,
                       GError **error);
/** fore_audit_verify_all: the same with @n heads that must lie on the chain, their lines growing */
bool fore_audit_verify_all(const char *path, const ForeAuditHead *anchors, size_t n,
                           ForeAuditHead *ret, GError **error);

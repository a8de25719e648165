/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What the PAM knows: enrolled nodes and VMs, their keys, the clock of their last quote, the last
 * grant's number, failures that nobody released, and the signed reference values.  On disk it is
 * one file, AES-256-GCM, replaced as a whole (write, fsync, rename, fsync), tied to the audit log
 * beside it.
 *
 *   STATE/inventory        the file            STATE/audit.log             see fore-audit.h
 *   STATE/inventory.key    32 bytes, 0600      STATE/inventory.key.sealed  the same, sealed to a
 * TPM
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vtpm/attest/fore-imalog.h"
#include "vtpm/attest/fore-pathway.h"
#include "vtpm/pam/fore-audit.h"

#define FORE_INVENTORY_MAX 4096 /* records */

typedef struct {
    ForeSubject subject;
    char id[FORE_NAME_MAX + 1];   /* node id or VM UUID */
    char name[FORE_NAME_MAX + 1]; /* VM: its name; node: as id */
    ForeRole role;
    char *address, *pin; /* node: of its attester; else NULL */
    char **pathway;      /* VM: node ids, NULL-terminated; else NULL */
    char owner[65];      /* VM: pin of the host agent that alone may ask for it; hypervisor: pin of
                            the host agent that alone may enrol VMs on it; "" nobody / anybody */
    GBytes *ek_public, *ak_public, *ak_name;
    char *ak_name_hex;
    int64_t enrolled_s; /* UTC seconds */
    bool software_tpm;  /* as the node said when it was enrolled */
    bool has_clock;
    ForeTpmClock clock; /* of the last quote that held */
    uint64_t seq;       /* VM: number of the last grant, or the SEA's counter at enrolment */
    char sticky[FORE_REASON_MAX + 1]; /* first reason of a failure that nobody released; "" none */

    /* not on disk: of the last runs */
    ForeImaState *ima_state; /* how far the IMA list of this boot was judged */
    ForeVerdict verdict;
    char reason[FORE_REASON_MAX + 1];
    bool proved; /* @pcrs of @pcr_mask were proved at @proved_us (monotonic) */
    int64_t proved_us;
    uint32_t pcr_mask;
    uint8_t pcrs[FORE_PCRS][32];
} ForeRecord;

ForeRecord *fore_record_new(ForeSubject subject, const char *id);
void fore_record_free(ForeRecord *record); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeRecord, fore_record_free)

typedef struct ForeInventory ForeInventory;

/**
 * fore_inventory_open: reads or makes the files in @dir, which must exist
 * @tcti: TPM that seals the key; NULL for a key file.  Blocks while the TPM works.
 * @ret_note: (transfer full) what was repaired after a crash, for the log; NULL when nothing
 * Errors: FORE_ERROR_UNTRUSTED (key does not fit, damaged, rolled back, audit log changed),
 *         FORE_ERROR_UNAVAILABLE (disk, TPM)
 */
ForeInventory *fore_inventory_open(const char *dir, const char *tcti, char **ret_note,
                                   GError **error);
void fore_inventory_close(ForeInventory *inv); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeInventory, fore_inventory_close)

ForeRecord *fore_inventory_find(ForeInventory *inv, const char *id); /* borrowed, or NULL */
/** fore_inventory_find_key: a record with this EK or AK, or NULL */
ForeRecord *fore_inventory_find_key(ForeInventory *inv, GBytes *ek_public, GBytes *ak_name);
/** fore_inventory_records: sorted by id; (transfer container) */
GPtrArray *fore_inventory_records(ForeInventory *inv);

/* What changed, for the audit log. */
typedef struct {
    const char *what; /* stable verb: "enroll-node", "grant", ... */
    const char *id, *peer, *detail;
} ForeChange;

/* Each of these is on disk when it returns true; when it returns false nothing has changed.
 * Errors: FORE_ERROR_UNAVAILABLE (disk full...), FORE_ERROR_EXISTS / NOT_FOUND / LIMIT */
bool fore_inventory_add(ForeInventory *inv, ForeRecord *record /* (transfer full) */,
                        const ForeChange *change, GError **error);
bool fore_inventory_remove(ForeInventory *inv, const char *id, const ForeChange *change,
                           GError **error);
/** fore_inventory_save: after the caller changed records; @change NULL: nothing worth an audit
 * line. On failure the caller puts its fields back. */
bool fore_inventory_save(ForeInventory *inv, const ForeChange *change, GError **error);

/** fore_inventory_revoke: @key, an AK name or an EK's SHA-256 in hex, is never taken again */
bool fore_inventory_revoke(ForeInventory *inv, const char *key, const ForeChange *change,
                           GError **error);
/** fore_inventory_is_revoked: its AK's name or its EK is on the list */
bool fore_inventory_is_revoked(const ForeInventory *inv, const ForeRecord *record);
/** fore_inventory_revoked: the list, sorted (transfer container) */
GPtrArray *fore_inventory_revoked(const ForeInventory *inv);

/** fore_inventory_audit_head: of the audit log, with every change so far */
void fore_inventory_audit_head(const ForeInventory *inv, ForeAuditHead *ret);
/** fore_inventory_is_anchored / _set_anchored: the audit log has been anchored in a TPM once, so
 * its anchors may not be missing */
bool fore_inventory_is_anchored(const ForeInventory *inv);
bool fore_inventory_set_anchored(ForeInventory *inv, const ForeChange *change, GError **error);

const char *fore_inventory_reference(const ForeInventory *inv); /* JWS, or NULL */
bool fore_inventory_set_reference(ForeInventory *inv, const char *jws, const ForeChange *change,
                                  GError **error);

/** fore_inventory_verify_audit: the chain, and that it holds what the inventory last saw
 *  @ret_lines: lines of the log */
bool fore_inventory_verify_audit(const char *dir, const char *tcti, uint64_t *ret_lines,
                                 GError **error);

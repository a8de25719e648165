/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Shared by fore-pam*.c only: the server's state and the command handlers. */
#include "common/fore-error.h"
#include "common/fore-wire.h"
#include "vtpm/attest/fore-rule.h"
#include "vtpm/host/fore-accept.h"
#include "vtpm/pam/fore-ask.h"
#include "vtpm/pam/fore-inventory.h"
#include "vtpm/pam/fore-pam-judge.h"
#include "vtpm/pam/fore-pam-limit.h"
#include "vtpm/pam/fore-pam.h"
#include "vtpm/pam/fore-signer.h"

#define FORE_SESSION_ID_LEN 32 /* hex characters */

typedef struct ForePamAnchor ForePamAnchor;

struct ForePam {
    GMainContext *context;
    const ForePamConfig *config;
    const ForePamKeys *keys;
    int lock_fd;
    ForeInventory *inventory;
    EVP_PKEY *policy_key;     /* NULL: none configured */
    ForeReference *reference; /* NULL: none set */
    ForeRules *rules;         /* of it; never NULL */
    ForeSnpRoots *snp_roots;  /* NULL: none configured */
    ForeSigner *signer;
    size_t log_bytes;      /* of all runs */
    ForePamAnchor *anchor; /* NULL: the audit log is not anchored */
    GHashTable *alarms;    /* what is wrong now: name -> name */
    ForePamAnchors *anchors;
    int fd;
    ForeAccept acceptor;
    GSource *accept;
    GPtrArray *peers; /* ForePamPeer */
    ForePamLimit *limit;
    const char **all_pins;       /* agents and operators, NULL-terminated */
    GHashTable *runs;            /* session id -> ForePamRun */
    GHashTable *enrolments;      /* session id -> VM enrolment */
    GHashTable *node_enrolments; /* node id -> node enrolment in flight */
    GPtrArray *learns;           /* learn commands for a node in flight */
    uint64_t epoch;              /* number of the next run */
};

typedef struct {
    ForePam *pam;
    ForeWire *wire;
    bool is_operator;
    char pin[FORE_PIN_HEX + 1]; /* "" until TLS has proved it */
} ForePamPeer;

typedef void (*ForePamHandler)(ForePam *pam, const ForePamPeer *peer, ForeCall *call);

/* fore-pam-peer.c */
void fore_pam_peers_init(ForePam *pam);
void fore_pam_peers_done(ForePam *pam);
/** fore_pam_listen: serve from now on. Errors: as fore_listen() */
bool fore_pam_listen(ForePam *pam, GError **error);

/* fore-pam-anchor.c */
/** fore_pam_anchor_start: checks log, anchors and TPM against each other, anchors what came since;
 *  blocking.  Errors: FORE_ERROR_UNTRUSTED, and what the TPM says */
bool fore_pam_anchor_start(ForePam *pam, GError **error);
void fore_pam_anchor_stop(ForePam *pam);

/* fore-pam-enroll.c */
void fore_pam_enroll_node(ForePam *pam, const ForePamPeer *peer, ForeCall *call);
void fore_pam_enroll_vm(ForePam *pam, const ForePamPeer *peer, ForeCall *call);
void fore_pam_activate_vm(ForePam *pam, const ForePamPeer *peer, ForeCall *call);
void fore_pam_enroll_init(ForePam *pam);
void fore_pam_enroll_done(ForePam *pam);

/* fore-pam-run.c */
void fore_pam_begin(ForePam *pam, const ForePamPeer *peer, ForeCall *call);
void fore_pam_evidence_log(ForePam *pam, const ForePamPeer *peer, ForeCall *call);
void fore_pam_finish(ForePam *pam, const ForePamPeer *peer, ForeCall *call);
void fore_pam_run_init(ForePam *pam);
void fore_pam_run_done(ForePam *pam);

/* fore-pam-admin.c */
void fore_pam_query_nodes(ForePam *pam, const ForePamPeer *peer, ForeCall *call);
void fore_pam_learn(ForePam *pam, const ForePamPeer *peer, ForeCall *call);
void fore_pam_set_reference(ForePam *pam, const ForePamPeer *peer, ForeCall *call);
void fore_pam_release(ForePam *pam, const ForePamPeer *peer, ForeCall *call);
void fore_pam_forget(ForePam *pam, const ForePamPeer *peer, ForeCall *call);
void fore_pam_revoke(ForePam *pam, const ForePamPeer *peer, ForeCall *call);
void fore_pam_assign(ForePam *pam, const ForePamPeer *peer, ForeCall *call);
void fore_pam_admin_init(ForePam *pam);
void fore_pam_admin_done(ForePam *pam);

/* fore-pam.c: small things that the above share */
/** fore_pam_fail: answers @call with an error made here */
void fore_pam_fail(ForeCall *call, ForeErrorCode code, const char *format, ...) G_GNUC_PRINTF(3, 4);
/** fore_pam_fail_with: answers @call with @error and frees @error */
void fore_pam_fail_with(ForeCall *call, GError *error);
/** fore_pam_random: @size random bytes; false when the generator fails (then nothing may go on) */
bool fore_pam_random(void *ret, size_t size, GError **error);
/** fore_pam_session_id: 32 fresh hex characters */
bool fore_pam_session_id(char ret[FORE_SESSION_ID_LEN + 1], GError **error);
/** fore_pam_alarm: @what (stable name) is wrong: log, audit log, and an ALARM event to every peer;
 *  once until fore_pam_calm() */
void fore_pam_alarm(ForePam *pam, const char *what, const char *why);
void fore_pam_calm(ForePam *pam, const char *what);
/** fore_pam_owns: may this peer speak for @vm?  Its own host agent only, see ForeRecord.owner */
bool fore_pam_owns(const ForePamPeer *peer, const ForeRecord *vm, GError **error);
/** fore_pam_ask: a question to the attester of @record within the deadline */
ForeAsk *fore_pam_ask(ForePam *pam, const char *address, const char *pin, const char *command,
                      json_t *arguments, ForeAskReply reply, gpointer data);
/** fore_pam_mask: PCRs that a subject must quote: those of the policy and those it has references
 * for */
uint32_t fore_pam_mask(const ForePam *pam, ForeSubject subject, const char *id);
/** fore_pam_absence: why an attester's answer is missing */
ForeNodeReason fore_pam_absence(const GError *error);
/** fore_pam_note: keep what a run found about @record: clock, values, failure.  The caller saves.
 *  Returns: the failure is new and must reach the disk */
bool fore_pam_note(ForeRecord *record, const ForeNodeResult *result, uint32_t mask);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Between fore-pam-run.c (questions and answers) and fore-pam-verdict.c (what they come to).  A run
 * is one question to a whole pathway:
 *
 *   OPEN       nonces are out, attesters are being asked      leaves by finish, or by expiry
 *   FINISHING  finish was called, some attester still owes    leaves when the last one answered or
 *              its evidence or list, or was late
 *   SIGNING    judged; a token or TPM signs                   leaves with the tokens, or late
 *   (gone)     its id never names anything again
 */
#include "vtpm/attest/fore-node-judge.h"
#include "vtpm/pam/fore-pam-internal.h"

typedef enum { FORE_RUN_FIRMWARE, FORE_RUN_IMA, FORE_RUN_LAUNCH, FORE_RUN_LOG_N } ForeRunLogKind;
extern const char *const fore_run_log_names[FORE_RUN_LOG_N]; /* "firmware", ... */

typedef struct {
    bool wanted;
    uint64_t from;     /* offset of the first byte */
    uint64_t end;      /* as the node says; attesters only */
    GByteArray *bytes; /* NULL: nothing came yet */
} ForeRunLog;

typedef struct ForePamRun ForePamRun;

typedef struct {
    ForePamRun *run;
    char id[FORE_NAME_MAX + 1];
    ForeRole role;
    GBytes *ak_public; /* as enrolled at begin; NULL: not enrolled */
    GBytes *extra;
    uint32_t mask;
    bool has_last;
    ForeTpmClock last; /* known at begin */
    ForeAsk *ask;      /* NULL once answered */
    json_t *evidence;
    ForeNodeReason absent;
    ForeRunLog logs[FORE_RUN_LOG_N];
} ForeRunNode;

struct ForePamRun {
    ForePam *pam;
    char id[FORE_SESSION_ID_LEN + 1];
    char peer_pin[FORE_PIN_HEX + 1];
    uint8_t nonce[FORE_NONCE_SIZE]; /* of the guest */
    ForeRunNode guest;
    ForeRunNode nodes[FORE_PATHWAY_MAX];
    unsigned n_nodes, waiting;
    uint64_t rules_version; /* of the manifest that the questions follow from */
    GSource *expiry;
    ForeCall *finish;    /* FINISHING, SIGNING */
    ForeSignerJob *sign; /* SIGNING */
    json_t *answer;      /* SIGNING: all but the tokens */
};

/* What finish brought. */
typedef struct {
    const json_t *evidence; /* NULL: the guest is silent */
    const char *channel_pin;
    bool wants_grant;
    int64_t vcpus, mem_bytes;
} ForeRunFinish;

/** fore_run_read_finish: @ret borrows from @arguments */
bool fore_run_read_finish(const json_t *arguments, ForeRunFinish *ret, GError **error);
/** fore_run_over: answers the finish, with @error (transfer full) or @answer (transfer full); frees
 *  @run */
void fore_run_over(ForePamRun *run, json_t *answer, GError *error);
/** fore_run_judge: every node has answered or is late: judge, keep, sign, answer; frees @run */
void fore_run_judge(ForePamRun *run);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One host and one guest around a real foresee-pam and a real foresee-attester: two processes, two
 * software TPMs, TLS in between.  The test itself plays foreseed (agent), the operator, and the SEA
 * on the guest's vTPM.
 */
#include <gio/gio.h>
#include <stdbool.h>

#include "common/fore-error.h"
#include "common/fore-wire.h"
#include "tests/lib/fore-test-swtpm.h"
#include "vtpm/attest/fore-grant.h"
#include "vtpm/attest/fore-reference.h"

#define GUEST_PCRS 0x0103u /* 0, 1, 8 */
#define NODE_PCRS  0x0083u /* 0, 1, 7 */
#define CALL_MS    20000u

typedef struct {
    char *dir;
    ForeTestSwtpm *host, *guest; /* shared by all tests of a program */
    const char *vm;              /* UUID, as in the vTPM's certificate */
    GSubprocess *pam, *attester;
    GDataInputStream *pam_log, *attester_log;
    char *pam_address, *attester_address, *pam_conf, *attester_conf;
    char *pam_pin, *attester_pin;
    ForeIdentity *agent_id, *agent2_id, *operator_id, *policy_id, *sea_id;
    ForeClient *agent, *operator;
    ForeReference *values; /* learnt so far; unsigned */
    uint64_t version;
    char pam_key[65];         /* id of the PAM key that the guest takes grants of */
    const char *extra_config; /* more lines for [pam] */
} Stack;

/** stack_missing: what is not installed, for g_test_skip(); NULL: all is there, and the TPMs are
 * made */
const char *stack_missing(void);
void stack_swtpms_done(void);

/** stack_new: TPMs with fresh PCRs, PAM and attester running, nothing enrolled */
Stack *stack_new(const char *extra_config);
void stack_free(Stack *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stack, stack_free)

void stack_write_pam_conf(Stack *s, const char *hardware_ca, const char *vtpm_ca);
void stack_start_pam(Stack *s); /* and connects agent and operator */
void stack_stop_pam(Stack *s, bool check_clean_exit);
void stack_start_attester(Stack *s, const char *tcti);
void stack_start_attester_as_configured(Stack *s); /* its file was written by the test */
void stack_stop_attester(Stack *s);
/** stack_run: a program of the build to its end. Returns exit code; @ret_out: standard output, may
 * be NULL */
int stack_run(const char *const *argv, char **ret_out);
const char *stack_pam_program(void);
const char *stack_attester_program(void);

void copy_tree(const char *from, const char *to);

/** stack_connect: blocking client of the PAM with the given key */
ForeClient *stack_connect(Stack *s, ForeIdentity *identity, GError **error);
/** must / must_fail: a call that has to succeed, or to fail with @code */
json_t *must(ForeClient *client, const char *command, json_t *arguments);
void must_fail(ForeClient *client, const char *command, json_t *arguments, ForeErrorCode code);

json_t *node_arguments(Stack *s, const char *id);                 /* of enroll-node */
json_t *vm_arguments(Stack *s, const char *vm, const char *tcti); /* of enroll-vm */
void stack_enroll_node(Stack *s);
void stack_enroll_vm(Stack *s);
/** stack_ready: both enrolled, learnt, signed and in force */
void stack_ready(Stack *s);
void stack_learn(Stack *s, const char *kind, const char *id);
void stack_set_reference(Stack *s);

/** guest_evidence: what sea-attest returns, from the TPM at @tcti */
json_t *guest_evidence(Stack *s, const char *tcti, const char *nonce64, uint32_t mask);
/** begin / finish: @evidence (transfer full) */
json_t *begin(Stack *s);
json_t *finish(Stack *s, const json_t *session, json_t *evidence);
/** run: begin, honest evidence of the guest, finish */
json_t *run(Stack *s);
/** check_verdict: @verdict, and @reason among the reasons of the nodes (NULL: none may be there) */
void check_verdict(const json_t *answer, const char *verdict, const char *reason);
/** check_grant: the grant verifies with the exported key. Returns its number */
uint64_t check_grant(Stack *s, const json_t *answer, uint64_t last_seq);
void extend(const char *tcti, unsigned pcr);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The pathway of a VM is the list of nodes that its growth passes through: hypervisor, switch,
 * storage and the guest itself.  This file derives what each node is asked, judges what each one
 * answered, and joins the answers into one verdict.  Pure: no I/O, no clock.  Unknown, late,
 * missing or unparsable is "no".
 */
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/fore-flow.h"
#include "vtpm/attest/fore-quote.h"
#include "vtpm/attest/fore-reference.h"

#define FORE_NONCE_SIZE      32
#define FORE_PATHWAY_MAX     8 /* nodes of a pathway, without the guest */
#define FORE_PATHWAY_REASONS 4 /* reasons that one node's judgement keeps */
#define FORE_REASON_MAX      95
#define FORE_DETAIL_MAX      159
#define FORE_PCRS            24
#define FORE_BATCH_MAX       64 /* questions that one quote of a node may answer */

typedef enum {
    FORE_ROLE_GUEST,
    FORE_ROLE_HYPERVISOR,
    FORE_ROLE_SWITCH,
    FORE_ROLE_STORAGE,
    FORE_ROLE_N
} ForeRole;
extern const char *const fore_role_names[FORE_ROLE_N];
/** fore_role_from_name: FORE_ROLE_N for an unknown name (NULL allowed) */
ForeRole fore_role_from_name(const char *name);

typedef enum {
    FORE_VERDICT_NONE,            /* nothing was proved, nothing was disproved */
    FORE_VERDICT_AFFIRMING,       /* proved */
    FORE_VERDICT_WARNING,         /* proved, with an exception that the policy itself allows */
    FORE_VERDICT_CONTRAINDICATED, /* disproved: sticks until an operator releases it */
    FORE_VERDICT_N
} ForeVerdict;
extern const char *const fore_verdict_names[FORE_VERDICT_N]; /* AR4SI tiers: "none", ... */

/* What can be wrong with a node beside its quote (fore-quote.h).  The names are stable. */
typedef enum {
    FORE_NODE_OK,
    FORE_NODE_SILENT,       /* no answer within the deadline */
    FORE_NODE_UNREACHABLE,  /* no connection, wrong pin, or it closed */
    FORE_NODE_ATTESTER,     /* the attester answered with an error */
    FORE_NODE_MALFORMED,    /* the evidence does not parse */
    FORE_NODE_NOT_ENROLLED, /* no record of that name */
    FORE_NODE_NO_REFERENCE, /* no signed reference value for a PCR that was asked for */
    FORE_NODE_CHANNEL,      /* the guest quoted another channel key than the one it speaks with */
    FORE_NODE_SEQUENCE,     /* the guest's grant counter is out of reach of what was issued */
    FORE_NODE_SOFTWARE_TPM, /* a software TPM where policy wants hardware */
    FORE_NODE_STICKY,       /* failed earlier and no operator released it */
    FORE_NODE_REVOKED,      /* its keys are on the revocation list */
    FORE_NODE_OVERTAKEN,    /* a newer run was judged first; ask again */
    FORE_NODE_PATHWAY,      /* policy names other nodes for this VM's pathway */
    FORE_NODE_PAM_KEY,      /* the guest takes grants of another PAM key */
    FORE_NODE_N
} ForeNodeReason;
const char *fore_node_reason_name(ForeNodeReason reason);

/**
 * fore_pathway_node_nonce: the nonce of one node in one run of one pathway:
 * SHA-256("foresee-pathway-nonce-v1" NUL, @run, id NUL, role NUL, @epoch in 8 bytes), so evidence
 * of another node, role or run never fits
 * @run: 32 random bytes of this run   @epoch: number of the run, grows
 */
void fore_pathway_node_nonce(const uint8_t run[FORE_NONCE_SIZE], const char *id, ForeRole role,
                             uint64_t epoch, uint8_t ret[FORE_NONCE_SIZE]);

/* What a guest says of itself beside its PCRs; its quote signs it. */
typedef struct {
    const char *vm_uuid;     /* 36 characters */
    const char *channel_pin; /* 64 characters: key that it shows to its host agent */
    const char *pam_key;     /* 64 characters: newest PAM key that it takes grants of */
    uint64_t seq;            /* its grant counter */
} ForeGuestSays;
/** fore_pathway_guest_extra: extraData of a guest's quote (docs/wire-format.md, Evidence)
 *  Returns: 32 bytes (transfer full) */
GBytes *fore_pathway_guest_extra(const uint8_t nonce[FORE_NONCE_SIZE], const ForeGuestSays *says);
/** fore_pathway_node_extra: extraData of a node's quote
 *  @vm_ak_name: hex name of the vTPM's AK that the node answers for (transfer full) */
GBytes *fore_pathway_node_extra(const uint8_t nonce[FORE_NONCE_SIZE], const char *node_id,
                                ForeRole role, const char *vm_uuid, const char *vm_ak_name);

/**
 * fore_pathway_batch_extra: extraData of one quote that answers several questions at once:
 * SHA-256("foresee-node-batch-v1" NUL, count in 4 bytes, every question's 32 bytes in order).  Each
 * asker finds its own extra data, as fore_pathway_node_extra() makes it, among @extras
 * @extras: @n digests, 1..FORE_BATCH_MAX
 */
GBytes *fore_pathway_batch_extra(const uint8_t (*extras)[32], size_t n);

typedef struct ForeNodeExpect ForeNodeExpect;
typedef struct ForeNodeResult ForeNodeResult;

/* A quote out of the JSON of a node. */
typedef struct {
    GBytes *attest, *signature;
    GBytes *extra;           /* that must have been signed: the question's own, or of its batch */
    const char *channel_pin; /* borrowed from the JSON, guest only */
} ForeNodeEvidence;

/** ForeNodeJudge: judges quote and content; @ret->pcrs are as reported.  Adds reasons, sets quoted
 *  and info */
typedef void (*ForeNodeJudge)(const ForeNodeExpect *expect, const ForeNodeEvidence *evidence,
                              const json_t *json, ForeNodeResult *ret, gpointer data);

/* What a node is held to. */
struct ForeNodeExpect {
    const char *id; /* node id or VM UUID */
    ForeRole role;
    GBytes *ak_public;              /* enrolled TPM2B_PUBLIC; NULL: not enrolled */
    GBytes *extra;                  /* exact extraData */
    uint32_t pcr_mask;              /* PCRs that were asked for */
    const ForeTpmClock *last;       /* of its last accepted quote, or NULL */
    const ForeReference *reference; /* NULL: no manifest was set */
    const char *channel_pin;        /* guest: the pin its evidence must name; else NULL */
    bool allow_software_tpm;
    ForeNodeReason absent; /* why there is no evidence, when there is none; 0 means silent */
    const char *sticky;    /* reason of an earlier failure that nobody released, or NULL */
    bool revoked;          /* its keys are on the revocation list */
    ForeNodeJudge judge;   /* NULL: quote and @reference.  Else fore_node_judge() */
    gpointer judge_data;
    ForeNodeJudge also; /* NULL, or asked once the quote holds: adds reasons */
    gpointer also_data;
};

/* What was found. */
struct ForeNodeResult {
    char id[FORE_NAME_MAX + 1];
    ForeRole role;
    ForeVerdict verdict;
    unsigned n_reasons; /* 0 exactly when affirming */
    char reasons[FORE_PATHWAY_REASONS][FORE_REASON_MAX + 1];
    char details[FORE_PATHWAY_REASONS][FORE_DETAIL_MAX + 1]; /* printable ASCII, may be "" */
    bool quoted;        /* the quote holds: @info and @pcrs are proved, whatever the verdict */
    bool software_tpm;  /* the node says so of itself */
    ForeQuoteInfo info; /* when @quoted */
    uint8_t pcrs[FORE_PCRS][32]; /* when @quoted, those of the mask */
    uint8_t evidence_digest[32]; /* SHA-256 over attest and signature; zero without evidence */
};

/** fore_node_result_init: verdict none, @reason its only reason (FORE_NODE_OK: no reason yet) */
void fore_node_result_init(ForeNodeResult *ret, const char *id, ForeRole role,
                           ForeNodeReason reason);
/** fore_node_result_add: one more reason and the verdict it implies; contraindicated outranks none,
 * which outranks warning */
void fore_node_result_add(ForeNodeResult *result, ForeVerdict verdict, const char *reason);
void fore_node_result_add_detail(ForeNodeResult *result, ForeVerdict verdict, const char *reason,
                                 const char *detail);

/**
 * fore_pathway_judge: one node's evidence
 * @evidence: JSON from outside, any content; NULL when there is none
 * @ret: always written
 */
void fore_pathway_judge(const ForeNodeExpect *expect, const json_t *evidence, ForeNodeResult *ret);

/** fore_node_result_settle: affirming exactly when no reason was given.  After the last _add(). */
void fore_node_result_settle(ForeNodeResult *result);

/** fore_verdict_grants: affirming, or a warning that policy tolerates by saying so */
bool fore_verdict_grants(ForeVerdict verdict);
/** fore_pathway_verdict: the worst of @n results; none for n == 0 */
ForeVerdict fore_pathway_verdict(const ForeNodeResult *results, size_t n);

/** fore_pathway_evidence: hex SHA-256 over every node's name and evidence digest: claim "evd" of a
 * grant */
void fore_pathway_evidence(const ForeNodeResult *results, size_t n, char ret[65]);

/* The EAT attestation result (draft-ietf-rats-ear) of one run. */
typedef struct {
    const char *verifier;        /* name of the PAM */
    const char *vm_uuid;         /* whose pathway it is */
    const char *policy_id;       /* which reference values judged it */
    const uint8_t *nonce;        /* [32], of the guest */
    int64_t issued_s, expires_s; /* UTC seconds */
    bool software_key;           /* the PAM signs with a key in a file */
} ForeEarInput;
/** fore_pathway_ear: claims with one submodule a node (transfer full) */
json_t *fore_pathway_ear(const ForeEarInput *input, const ForeNodeResult *results, size_t n);

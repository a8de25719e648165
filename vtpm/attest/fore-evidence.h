/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * All evidence of one node as one judgement: quote, event log, IMA list and, for a confidential
 * guest, the SNP report, held against one policy.  What is missing, late or unreadable is "none";
 * what is disproved is "contraindicated"; what holds with an exception that the policy itself
 * allows is "warning".  Pure: no I/O, no clock.
 */
#include "vtpm/attest/fore-eventlog.h"
#include "vtpm/attest/fore-imalog.h"
#include "vtpm/attest/fore-pathway.h"
#include "vtpm/attest/fore-quote.h"
#include "vtpm/attest/fore-snp.h"

/* What can be wrong beside the parts' own reasons.  Names are stable, all begin with "evidence-".
 */
typedef enum {
    FORE_EVIDENCE_OK,
    FORE_EVIDENCE_POLICY,    /* the policy is empty or contradicts itself: accepts nothing */
    FORE_EVIDENCE_UNHELD,    /* a PCR is quoted that nothing in the policy holds to anything */
    FORE_EVIDENCE_PCR_VALUE, /* a PCR has a value that is not listed */
    FORE_EVIDENCE_IMA_MORE,  /* the slice ended before the proved PCR; fetch the next one */
    FORE_EVIDENCE_REBOOTED,  /* slice of another boot: fetch the list from offset 0 */
    FORE_EVIDENCE_N
} ForeEvidenceReason;
const char *fore_evidence_reason_name(ForeEvidenceReason reason);

/*
 * What a node is held to.  All zero accepts nothing.  Each PCR of @pcr_mask must be held by at
 * least one of: @pcr_values, @log.events, PCR 10 by @ima.  Secure Boot alone holds nothing: it can
 * be on with anyone's keys.
 */
typedef struct {
    uint32_t pcr_mask;               /* PCRs 0..15 of the quote; not 0 */
    const ForePcrDigest *pcr_values; /* accepted values, sorted by fore_pcr_digest_compare() */
    size_t n_pcr_values;
    bool use_log;             /* @log is in force */
    ForeEventlogPolicy log;   /* its pcr_mask: a part of @pcr_mask that is recomputed */
    const ForeImaPolicy *ima; /* NULL: the IMA list is not judged, PCR 10 needs values */
    const ForeSnpPolicy *snp; /* NULL: no confidential guest */
    uint64_t min_firmware;    /* of the TPM */
} ForeEvidencePolicy;

/** fore_evidence_policy_check: FORE_EVIDENCE_OK, _POLICY, or _UNHELD with the PCR in @ret_pcr (may
 * be NULL).  fore_evidence_judge() asks it, too; loading a manifest should */
ForeEvidenceReason fore_evidence_policy_check(const ForeEvidencePolicy *policy, unsigned *ret_pcr);

/* What came from the node. */
typedef struct {
    GBytes *attest, *signature;
    const uint8_t (*pcrs)[32]; /* [24] as reported; proved by the quote before they are used */
    GBytes *eventlog;          /* whole; NULL: none */
    ForeImaSlice ima;
    const ForeSnpEvidence *snp; /* NULL: none */
} ForeEvidence;

/* What it is held to. */
typedef struct {
    const ForeEvidencePolicy *policy;
    GBytes *ak_public, *extra; /* see ForeQuoteExpect */
    const ForeTpmClock *last;
    GBytes *signer;
    const uint8_t *snp_report_data; /* [64], see ForeSnpExpect; may be NULL with var_data */
    ForeImaState *ima;              /* of this node; moves on success, is reset by a reboot */
} ForeEvidenceExpect;

#define FORE_EVIDENCE_REASONS 8
typedef struct {
    ForeVerdict verdict;
    unsigned n_reasons; /* 0 exactly when affirming */
    struct {
        ForeVerdict verdict; /* that this reason implies */
        const char *name;    /* static string, stable: "ima-unlisted" */
        char detail[160];    /* printable ASCII: path, PCR, offset; may be "" */
    } reasons[FORE_EVIDENCE_REASONS];
    bool quoted; /* @info and the reported PCRs are proved, whatever the verdict */
    ForeQuoteInfo info;
    ForeSecureBoot secure_boot;
    ForeEventlogResult log; /* when a log was judged */
    ForeImaResult ima;      /* when a list was judged */
} ForeEvidenceResult;

/** fore_evidence_judge: @ret is always written */
void fore_evidence_judge(const ForeEvidence *evidence, const ForeEvidenceExpect *expect,
                         ForeEvidenceResult *ret);

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  The policy is asked first whether it means anything; then the quote, which is
 * cheap and tells whether the rest is worth reading.  A quote that holds proves the reported PCR
 * values: they hash to what was signed.  From there on every other part must lead to exactly these
 * values, so the logs are recomputed, never believed.  Parts are judged independently and all
 * their reasons are kept: an operator wants to see everything that is wrong at once.
 */
#include "vtpm/attest/fore-evidence.h"

#include <stdlib.h>
#include <string.h>

#define EVIDENCE_PCRS 0x0000ffffu
#define IMA_PCRS      0x000007ffu /* 0 to 9 for the boot aggregate, 10 for the list */

static const char *const names[] = {
    [FORE_EVIDENCE_OK] = "ok",
    [FORE_EVIDENCE_POLICY] = "evidence-bad-policy",
    [FORE_EVIDENCE_UNHELD] = "evidence-pcr-unheld",
    [FORE_EVIDENCE_PCR_VALUE] = "evidence-pcr-value",
    [FORE_EVIDENCE_IMA_MORE] = "evidence-ima-more",
    [FORE_EVIDENCE_REBOOTED] = "evidence-rebooted",
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == FORE_EVIDENCE_N);

const char *fore_evidence_reason_name(ForeEvidenceReason reason)
{
    g_assert(reason < FORE_EVIDENCE_N);
    return names[reason];
}

/* --- the policy --- */

/* Sorted, within @mask; @ret_named: the PCRs that occur. */
static bool list_fits(const ForePcrDigest *list, size_t n, uint32_t mask, uint32_t *ret_named)
{
    *ret_named = 0;
    if (n > 0 && list == NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (list[i].pcr >= 16 || (mask >> list[i].pcr & 1u) == 0 ||
            (i > 0 && fore_pcr_digest_compare(&list[i - 1], &list[i]) > 0)) {
            return false;
        }
        *ret_named |= 1u << list[i].pcr;
    }
    return true;
}

static bool log_fits(const ForeEvidencePolicy *policy, uint32_t *ret_named)
{
    *ret_named = 0;
    if (!policy->use_log) {
        return policy->log.n_events == 0 && !policy->log.require_secure_boot &&
               !policy->log.require_exit_boot_services && policy->log.dbx == NULL;
    }
    return policy->log.pcr_mask != 0 && (policy->log.pcr_mask & ~policy->pcr_mask) == 0 &&
           list_fits(policy->log.events, policy->log.n_events, policy->log.pcr_mask, ret_named);
}

ForeEvidenceReason fore_evidence_policy_check(const ForeEvidencePolicy *policy, unsigned *ret_pcr)
{
    uint32_t by_value, by_event, unheld;

    if (policy == NULL || policy->pcr_mask == 0 || (policy->pcr_mask & ~EVIDENCE_PCRS) != 0 ||
        !list_fits(policy->pcr_values, policy->n_pcr_values, policy->pcr_mask, &by_value) ||
        !log_fits(policy, &by_event) ||
        (policy->ima != NULL &&
         ((policy->pcr_mask & IMA_PCRS) != IMA_PCRS || !fore_ima_policy_usable(policy->ima)))) {
        return FORE_EVIDENCE_POLICY;
    }
    unheld = policy->pcr_mask & ~by_value & ~by_event;
    if (policy->ima != NULL) {
        unheld &= ~(1u << FORE_IMA_PCR);
    }
    if (unheld == 0) {
        return FORE_EVIDENCE_OK;
    }
    if (ret_pcr != NULL) {
        *ret_pcr = (unsigned)__builtin_ctz(unheld);
    }
    return FORE_EVIDENCE_UNHELD;
}

/* --- reasons --- */

static unsigned rank(ForeVerdict verdict)
{
    static const unsigned ranks[FORE_VERDICT_N] = {
        [FORE_VERDICT_AFFIRMING] = 0,
        [FORE_VERDICT_WARNING] = 1,
        [FORE_VERDICT_NONE] = 2,
        [FORE_VERDICT_CONTRAINDICATED] = 3,
    };
    return ranks[verdict];
}

static void add(ForeEvidenceResult *ret, ForeVerdict verdict, const char *name, const char *format,
                ...) G_GNUC_PRINTF(4, 5);

static void add(ForeEvidenceResult *ret, ForeVerdict verdict, const char *name, const char *format,
                ...)
{
    va_list args;

    if (ret->n_reasons == 0 || rank(verdict) > rank(ret->verdict)) {
        ret->verdict = verdict;
    }
    if (ret->n_reasons == FORE_EVIDENCE_REASONS) {
        return;
    }
    ret->reasons[ret->n_reasons].verdict = verdict;
    ret->reasons[ret->n_reasons].name = name;
    va_start(args, format);
    g_vsnprintf(ret->reasons[ret->n_reasons].detail, sizeof(ret->reasons[0].detail), format, args);
    va_end(args);
    ret->n_reasons++;
}

/* --- the quote --- */

static ForeVerdict of_quote(ForeQuoteReason reason)
{
    switch (reason) {
    case FORE_QUOTE_ATTEST_MALFORMED:
    case FORE_QUOTE_SIGNATURE_MALFORMED:
    case FORE_QUOTE_CLOCK_UNSAFE:
        return FORE_VERDICT_NONE;
    default:
        return FORE_VERDICT_CONTRAINDICATED;
    }
}

static bool judge_quote(const ForeEvidence *evidence, const ForeEvidenceExpect *expect,
                        ForeEvidenceResult *ret)
{
    ForeQuoteExpect quote = {
        .ak_public = expect->ak_public,
        .extra = expect->extra,
        .pcr_mask = expect->policy->pcr_mask,
        .pcrs = evidence->pcrs,
        .last = expect->last,
        .signer = expect->signer,
        .min_firmware = expect->policy->min_firmware,
    };
    ForeQuoteReason reason =
        fore_quote_verify(&quote, evidence->attest, evidence->signature, &ret->info);

    if (reason != FORE_QUOTE_OK) {
        add(ret, of_quote(reason), fore_quote_reason_name(reason), "%s", "");
    }
    ret->quoted = reason == FORE_QUOTE_OK;
    return ret->quoted;
}

/* --- values --- */

static void judge_values(const ForeEvidence *evidence, const ForeEvidencePolicy *policy,
                         ForeEvidenceResult *ret)
{
    uint32_t named = 0;

    for (size_t i = 0; i < policy->n_pcr_values; i++) {
        named |= 1u << policy->pcr_values[i].pcr;
    }
    for (unsigned pcr = 0; pcr < 16; pcr++) {
        ForePcrDigest key = {.pcr = (uint8_t)pcr};

        if ((named >> pcr & 1u) == 0) {
            continue;
        }
        memcpy(key.digest, evidence->pcrs[pcr], 32);
        if (bsearch(&key, policy->pcr_values, policy->n_pcr_values, sizeof(key),
                    fore_pcr_digest_compare) == NULL) {
            add(ret, FORE_VERDICT_CONTRAINDICATED,
                fore_evidence_reason_name(FORE_EVIDENCE_PCR_VALUE), "PCR %u", pcr);
        }
    }
}

/* --- the event log --- */

/* A log that cannot be read proves nothing; the rest disproves. */
static ForeVerdict of_log(ForeEventlogReason reason)
{
    switch (reason) {
    case FORE_EVENTLOG_MISSING:
    case FORE_EVENTLOG_TOO_LARGE:
    case FORE_EVENTLOG_SPEC_ID:
    case FORE_EVENTLOG_LEGACY:
    case FORE_EVENTLOG_BANK:
    case FORE_EVENTLOG_TRUNCATED:
    case FORE_EVENTLOG_MALFORMED:
    case FORE_EVENTLOG_POLICY:
        return FORE_VERDICT_NONE;
    default:
        return FORE_VERDICT_CONTRAINDICATED;
    }
}

static void judge_log(const ForeEvidence *evidence, const ForeEvidencePolicy *policy,
                      ForeEvidenceResult *ret)
{
    ForeEventlogReason reason =
        fore_eventlog_judge(evidence->eventlog, &policy->log, evidence->pcrs, &ret->log);
    const struct {
        bool seen;
        ForeEventlogReason reason;
    } odd[] = {
        {ret->log.early_application, FORE_EVENTLOG_ORDER},
        {ret->log.separator_odd, FORE_EVENTLOG_SEPARATOR_MISSING},
        {ret->log.debug, FORE_EVENTLOG_DEBUG},
    };

    ret->secure_boot = ret->log.secure_boot;
    if (reason != FORE_EVENTLOG_OK) {
        add(ret, of_log(reason), fore_eventlog_reason_name(reason), "PCR %u, byte %zu",
            ret->log.pcr, ret->log.offset);
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(odd); i++) {
        if (odd[i].seen) {
            add(ret, FORE_VERDICT_WARNING, fore_eventlog_reason_name(odd[i].reason), "%s",
                "allowed by policy");
        }
    }
}

/* --- the IMA list --- */

static ForeVerdict of_ima(ForeImaReason reason)
{
    switch (reason) {
    case FORE_IMA_MISSING:
    case FORE_IMA_TOO_LARGE:
    case FORE_IMA_GAP:
    case FORE_IMA_OVERLAP:
    case FORE_IMA_TRUNCATED:
    case FORE_IMA_MALFORMED:
    case FORE_IMA_TEMPLATE:
    case FORE_IMA_SIGNATURE_LIMIT:
    case FORE_IMA_POLICY:
        return FORE_VERDICT_NONE;
    default:
        return FORE_VERDICT_CONTRAINDICATED;
    }
}

static void judge_ima(const ForeEvidence *evidence, const ForeEvidenceExpect *expect,
                      ForeEvidenceResult *ret)
{
    ForeImaReason reason;

    if (ret->info.rebooted) {
        fore_ima_state_reset(expect->ima);
        if (evidence->ima.offset != 0) {
            add(ret, FORE_VERDICT_NONE, fore_evidence_reason_name(FORE_EVIDENCE_REBOOTED), "%s",
                "fetch the IMA list from offset 0");
            return;
        }
    }
    reason =
        fore_ima_judge(expect->ima, expect->policy->ima, &evidence->ima, evidence->pcrs, &ret->ima);
    if (reason != FORE_IMA_OK) {
        add(ret, of_ima(reason), fore_ima_reason_name(reason), "%s%sbyte %" G_GUINT64_FORMAT,
            ret->ima.path, ret->ima.path[0] != '\0' ? ", " : "", ret->ima.at);
    } else if (!ret->ima.proved) {
        add(ret, FORE_VERDICT_NONE, fore_evidence_reason_name(FORE_EVIDENCE_IMA_MORE),
            "%" G_GUINT64_FORMAT " bytes judged", fore_ima_state_offset(expect->ima));
    }
    if (reason == FORE_IMA_OK && fore_ima_state_violations(expect->ima) > 0) {
        add(ret, FORE_VERDICT_WARNING, fore_ima_reason_name(FORE_IMA_VIOLATION),
            "%" G_GUINT64_FORMAT " so far", fore_ima_state_violations(expect->ima));
    }
}

/* --- a confidential guest --- */

static ForeVerdict of_snp(ForeSnpReason reason)
{
    switch (reason) {
    case FORE_SNP_MISSING:
    case FORE_SNP_MALFORMED:
    case FORE_SNP_CERT_MALFORMED:
    case FORE_SNP_NO_CRL:
    case FORE_SNP_BAD_POLICY:
        return FORE_VERDICT_NONE;
    default:
        return FORE_VERDICT_CONTRAINDICATED;
    }
}

static void judge_snp(const ForeEvidence *evidence, const ForeEvidenceExpect *expect,
                      ForeEvidenceResult *ret)
{
    ForeSnpExpect want = {.report_data = expect->snp_report_data, .ak_public = expect->ak_public};
    ForeSnpReason reason = fore_snp_judge(evidence->snp, expect->policy->snp, &want, NULL);

    if (reason != FORE_SNP_OK) {
        add(ret, of_snp(reason), fore_snp_reason_name(reason), "%s", "");
    }
}

/* --- all of it --- */

void fore_evidence_judge(const ForeEvidence *evidence, const ForeEvidenceExpect *expect,
                         ForeEvidenceResult *ret)
{
    const ForeEvidencePolicy *policy = expect->policy;
    unsigned pcr = 0;
    ForeEvidenceReason reason = fore_evidence_policy_check(policy, &pcr);

    memset(ret, 0, sizeof(*ret));
    if (reason == FORE_EVIDENCE_OK && policy->ima != NULL && expect->ima == NULL) {
        reason = FORE_EVIDENCE_POLICY;
    }
    if (reason != FORE_EVIDENCE_OK) {
        if (reason == FORE_EVIDENCE_UNHELD) {
            add(ret, FORE_VERDICT_NONE, fore_evidence_reason_name(reason), "PCR %u", pcr);
        } else {
            add(ret, FORE_VERDICT_NONE, fore_evidence_reason_name(reason), "%s", "accepts nothing");
        }
        return;
    }
    if (!judge_quote(evidence, expect, ret)) {
        return;
    }
    judge_values(evidence, policy, ret);
    if (policy->use_log) {
        judge_log(evidence, policy, ret);
    }
    if (policy->ima != NULL) {
        judge_ima(evidence, expect, ret);
    }
    if (policy->snp != NULL) {
        judge_snp(evidence, expect, ret);
    }
    if (ret->n_reasons == 0) {
        ret->verdict = FORE_VERDICT_AFFIRMING;
    }
}

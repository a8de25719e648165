/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/attest/fore-node-judge.h"

#include <openssl/evp.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-json.h"

#define SNP_CERT_MAX  8192
#define SNP_CERTS_MAX 4

typedef struct {
    ForeSnpEvidence evidence;
    GBytes *intermediates[SNP_CERTS_MAX];
} Snp;

static void snp_done(Snp *snp)
{
    g_clear_pointer(&snp->evidence.report, g_bytes_unref);
    g_clear_pointer(&snp->evidence.cert, g_bytes_unref);
    g_clear_pointer(&snp->evidence.var_data, g_bytes_unref);
    for (unsigned i = 0; i < SNP_CERTS_MAX; i++) {
        g_clear_pointer(&snp->intermediates[i], g_bytes_unref);
    }
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Snp, snp_done)

/* {"report", "certificate", "intermediates": [], "var-data" (optional)}; all base64. */
static bool read_snp(const json_t *json, Snp *ret)
{
    json_t *snp, *list;

    if (!fore_json_get_object(json, "snp", &snp, NULL) ||
        !fore_json_get_bytes(snp, "report", FORE_SNP_REPORT_SIZE, &ret->evidence.report, NULL) ||
        !fore_json_get_bytes(snp, "certificate", SNP_CERT_MAX, &ret->evidence.cert, NULL) ||
        !fore_json_get_array(snp, "intermediates", SNP_CERTS_MAX, &list, NULL) ||
        (json_object_get(snp, "var-data") != NULL &&
         !fore_json_get_bytes(snp, "var-data", FORE_SNP_VAR_DATA_MAX, &ret->evidence.var_data,
                              NULL))) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));

        ret->intermediates[i] = text != NULL ? fore_b64_decode(text, SNP_CERT_MAX) : NULL;
        if (ret->intermediates[i] == NULL) {
            return false;
        }
        ret->evidence.n_intermediates++;
    }
    ret->evidence.intermediates = ret->intermediates;
    return true;
}

void fore_node_snp_report_data(GBytes *extra, GBytes *ak_public, uint8_t ret[64])
{
    g_assert(g_bytes_get_size(extra) == 32);
    memcpy(ret, g_bytes_get_data(extra, NULL), 32);
    g_assert(EVP_Digest(g_bytes_get_data(ak_public, NULL), g_bytes_get_size(ak_public), ret + 32,
                        NULL, EVP_sha256(), NULL) == 1);
}

/* Runs overlap, and each judged list moves the state: what lies before it was judged already. */
static GBytes *trim(const ForeImaSlice *slice, uint64_t from)
{
    gsize size = slice->bytes != NULL ? g_bytes_get_size(slice->bytes) : 0;
    uint64_t skip = from > slice->offset ? from - slice->offset : 0;

    if (size == 0) {
        return NULL;
    }
    return g_bytes_new_from_bytes(slice->bytes, (gsize)MIN(skip, size),
                                  size - (gsize)MIN(skip, size));
}

static bool is_earlier(const ForeTpmClock *a, const ForeTpmClock *b)
{
    if (a->reset_count != b->reset_count) {
        return a->reset_count < b->reset_count;
    }
    if (a->restart_count != b->restart_count) {
        return a->restart_count < b->restart_count;
    }
    return a->clock_ms < b->clock_ms;
}

/* The quote alone, to learn its clock before a list is judged against it. */
static bool is_overtaken(const ForeNodeExpect *expect, const ForeNodeEvidence *evidence,
                         const ForeNodeResult *ret, const ForeTpmClock *newest)
{
    ForeQuoteExpect quote = {
        .ak_public = expect->ak_public,
        .extra = evidence->extra,
        .pcr_mask = expect->pcr_mask,
        .pcrs = (const uint8_t(*)[32])ret->pcrs,
    };
    ForeQuoteInfo info;

    return newest != NULL &&
           fore_quote_verify(&quote, evidence->attest, evidence->signature, &info) ==
               FORE_QUOTE_OK &&
           is_earlier(&info.clock, newest);
}

static void take_over(const ForeEvidenceResult *judged, ForeNodeResult *ret)
{
    ret->quoted = judged->quoted;
    ret->info = judged->info;
    for (unsigned i = 0; i < judged->n_reasons; i++) {
        fore_node_result_add_detail(ret, judged->reasons[i].verdict, judged->reasons[i].name,
                                    judged->reasons[i].detail);
    }
    if (judged->n_reasons == 0 && judged->verdict != FORE_VERDICT_AFFIRMING) {
        /* cannot be; if it is, it is a no */
        fore_node_result_add(ret, FORE_VERDICT_NONE, fore_node_reason_name(FORE_NODE_MALFORMED));
    }
}

void fore_node_judge(const ForeNodeExpect *expect, const ForeNodeEvidence *evidence,
                     const json_t *json, ForeNodeResult *ret, gpointer data)
{
    const ForeNodeLogs *logs = data;
    ForeEvidencePolicy policy = logs->rules->evidence;
    ForeSnpPolicy snp_policy;
    g_auto(Snp) snp = {.intermediates = {NULL}};
    g_autoptr(GBytes) slice = trim(&logs->ima, fore_ima_state_offset(logs->ima_state));
    uint8_t report_data[64];
    ForeEvidenceResult judged;
    ForeEvidence given = {
        .attest = evidence->attest,
        .signature = evidence->signature,
        .pcrs = (const uint8_t(*)[32])ret->pcrs,
        .eventlog = logs->firmware,
        .ima = {slice, MAX(logs->ima.offset, fore_ima_state_offset(logs->ima_state))},
    };
    ForeEvidenceExpect want = {
        .policy = &policy,
        .ak_public = expect->ak_public,
        .extra = evidence->extra,
        .last = expect->last,
        .snp_report_data = report_data,
        .ima = logs->ima_state,
    };

    policy.pcr_mask = expect->pcr_mask;
    if (policy.snp != NULL) {
        snp_policy = *policy.snp;
        snp_policy.roots = logs->snp_roots;
        snp_policy.now_s = logs->now_s;
        policy.snp = &snp_policy;
        given.snp = read_snp(json, &snp) ? &snp.evidence : NULL;
        fore_node_snp_report_data(evidence->extra, expect->ak_public, report_data);
    }
    if (policy.ima != NULL && (logs->ima.offset > fore_ima_state_offset(logs->ima_state) ||
                               is_overtaken(expect, evidence, ret, logs->newest))) {
        fore_node_result_add(ret, FORE_VERDICT_NONE, fore_node_reason_name(FORE_NODE_OVERTAKEN));
        return;
    }
    fore_evidence_judge(&given, &want, &judged);
    take_over(&judged, ret);
}

/* --- launches --- */

static ForeNvcertReason certified_head(const ForeNodeExpect *expect,
                                       const ForeNodeEvidence *evidence, const json_t *json,
                                       uint8_t ret[32], ForeQuoteReason *ret_why)
{
    const ForeNvcertExpect want = {
        .ak_public = expect->ak_public,
        .extra = evidence->extra,
        .index = FORE_NVCERT_LAUNCHES,
        .by_boot = true,
    };
    const json_t *launch = json_object_get(json, "launch");
    g_autoptr(GBytes) attest = NULL, signature = NULL;

    *ret_why = FORE_QUOTE_ATTEST_MALFORMED;
    if (!json_is_object(launch) ||
        !fore_json_get_bytes(launch, "attest", FORE_QUOTE_MAX_ATTEST, &attest, NULL) ||
        !fore_json_get_bytes(launch, "signature", FORE_QUOTE_MAX_SIGNATURE, &signature, NULL)) {
        return FORE_NVCERT_STATEMENT;
    }
    return fore_nvcert_verify(&want, attest, signature, ret, NULL, ret_why);
}

void fore_node_judge_launch(const ForeNodeExpect *expect, const ForeNodeEvidence *evidence,
                            const json_t *json, ForeNodeResult *ret, gpointer data)
{
    const ForeNodeLaunch *want = data;
    uint8_t head[32];
    ForeQuoteReason why;
    ForeNvcertReason head_reason;
    ForeLaunchPart part = FORE_LAUNCH_PARTS;
    ForeLaunch launch;
    ForeLaunchReason reason;

    if (json_object_get(json, "launch") == NULL) {
        fore_node_result_add_detail(ret, FORE_VERDICT_NONE,
                                    fore_launch_reason_name(FORE_LAUNCH_ABSENT), want->vm);
        return;
    }
    head_reason = certified_head(expect, evidence, json, head, &why);
    if (head_reason != FORE_NVCERT_OK) {
        fore_node_result_add_detail(
            ret, FORE_VERDICT_CONTRAINDICATED, fore_nvcert_reason_name(head_reason),
            head_reason == FORE_NVCERT_STATEMENT ? fore_quote_reason_name(why) : "");
        return;
    }
    reason = fore_launch_find(want->log, head, want->vm, &launch);
    if (reason == FORE_LAUNCH_OK) {
        reason = fore_launch_judge(&launch, want->vtpm, want->allowed, want->n_allowed, &part);
    }
    if (reason != FORE_LAUNCH_OK) {
        /* a log that lies is the host's failure; a VM that runs something else is that VM's */
        bool lies = reason == FORE_LAUNCH_MALFORMED || reason == FORE_LAUNCH_HEAD;

        fore_node_result_add_detail(ret, lies ? FORE_VERDICT_CONTRAINDICATED : FORE_VERDICT_NONE,
                                    fore_launch_reason_name(reason),
                                    part < FORE_LAUNCH_PARTS ? fore_launch_part_name(part)
                                                             : want->vm);
    }
}

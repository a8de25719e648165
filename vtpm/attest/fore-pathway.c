/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  A run has 32 random bytes; every node's nonce is derived from them together with
 * the node's name, role and the run's number.  A node's quote must carry exactly the extraData that
 * follows from its nonce, so an answer can be moved neither to another node nor to another run.
 * Judging goes from form to signature to content, and stops where the next question would make no
 * sense.  Form errors, silence and missing reference values prove nothing ("none"); a quote that is
 * wrong, or right about wrong software, is "contraindicated".  The pathway is affirming only when
 * every node is.
 */
#include "vtpm/attest/fore-pathway.h"

#include <openssl/evp.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-json.h"

#define NONCE_DOMAIN "foresee-pathway-nonce-v1"
#define GUEST_DOMAIN "foresee-sea-quote-v2"
#define NODE_DOMAIN  "foresee-node-quote-v1"
#define BATCH_DOMAIN "foresee-node-batch-v1"

const char *const fore_role_names[] = {"guest", "hypervisor", "switch", "storage"};
G_STATIC_ASSERT(G_N_ELEMENTS(fore_role_names) == FORE_ROLE_N);
const char *const fore_verdict_names[] = {"none", "affirming", "warning", "contraindicated"};
G_STATIC_ASSERT(G_N_ELEMENTS(fore_verdict_names) == FORE_VERDICT_N);
static const char *const node_reason_names[] = {
    "ok",
    "silent",
    "unreachable",
    "attester-error",
    "malformed",
    "not-enrolled",
    "no-reference",
    "channel-mismatch",
    "sequence-gap",
    "software-tpm",
    "sticky-failure",
    "revoked",
    "overtaken",
    "pathway-not-allowed",
    "other-pam-key",
};
G_STATIC_ASSERT(G_N_ELEMENTS(node_reason_names) == FORE_NODE_N);

ForeRole fore_role_from_name(const char *name)
{
    ForeRole role = FORE_ROLE_GUEST;

    while (role < FORE_ROLE_N && g_strcmp0(name, fore_role_names[role]) != 0) {
        role++;
    }
    return role;
}

const char *fore_node_reason_name(ForeNodeReason reason)
{
    return reason < FORE_NODE_N ? node_reason_names[reason] : "unknown";
}

/* --- what is asked --- */

static void sha256(const GByteArray *bytes, uint8_t ret[32])
{
    g_assert(EVP_Digest(bytes->data, bytes->len, ret, NULL, EVP_sha256(), NULL) == 1);
}

/* With its NUL, so that no two lists of strings look alike. */
static void put_string(GByteArray *out, const char *text)
{
    g_byte_array_append(out, (const uint8_t *)text, (guint)strlen(text) + 1);
}

/* Fixed-width ASCII field, without a terminator. */
static void put_field(GByteArray *out, const char *text)
{
    g_byte_array_append(out, (const uint8_t *)text, (guint)strlen(text));
}

void fore_pathway_node_nonce(const uint8_t run[FORE_NONCE_SIZE], const char *id, ForeRole role,
                             uint64_t epoch, uint8_t ret[FORE_NONCE_SIZE])
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    put_string(bytes, NONCE_DOMAIN);
    g_byte_array_append(bytes, run, FORE_NONCE_SIZE);
    put_string(bytes, id);
    put_string(bytes, fore_role_names[role]);
    fore_put_be64(bytes, epoch);
    sha256(bytes, ret);
}

static GBytes *digest_of(const GByteArray *bytes)
{
    uint8_t digest[32];

    sha256(bytes, digest);
    return g_bytes_new(digest, sizeof(digest));
}

GBytes *fore_pathway_guest_extra(const uint8_t nonce[FORE_NONCE_SIZE], const ForeGuestSays *says)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    put_string(bytes, GUEST_DOMAIN);
    g_byte_array_append(bytes, nonce, FORE_NONCE_SIZE);
    put_field(bytes, says->vm_uuid);
    put_field(bytes, says->channel_pin);
    put_field(bytes, says->pam_key);
    fore_put_be64(bytes, says->seq);
    return digest_of(bytes);
}

GBytes *fore_pathway_node_extra(const uint8_t nonce[FORE_NONCE_SIZE], const char *node_id,
                                ForeRole role, const char *vm_uuid, const char *vm_ak_name)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    put_string(bytes, NODE_DOMAIN);
    g_byte_array_append(bytes, nonce, FORE_NONCE_SIZE);
    put_string(bytes, node_id);
    put_string(bytes, fore_role_names[role]);
    put_field(bytes, vm_uuid);
    put_field(bytes, vm_ak_name);
    return digest_of(bytes);
}

GBytes *fore_pathway_batch_extra(const uint8_t (*extras)[32], size_t n)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    g_assert(n > 0 && n <= FORE_BATCH_MAX);
    put_string(bytes, BATCH_DOMAIN);
    fore_put_be32(bytes, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        g_byte_array_append(bytes, extras[i], 32);
    }
    return digest_of(bytes);
}

/* --- what is answered --- */

void fore_node_result_init(ForeNodeResult *ret, const char *id, ForeRole role,
                           ForeNodeReason reason)
{
    memset(ret, 0, sizeof(*ret));
    g_strlcpy(ret->id, id, sizeof(ret->id));
    ret->role = role;
    if (reason != FORE_NODE_OK) {
        fore_node_result_add(ret, FORE_VERDICT_NONE, fore_node_reason_name(reason));
    }
}

/* How bad, from affirming to contraindicated. */
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

void fore_node_result_add_detail(ForeNodeResult *result, ForeVerdict verdict, const char *reason,
                                 const char *detail)
{
    /* Before the first reason the verdict is "none" because nothing was said yet. */
    if (result->n_reasons == 0 || rank(verdict) > rank(result->verdict)) {
        result->verdict = verdict;
    }
    if (result->n_reasons < FORE_PATHWAY_REASONS) {
        g_strlcpy(result->reasons[result->n_reasons], reason, sizeof(result->reasons[0]));
        g_strlcpy(result->details[result->n_reasons], detail, sizeof(result->details[0]));
        result->n_reasons++;
    }
}

void fore_node_result_add(ForeNodeResult *result, ForeVerdict verdict, const char *reason)
{
    fore_node_result_add_detail(result, verdict, reason, "");
}

typedef ForeNodeEvidence Evidence;

static void evidence_done(Evidence *evidence)
{
    g_clear_pointer(&evidence->attest, g_bytes_unref);
    g_clear_pointer(&evidence->signature, g_bytes_unref);
    g_clear_pointer(&evidence->extra, g_bytes_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Evidence, evidence_done)

/* Exactly the PCRs that were asked for, no more, no fewer. */
static bool read_pcrs(const json_t *json, uint32_t mask, uint8_t ret[FORE_PCRS][32])
{
    json_t *pcrs;

    if (!fore_json_get_object(json, "pcrs", &pcrs, NULL) ||
        json_object_size(pcrs) != (size_t)__builtin_popcount(mask)) {
        return false;
    }
    for (unsigned pcr = 0; pcr < FORE_PCRS; pcr++) {
        g_autofree char *key = g_strdup_printf("%u", pcr);
        g_autoptr(GBytes) value = NULL;
        const char *hex;

        if ((mask >> pcr & 1u) == 0) {
            continue;
        }
        if (!fore_json_get_string(pcrs, key, &hex, NULL)) {
            return false;
        }
        value = fore_hex_decode(hex, 32);
        if (value == NULL || g_bytes_get_size(value) != 32) {
            return false;
        }
        memcpy(ret[pcr], g_bytes_get_data(value, NULL), 32);
    }
    return true;
}

/* A node may answer several questions by one quote; a guest has one asker.  A batch without this
 * question is malformed: it answers somebody else. */
static bool read_batch(const ForeNodeExpect *expect, const json_t *json, GBytes **ret)
{
    uint8_t extras[FORE_BATCH_MAX][32];
    json_t *batch;
    bool mine = false;

    if (json_object_get(json, "batch") == NULL) {
        *ret = g_bytes_ref(expect->extra);
        return true;
    }
    if (expect->role == FORE_ROLE_GUEST ||
        !fore_json_get_array(json, "batch", FORE_BATCH_MAX, &batch, NULL) ||
        json_array_size(batch) == 0) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(batch); i++) {
        const char *text = json_string_value(json_array_get(batch, i));
        g_autoptr(GBytes) extra = text != NULL ? fore_b64_decode(text, 32) : NULL;

        if (extra == NULL || g_bytes_get_size(extra) != 32) {
            return false;
        }
        memcpy(extras[i], g_bytes_get_data(extra, NULL), 32);
        mine = mine || g_bytes_equal(extra, expect->extra);
    }
    *ret = mine ? fore_pathway_batch_extra((const uint8_t(*)[32])extras, json_array_size(batch))
                : NULL;
    return mine;
}

static bool read_evidence(const ForeNodeExpect *expect, const json_t *json, Evidence *evidence,
                          ForeNodeResult *ret)
{
    return json_is_object(json) &&
           fore_json_get_bytes(json, "attest", FORE_QUOTE_MAX_ATTEST, &evidence->attest, NULL) &&
           fore_json_get_bytes(json, "signature", FORE_QUOTE_MAX_SIGNATURE, &evidence->signature,
                               NULL) &&
           fore_json_get_bool(json, "software-tpm", &ret->software_tpm, NULL) &&
           (expect->channel_pin == NULL ||
            fore_json_get_string(json, "channel-pin", &evidence->channel_pin, NULL)) &&
           read_batch(expect, json, &evidence->extra) &&
           read_pcrs(json, expect->pcr_mask, ret->pcrs);
}

/* A quote that cannot be read, or a clock that still settles, proves nothing; the rest disproves.
 */
static ForeVerdict verdict_of(ForeQuoteReason reason)
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

static bool judge_quote(const ForeNodeExpect *expect, const Evidence *evidence, ForeNodeResult *ret)
{
    ForeQuoteExpect quote = {
        .ak_public = expect->ak_public,
        .extra = evidence->extra,
        .pcr_mask = expect->pcr_mask,
        .pcrs = (const uint8_t(*)[32])ret->pcrs,
        .last = expect->last,
    };
    ForeQuoteReason reason =
        fore_quote_verify(&quote, evidence->attest, evidence->signature, &ret->info);

    if (reason != FORE_QUOTE_OK) {
        fore_node_result_add(ret, verdict_of(reason), fore_quote_reason_name(reason));
    }
    return reason == FORE_QUOTE_OK;
}

static void judge_reference(const ForeNodeExpect *expect, ForeNodeResult *ret)
{
    ForeSubject subject = expect->role == FORE_ROLE_GUEST ? FORE_SUBJECT_VM : FORE_SUBJECT_NODE;
    unsigned pcr = 0;

    switch (fore_reference_match(expect->reference, subject, expect->id, expect->pcr_mask,
                                 (const uint8_t(*)[32])ret->pcrs, &pcr)) {
    case FORE_REFERENCE_OK:
        break;
    case FORE_REFERENCE_MISMATCH: {
        g_autofree char *which = g_strdup_printf("pcr-%u", pcr);
        fore_node_result_add(ret, FORE_VERDICT_CONTRAINDICATED,
                             fore_quote_reason_name(FORE_QUOTE_PCR_VALUE));
        fore_node_result_add(ret, FORE_VERDICT_CONTRAINDICATED, which);
        break;
    }
    default:
        fore_node_result_add(ret, FORE_VERDICT_NONE, fore_node_reason_name(FORE_NODE_NO_REFERENCE));
        break;
    }
}

static void digest_evidence(const Evidence *evidence, uint8_t ret[32])
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    GBytes *const parts[] = {evidence->attest, evidence->signature};

    for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++) {
        gsize size;
        const uint8_t *data = g_bytes_get_data(parts[i], &size);

        fore_put_be32(bytes, (uint32_t)size);
        if (size > 0) {
            g_byte_array_append(bytes, data, (guint)size);
        }
    }
    sha256(bytes, ret);
}

static void judge_evidence(const ForeNodeExpect *expect, const json_t *json, ForeNodeResult *ret)
{
    g_auto(Evidence) evidence = {NULL, NULL, NULL, NULL};

    if (!read_evidence(expect, json, &evidence, ret)) {
        fore_node_result_add(ret, FORE_VERDICT_NONE, fore_node_reason_name(FORE_NODE_MALFORMED));
        return;
    }
    digest_evidence(&evidence, ret->evidence_digest);
    if (expect->channel_pin != NULL && strcmp(evidence.channel_pin, expect->channel_pin) != 0) {
        fore_node_result_add(ret, FORE_VERDICT_CONTRAINDICATED,
                             fore_node_reason_name(FORE_NODE_CHANNEL));
        return;
    }
    if (expect->judge != NULL) {
        expect->judge(expect, &evidence, json, ret, expect->judge_data);
    } else if (judge_quote(expect, &evidence, ret)) {
        ret->quoted = true;
        judge_reference(expect, ret);
    }
    if (!ret->quoted) {
        return;
    }
    if (expect->also != NULL) {
        expect->also(expect, &evidence, json, ret, expect->also_data);
    }
    if (ret->software_tpm && !expect->allow_software_tpm) {
        fore_node_result_add(ret, FORE_VERDICT_CONTRAINDICATED,
                             fore_node_reason_name(FORE_NODE_SOFTWARE_TPM));
    }
}

void fore_pathway_judge(const ForeNodeExpect *expect, const json_t *evidence, ForeNodeResult *ret)
{
    fore_node_result_init(ret, expect->id, expect->role, FORE_NODE_OK);
    if (expect->ak_public == NULL) {
        fore_node_result_add(ret, FORE_VERDICT_NONE, fore_node_reason_name(FORE_NODE_NOT_ENROLLED));
    } else if (evidence == NULL) {
        ForeNodeReason absent = expect->absent != FORE_NODE_OK ? expect->absent : FORE_NODE_SILENT;
        fore_node_result_add(ret, FORE_VERDICT_NONE, fore_node_reason_name(absent));
    } else {
        judge_evidence(expect, evidence, ret);
    }
    if (expect->revoked) {
        fore_node_result_add(ret, FORE_VERDICT_CONTRAINDICATED,
                             fore_node_reason_name(FORE_NODE_REVOKED));
    }
    if (expect->sticky != NULL) {
        fore_node_result_add(ret, FORE_VERDICT_CONTRAINDICATED,
                             fore_node_reason_name(FORE_NODE_STICKY));
        fore_node_result_add(ret, FORE_VERDICT_CONTRAINDICATED, expect->sticky);
    }
    fore_node_result_settle(ret);
}

void fore_node_result_settle(ForeNodeResult *result)
{
    if (result->n_reasons == 0) {
        result->verdict = FORE_VERDICT_AFFIRMING;
    }
}

/* --- what follows --- */

bool fore_verdict_grants(ForeVerdict verdict)
{
    return verdict == FORE_VERDICT_AFFIRMING || verdict == FORE_VERDICT_WARNING;
}

ForeVerdict fore_pathway_verdict(const ForeNodeResult *results, size_t n)
{
    ForeVerdict worst = n > 0 ? FORE_VERDICT_AFFIRMING : FORE_VERDICT_NONE;

    for (size_t i = 0; i < n; i++) {
        if (rank(results[i].verdict) > rank(worst)) {
            worst = results[i].verdict;
        }
    }
    return worst;
}

void fore_pathway_evidence(const ForeNodeResult *results, size_t n, char ret[65])
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autofree char *hex = NULL;
    uint8_t digest[32];

    for (size_t i = 0; i < n; i++) {
        put_string(bytes, results[i].id);
        g_byte_array_append(bytes, results[i].evidence_digest, 32);
    }
    sha256(bytes, digest);
    hex = fore_hex_encode(digest, sizeof(digest));
    g_strlcpy(ret, hex, 65);
}

/* AR4SI trustworthiness claims (draft-ietf-rats-ar4si section 2.3): 2 and 3 affirm, 0 says nothing,
 * 32 warns, 33 "not recognised", 99 "cryptographic validation failed". */
static json_t *trust_vector(const ForeNodeResult *r)
{
    bool disproved = r->verdict == FORE_VERDICT_CONTRAINDICATED;
    int identity = r->quoted ? 2 : disproved ? 99 : 0;
    int executables = r->verdict == FORE_VERDICT_AFFIRMING ? 3
                      : r->verdict == FORE_VERDICT_WARNING ? 32
                      : r->quoted && disproved             ? 33
                                                           : 0;

    return json_pack("{s:i, s:i}", "instance-identity", identity, "executables", executables);
}

json_t *fore_pathway_ear(const ForeEarInput *input, const ForeNodeResult *results, size_t n)
{
    json_t *modules = json_object();
    g_autofree char *nonce = fore_b64_encode(input->nonce, FORE_NONCE_SIZE);

    for (size_t i = 0; i < n; i++) {
        const ForeNodeResult *r = &results[i];
        json_t *reasons = json_array(), *details = json_array();

        for (unsigned k = 0; k < r->n_reasons; k++) {
            json_array_append_new(reasons, json_string(r->reasons[k]));
            json_array_append_new(details, json_string(r->details[k]));
        }
        json_object_set_new(modules, r->id,
                            json_pack("{s:s, s:o, s:s, s:s, s:b, s:o, s:o}", "ear.status",
                                      fore_verdict_names[r->verdict], "ear.trustworthiness-vector",
                                      trust_vector(r), "ear.appraisal-policy-id", input->policy_id,
                                      "foresee.role", fore_role_names[r->role],
                                      "foresee.software-tpm", r->software_tpm, "foresee.reasons",
                                      reasons, "foresee.details", details));
    }
    return json_pack("{s:s, s:I, s:I, s:{s:s, s:s}, s:s, s:s, s:s, s:b, s:o}", "eat_profile",
                     "tag:github.com,2023:veraison/ear", "iat", (json_int_t)input->issued_s, "exp",
                     (json_int_t)input->expires_s, "ear.verifier-id", "developer", "Foresee",
                     "build", input->verifier, "eat_nonce", nonce, "sub", input->vm_uuid,
                     "foresee.verdict", fore_verdict_names[fore_pathway_verdict(results, n)],
                     "foresee.insecure-software-key", input->software_key, "submods", modules);
}

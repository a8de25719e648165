/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Quote, event log and IMA list of one node as one verdict.  The node here is a software key in a
 * TPM's clothes, so it can be made to prove anything; what it proves must then be what the logs
 * say.
 */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "tests/lib/fore-test-key.h"
#include "tests/lib/fore-test-log.h"
#include "vtpm/attest/fore-ak.h"
#include "vtpm/attest/fore-evidence.h"

#define MASK 0x07ffu

static ForeTestKey key;
static const uint8_t nonce[32] = "a nonce of thirty-two bytes, ok";

typedef struct {
    GByteArray *log, *list;
    uint8_t pcrs[24][32]; /* as reported */
    ForeImaPolicy *files;
    ForeImaState *state;
    ForePcrDigest values[16], events[16];
    ForeEvidencePolicy policy;
    GBytes *public, *extra;
    ForeTpmClock clock;
    const ForeTpmClock *last;
} Node;

static void add_value(ForePcrDigest *list, size_t *n, unsigned pcr, const uint8_t digest[32])
{
    list[*n].pcr = (uint8_t)pcr;
    memcpy(list[*n].digest, digest, 32);
    (*n)++;
    qsort(list, *n, sizeof(list[0]), fore_pcr_digest_compare);
}

static void allow(Node *n, const char *path, const char *content)
{
    uint8_t digest[32];

    fore_test_sha256(content, digest);
    g_assert_true(fore_ima_policy_allow(n->files, path, digest, 32, NULL));
}

/* What the TPM has seen: both logs. */
static void measure(Node *n)
{
    uint8_t pcrs[24][32];

    fore_test_eventlog_proved(n->log, pcrs);
    memcpy(n->pcrs, pcrs, sizeof(pcrs));
    fore_test_ima_proved(n->list, n->pcrs);
}

static Node *node_new(void)
{
    Node *n = g_new0(Node, 1);
    uint8_t pcrs[24][32], digest[32];

    n->log = fore_test_eventlog_boot();
    n->list = g_byte_array_new();
    n->files = fore_ima_policy_new();
    n->state = fore_ima_state_new();
    n->public = fore_test_key_public(&key);
    n->extra = g_bytes_new(nonce, sizeof(nonce));
    n->clock = (ForeTpmClock){.clock_ms = 1000, .reset_count = 3, .safe = true};
    fore_test_eventlog_proved(n->log, pcrs);
    fore_test_ima_start(n->list, (const uint8_t(*)[32])pcrs, false);
    fore_test_ima_file(n->list, "/sbin/init", "init");
    allow(n, "/sbin/init", "init");
    measure(n);
    n->policy = (ForeEvidencePolicy){
        .pcr_mask = MASK,
        .pcr_values = n->values,
        .use_log = true,
        .log = {.pcr_mask = 0x3ff, .require_secure_boot = true, .events = n->events},
        .ima = n->files,
    };
    for (unsigned pcr = 0; pcr < 8; pcr++) {
        add_value(n->values, &n->policy.n_pcr_values, pcr, n->pcrs[pcr]);
    }
    fore_test_sha256("kernel_cmdline: quiet", digest); /* PCR 8 and 9 by what was extended */
    add_value(n->events, &n->policy.log.n_events, 8, digest);
    fore_test_sha256("initrd", digest);
    add_value(n->events, &n->policy.log.n_events, 9, digest);
    return n;
}

static void node_free(Node *n)
{
    g_byte_array_unref(n->log);
    g_byte_array_unref(n->list);
    fore_ima_policy_free(n->files);
    fore_ima_state_free(n->state);
    g_bytes_unref(n->public);
    g_bytes_unref(n->extra);
    g_free(n);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Node, node_free)

static void put_sized(GByteArray *out, const void *data, size_t size)
{
    fore_put_be16(out, (uint16_t)size);
    g_byte_array_append(out, data, (guint)size);
}

/* TPMS_ATTEST over the PCRs of the node. */
static GBytes *quote(const Node *n)
{
    GByteArray *out = g_byte_array_new();
    g_autoptr(GBytes) signer = fore_ak_qualified_name(n->public, NULL);
    g_autoptr(GByteArray) values = g_byte_array_new();
    uint8_t digest[32];

    for (unsigned pcr = 0; pcr < 24; pcr++) {
        if (n->policy.pcr_mask >> pcr & 1u) {
            g_byte_array_append(values, n->pcrs[pcr], 32);
        }
    }
    EVP_Digest(values->data, values->len, digest, NULL, EVP_sha256(), NULL);
    fore_put_be32(out, 0xff544347);
    fore_put_be16(out, 0x8018);
    put_sized(out, g_bytes_get_data(signer, NULL), g_bytes_get_size(signer));
    put_sized(out, nonce, sizeof(nonce));
    fore_put_be64(out, n->clock.clock_ms);
    fore_put_be32(out, n->clock.reset_count);
    fore_put_be32(out, n->clock.restart_count);
    fore_put_u8(out, n->clock.safe);
    fore_put_be64(out, 1);
    fore_put_be32(out, 1);
    fore_put_be16(out, FORE_ALG_SHA256);
    fore_put_u8(out, 3);
    for (unsigned k = 0; k < 3; k++) {
        fore_put_u8(out, (uint8_t)(n->policy.pcr_mask >> 8 * k));
    }
    put_sized(out, digest, 32);
    return g_byte_array_free_to_bytes(out);
}

static void judge_from(Node *n, guint from, ForeEvidenceResult *ret)
{
    g_autoptr(GBytes) attest = quote(n), signature = fore_test_key_sign(&key, attest);
    g_autoptr(GBytes) log = fore_test_bytes(n->log);
    g_autoptr(GBytes) list = g_bytes_new(n->list->data + from, n->list->len - from);
    ForeEvidence evidence = {.attest = attest,
                             .signature = signature,
                             .pcrs = (const uint8_t(*)[32])n->pcrs,
                             .eventlog = log,
                             .ima = {.bytes = list, .offset = from}};
    ForeEvidenceExpect expect = {.policy = &n->policy,
                                 .ak_public = n->public,
                                 .extra = n->extra,
                                 .last = n->last,
                                 .ima = n->state};

    fore_evidence_judge(&evidence, &expect, ret);
    g_assert_true((ret->n_reasons == 0) == (ret->verdict == FORE_VERDICT_AFFIRMING));
}

static void assert_node(Node *n, ForeVerdict verdict, const char *reason)
{
    ForeEvidenceResult result;

    judge_from(n, 0, &result);
    g_assert_cmpstr(result.n_reasons > 0 ? result.reasons[0].name : "ok", ==, reason);
    g_assert_cmpint(result.verdict, ==, verdict);
}

static void test_good(void)
{
    g_autoptr(Node) n = node_new();
    ForeEvidenceResult result;

    judge_from(n, 0, &result);
    g_assert_cmpint(result.verdict, ==, FORE_VERDICT_AFFIRMING);
    g_assert_true(result.quoted && result.ima.proved);
    g_assert_cmpint(result.secure_boot, ==, FORE_SECURE_BOOT_ON);
    g_assert_cmpuint(fore_ima_state_offset(n->state), ==, n->list->len);
}

/* --- policies that must not mean "accept all" --- */

static void test_policies(void)
{
    for (unsigned i = 0; i < 10; i++) {
        g_autoptr(Node) n = node_new();
        g_autoptr(ForeImaPolicy) nothing = fore_ima_policy_new();
        ForeEvidencePolicy all_zero = {0};
        static const char *const want[] = {"evidence-bad-policy", "evidence-pcr-unheld",
                                           "evidence-pcr-unheld", "evidence-pcr-unheld",
                                           "evidence-bad-policy", "evidence-bad-policy",
                                           "evidence-bad-policy", "evidence-bad-policy",
                                           "evidence-bad-policy", "evidence-pcr-unheld"};

        switch (i) {
        case 0:
            n->policy = all_zero;
            break;
        case 1:
            n->policy.n_pcr_values = 0;
            break;
        case 2:
            n->policy.log.n_events = 0;
            break;
        case 3:
            n->policy.ima = NULL;
            break;
        case 4:
            n->policy.ima = nothing;
            break;
        case 5:
            n->policy.use_log = false;
            break;
        case 6:
            n->policy.log.pcr_mask = 0xffff;
            break;
        case 7:
            n->policy.pcr_mask |= 1u << 16; /* attack 96 */
            break;
        case 8:
            n->values[0].pcr = 9; /* unsorted */
            break;
        default:
            n->policy.pcr_mask |= 1u << 14;
            break;
        }
        assert_node(n, FORE_VERDICT_NONE, want[i]);
    }
}

static void test_unheld_pcr(void)
{
    g_autoptr(Node) n = node_new();
    unsigned pcr = 99;

    n->policy.pcr_mask |= 1u << 14;
    g_assert_cmpint(fore_evidence_policy_check(&n->policy, &pcr), ==, FORE_EVIDENCE_UNHELD);
    g_assert_cmpuint(pcr, ==, 14);
    g_assert_cmpint(fore_evidence_policy_check(NULL, NULL), ==, FORE_EVIDENCE_POLICY);
}

/* --- what is proved against what is told --- */

static void test_reported_pcr(void)
{
    g_autoptr(Node) n = node_new();

    n->pcrs[4][0] ^= 1; /* another boot, and the log of the wanted one */
    assert_node(n, FORE_VERDICT_CONTRAINDICATED, "evidence-pcr-value");
}

static void test_log_of_another_boot(void)
{
    g_autoptr(Node) n = node_new();

    fore_test_eventlog_text(n->log, 9, 0x0d, "initrd"); /* listed, but never extended */
    assert_node(n, FORE_VERDICT_CONTRAINDICATED, "eventlog-replay-mismatch");
}

static void test_missing_logs(void)
{
    g_autoptr(Node) n = node_new();

    g_byte_array_set_size(n->list, 0);
    assert_node(n, FORE_VERDICT_NONE, "ima-missing");
    g_byte_array_set_size(n->log, 0);
    assert_node(n, FORE_VERDICT_NONE, "eventlog-missing");
}

/* Both logs are wrong: both are named, the worse verdict counts. */
static void test_all_reasons(void)
{
    g_autoptr(Node) n = node_new();
    ForeEvidenceResult result;

    fore_test_ima_file(n->list, "/tmp/evil", "evil");
    fore_test_ima_proved(n->list, n->pcrs);
    g_byte_array_set_size(n->log, n->log->len - 1);
    judge_from(n, 0, &result);
    g_assert_cmpuint(result.n_reasons, ==, 2);
    g_assert_cmpstr(result.reasons[0].name, ==, "eventlog-truncated");
    g_assert_cmpint(result.reasons[0].verdict, ==, FORE_VERDICT_NONE);
    g_assert_cmpstr(result.reasons[1].name, ==, "ima-unlisted");
    g_assert_nonnull(strstr(result.reasons[1].detail, "/tmp/evil"));
    g_assert_cmpint(result.verdict, ==, FORE_VERDICT_CONTRAINDICATED);
}

static void test_warning(void)
{
    g_autoptr(Node) n = node_new();
    uint8_t digest[32] = {0};
    ForeTestIma violation = {.template = "ima-ng",
                             .alg = "sha256",
                             .digest = digest,
                             .digest_size = 32,
                             .path = "/var/log/x",
                             .violation = true};

    fore_test_ima_binary(n->list, &violation);
    measure(n);
    assert_node(n, FORE_VERDICT_CONTRAINDICATED, "ima-violation");
    fore_ima_policy_set(n->files, true, 0);
    assert_node(n, FORE_VERDICT_WARNING, "ima-violation");
}

/* A bad quote: nothing else is looked at. */
static void test_bad_quote_first(void)
{
    g_autoptr(Node) n = node_new();
    ForeEvidenceResult result;

    g_bytes_unref(n->extra);
    n->extra = g_bytes_new("another nonce of the same length", 32);
    judge_from(n, 0, &result);
    g_assert_cmpuint(result.n_reasons, ==, 1);
    g_assert_cmpstr(result.reasons[0].name, ==, "nonce-mismatch");
    g_assert_false(result.quoted);
    g_assert_cmpuint(fore_ima_state_offset(n->state), ==, 0);
}

/* --- 27 and the reboot --- */

static void test_incremental(void)
{
    g_autoptr(Node) n = node_new();
    ForeEvidenceResult result;
    guint at;

    judge_from(n, 0, &result);
    at = n->list->len;
    fore_test_ima_file(n->list, "/sbin/init", "init");
    measure(n);
    fore_test_ima_file(n->list, "/bin/after", "the quote"); /* list ahead of the quote */
    n->last = &(ForeTpmClock){.clock_ms = 500, .reset_count = 3, .safe = true};
    judge_from(n, at, &result);
    g_assert_cmpint(result.verdict, ==, FORE_VERDICT_AFFIRMING);
    g_assert_cmpuint(fore_ima_state_offset(n->state), <, n->list->len);
}

static void test_reboot(void)
{
    g_autoptr(Node) n = node_new();
    ForeEvidenceResult result;
    ForeTpmClock before;

    judge_from(n, 0, &result);
    before = result.info.clock;
    n->last = &before;
    n->clock = (ForeTpmClock){.clock_ms = 10, .reset_count = 4, .safe = true};
    judge_from(n, n->list->len, &result); /* goes on where the last boot was */
    g_assert_cmpstr(result.reasons[0].name, ==, "evidence-rebooted");
    g_assert_cmpint(result.verdict, ==, FORE_VERDICT_NONE);
    g_assert_cmpuint(fore_ima_state_offset(n->state), ==, 0);
    judge_from(n, 0, &result);
    g_assert_cmpint(result.verdict, ==, FORE_VERDICT_AFFIRMING);
    g_assert_true(result.info.rebooted);
}

/* --- 97 --- */

static void test_guest_root(void)
{
    g_autoptr(Node) n = node_new();
    uint8_t both[64] = {0};

    memcpy(both, n->pcrs[10], 32); /* PCR 10 with a value of its choice */
    EVP_Digest(both, sizeof(both), n->pcrs[10], NULL, EVP_sha256(), NULL);
    assert_node(n, FORE_VERDICT_CONTRAINDICATED, "ima-replay-mismatch");
    measure(n);
    memset(n->pcrs[23], 0, 32); /* PCR 23 reset: nobody asks for it */
    assert_node(n, FORE_VERDICT_AFFIRMING, "ok");
}

/* --- every bit and every cut of a bundle --- */

typedef struct {
    GBytes *part[4]; /* attest, signature, log, list */
    uint8_t pcrs[24][32];
} Bundle;

static ForeVerdict judge_bundle(Node *n, const Bundle *b)
{
    ForeEvidence evidence = {.attest = b->part[0],
                             .signature = b->part[1],
                             .pcrs = (const uint8_t(*)[32])b->pcrs,
                             .eventlog = b->part[2],
                             .ima = {.bytes = b->part[3]}};
    ForeEvidenceExpect expect = {
        .policy = &n->policy, .ak_public = n->public, .extra = n->extra, .ima = n->state};
    ForeEvidenceResult result;

    fore_ima_state_reset(n->state);
    fore_evidence_judge(&evidence, &expect, &result);
    return result.verdict;
}

/* Of the log, what test-eventlog calls irrelevant may change; of the rest nothing may. */
static void test_mutations(void)
{
    g_autoptr(Node) n = node_new();
    Bundle good = {0};
    unsigned accepted = 0, total = 0;

    good.part[0] = quote(n);
    good.part[1] = fore_test_key_sign(&key, good.part[0]);
    good.part[2] = fore_test_bytes(n->log);
    good.part[3] = fore_test_bytes(n->list);
    memcpy(good.pcrs, n->pcrs, sizeof(good.pcrs));
    g_assert_cmpint(judge_bundle(n, &good), ==, FORE_VERDICT_AFFIRMING);
    for (unsigned p = 0; p < 4; p++) {
        Bundle b = good;

        for (gsize bit = 0; bit < 8 * g_bytes_get_size(good.part[p]); bit++) {
            uint8_t byte = ((const uint8_t *)g_bytes_get_data(good.part[p], NULL))[bit / 8] ^
                           (uint8_t)(1u << bit % 8);

            b.part[p] = fore_test_replace(good.part[p], bit / 8, &byte, 1);
            if (judge_bundle(n, &b) == FORE_VERDICT_AFFIRMING) {
                g_assert_cmpuint(p, ==, 2);
                accepted++;
            }
            total += p == 2;
            g_bytes_unref(b.part[p]);
        }
        for (gsize size = 0; size < g_bytes_get_size(good.part[p]); size++) {
            b.part[p] = g_bytes_new_from_bytes(good.part[p], 0, size);
            g_assert_cmpint(judge_bundle(n, &b), !=, FORE_VERDICT_AFFIRMING);
            g_bytes_unref(b.part[p]);
        }
    }
    g_assert_cmpuint(accepted, <, total / 4);
    for (unsigned bit = 0; bit < 11 * 256; bit++) { /* reported PCRs 0 to 10 */
        good.pcrs[bit / 256][bit % 256 / 8] ^= (uint8_t)(1u << bit % 8);
        g_assert_cmpint(judge_bundle(n, &good), ==, FORE_VERDICT_CONTRAINDICATED);
        good.pcrs[bit / 256][bit % 256 / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (unsigned p = 0; p < 4; p++) {
        g_bytes_unref(good.part[p]);
    }
}

static void test_names(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < FORE_EVIDENCE_N; i++) {
        const char *name = fore_evidence_reason_name(i);

        g_assert_true(g_hash_table_add(seen, (gpointer)name));
        g_assert_true(i == 0 || g_str_has_prefix(name, "evidence-"));
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*run)(void);
    } tests[] = {
        {"/attest/evidence/good-evidence-is-affirming", test_good},
        {"/attest/evidence/names-are-stable-and-distinct", test_names},
        {"/attest/evidence/the-unheld-pcr-is-named", test_unheld_pcr},
        {"/attest/evidence/reported-pcrs-are-held-to-values", test_reported_pcr},
        {"/attest/evidence/log-of-another-boot", test_log_of_another_boot},
        {"/attest/evidence/missing-logs-are-none", test_missing_logs},
        {"/attest/evidence/every-reason-is-told", test_all_reasons},
        {"/attest/evidence/what-policy-tolerates-is-a-warning", test_warning},
        {"/attest/evidence/a-bad-quote-ends-it", test_bad_quote_first},
        {"/attest/evidence/a-reboot-starts-anew", test_reboot},
        {"/attest/evidence/every-bit-flip-and-truncation-is-refused", test_mutations},
        {"/attest/attack/27-list-ahead-of-the-quote-goes-on-later", test_incremental},
        {"/attest/attack/62-empty-policy-accepts-nothing", test_policies},
        {"/attest/attack/97-root-of-the-guest-only-adds-failures", test_guest_root},
    };
    int result;

    g_test_init(&argc, &argv, NULL);
    fore_test_key_init(&key, "P-256", FORE_ALG_ECDSA, FORE_ALG_SHA256);
    for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add_func(tests[i].path, tests[i].run);
    }
    result = g_test_run();
    fore_test_key_done(&key);
    return result;
}

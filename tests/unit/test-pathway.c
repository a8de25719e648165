/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a pathway is asked and how its answers join.  Real quotes are judged in
 * tests/agent/test-pam.c. */
#include <string.h>

#include "common/fore-json.h"
#include "vtpm/attest/fore-pathway.h"

#define VM "6b9f0c1e-2d3a-4b5c-8d7e-9f0a1b2c3d4e"

static const uint8_t run_a[32] = {1}, run_b[32] = {2};

static char *nonce_hex(const uint8_t *run, const char *id, ForeRole role, uint64_t epoch)
{
    uint8_t nonce[32];
    GString *hex = g_string_new(NULL);

    fore_pathway_node_nonce(run, id, role, epoch, nonce);
    for (unsigned i = 0; i < sizeof(nonce); i++) {
        g_string_append_printf(hex, "%02x", nonce[i]);
    }
    return g_string_free(hex, FALSE);
}

/* Whatever differs, the nonce differs: evidence cannot be moved. */
static void test_nonces(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    g_assert_true(g_hash_table_add(seen, nonce_hex(run_a, "hv1", FORE_ROLE_HYPERVISOR, 1)));
    g_assert_true(g_hash_table_add(seen, nonce_hex(run_b, "hv1", FORE_ROLE_HYPERVISOR, 1)));
    g_assert_true(g_hash_table_add(seen, nonce_hex(run_a, "hv2", FORE_ROLE_HYPERVISOR, 1)));
    g_assert_true(g_hash_table_add(seen, nonce_hex(run_a, "hv1", FORE_ROLE_STORAGE, 1)));
    g_assert_true(g_hash_table_add(seen, nonce_hex(run_a, "hv1", FORE_ROLE_HYPERVISOR, 2)));
    g_assert_true(g_hash_table_add(seen, nonce_hex(run_a, VM, FORE_ROLE_GUEST, 1)));
    g_assert_false(g_hash_table_add(seen, nonce_hex(run_a, "hv1", FORE_ROLE_HYPERVISOR, 1)));
}

/* docs/wire-format.md, Evidence: computed there with sha256sum over printf's output. */
static void test_extra_layout(void)
{
    static const char pin[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    uint8_t nonce[32];
    g_autoptr(GBytes) guest = NULL;
    g_autoptr(GBytes) node = NULL;
    g_autofree char *guest_want = NULL;
    g_autofree char *node_want = NULL;
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    gsize size;
    const uint8_t *data;
    GString *hex = g_string_new(NULL);

    memset(nonce, 0x5a, sizeof(nonce));
    guest = fore_pathway_guest_extra(nonce, &(ForeGuestSays){VM, pin, pin, 0x0102});
    g_byte_array_append(bytes, (const guint8 *)"foresee-sea-quote-v2", 21);
    g_byte_array_append(bytes, nonce, 32);
    g_byte_array_append(bytes, (const guint8 *)VM, 36);
    g_byte_array_append(bytes, (const guint8 *)pin, 64);
    g_byte_array_append(bytes, (const guint8 *)pin, 64);
    g_byte_array_append(bytes, (const guint8 *)"\0\0\0\0\0\0\1\2", 8);
    guest_want = g_compute_checksum_for_data(G_CHECKSUM_SHA256, bytes->data, bytes->len);
    data = g_bytes_get_data(guest, &size);
    for (gsize i = 0; i < size; i++) {
        g_string_append_printf(hex, "%02x", data[i]);
    }
    g_assert_cmpstr(hex->str, ==, guest_want);
    g_byte_array_set_size(bytes, 0);
    g_string_truncate(hex, 0);
    node = fore_pathway_node_extra(nonce, "hv1", FORE_ROLE_HYPERVISOR, VM, "000bcafe");
    g_byte_array_append(bytes, (const guint8 *)"foresee-node-quote-v1", 22);
    g_byte_array_append(bytes, nonce, 32);
    g_byte_array_append(bytes, (const guint8 *)"hv1\0hypervisor", 15);
    g_byte_array_append(bytes, (const guint8 *)VM, 36);
    g_byte_array_append(bytes, (const guint8 *)"000bcafe", 8);
    node_want = g_compute_checksum_for_data(G_CHECKSUM_SHA256, bytes->data, bytes->len);
    data = g_bytes_get_data(node, &size);
    for (gsize i = 0; i < size; i++) {
        g_string_append_printf(hex, "%02x", data[i]);
    }
    g_assert_cmpstr(hex->str, ==, node_want);
    g_string_free(hex, TRUE);
}

static void judge(const char *evidence, const char *sticky, bool enrolled, ForeNodeReason absent,
                  ForeNodeResult *ret)
{
    g_autoptr(GBytes) some = g_bytes_new_static("x", 1);
    g_autoptr(json_t) json = evidence != NULL ? json_loads(evidence, JSON_DECODE_ANY, NULL) : NULL;
    ForeNodeExpect expect = {
        .id = "hv1",
        .role = FORE_ROLE_HYPERVISOR,
        .ak_public = enrolled ? some : NULL,
        .extra = some,
        .pcr_mask = 0x81,
        .sticky = sticky,
        .absent = absent,
    };

    fore_pathway_judge(&expect, json, ret);
    g_assert_false(ret->quoted);
    g_assert_cmpint(ret->verdict, !=, FORE_VERDICT_AFFIRMING);
    g_assert_cmpuint(ret->n_reasons, >, 0);
}

static void test_no_evidence(void)
{
    ForeNodeResult r;

    judge(NULL, NULL, true, FORE_NODE_OK, &r);
    g_assert_cmpint(r.verdict, ==, FORE_VERDICT_NONE);
    g_assert_cmpstr(r.reasons[0], ==, "silent");
    judge(NULL, NULL, true, FORE_NODE_UNREACHABLE, &r);
    g_assert_cmpstr(r.reasons[0], ==, "unreachable");
    judge("{}", NULL, false, FORE_NODE_OK, &r);
    g_assert_cmpint(r.verdict, ==, FORE_VERDICT_NONE);
    g_assert_cmpstr(r.reasons[0], ==, "not-enrolled");
}

#define HEX "65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e614eb3068"

static void test_malformed(void)
{
    static const char *const bad[] = {
        "7",
        "[]",
        "{}",
        "{\"attest\":\"AA==\",\"signature\":\"AA==\",\"software-tpm\":false}",
        "{\"attest\":\"A\",\"signature\":\"AA==\",\"software-tpm\":false,"
        "\"pcrs\":{\"0\":\"" HEX "\",\"7\":\"" HEX "\"}}",
        "{\"attest\":\"AA==\",\"signature\":\"AA==\",\"software-tpm\":false,\"pcrs\":{\"0\":\"" HEX
        "\"}}",
        "{\"attest\":\"AA==\",\"signature\":\"AA==\",\"software-tpm\":false,"
        "\"pcrs\":{\"0\":\"" HEX "\",\"8\":\"" HEX "\"}}",
        "{\"attest\":\"AA==\",\"signature\":\"AA==\",\"software-tpm\":false,"
        "\"pcrs\":{\"0\":\"" HEX "\",\"7\":\"abcd\"}}",
        "{\"attest\":\"AA==\",\"signature\":\"AA==\",\"software-tpm\":false,"
        "\"pcrs\":{\"0\":\"" HEX "\",\"7\":\"" HEX "\",\"16\":\"" HEX "\"}}",
        "{\"attest\":\"AA==\",\"signature\":\"AA==\",\"software-tpm\":\"no\","
        "\"pcrs\":{\"0\":\"" HEX "\",\"7\":\"" HEX "\"}}",
    };
    ForeNodeResult r;

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        judge(bad[i], NULL, true, FORE_NODE_OK, &r);
        g_assert_cmpint(r.verdict, ==, FORE_VERDICT_NONE);
        g_assert_cmpstr(r.reasons[0], ==, "malformed");
    }
    /* well-formed JSON around bytes that are no quote: named by the quote's own judge */
    judge("{\"attest\":\"AA==\",\"signature\":\"AA==\",\"software-tpm\":false,"
          "\"pcrs\":{\"0\":\"" HEX "\",\"7\":\"" HEX "\"}}",
          NULL, true, FORE_NODE_OK, &r);
    g_assert_cmpstr(r.reasons[0], !=, "malformed");
}

static void test_sticky(void)
{
    ForeNodeResult r;

    judge(NULL, "pcr-value-mismatch", true, FORE_NODE_OK, &r);
    g_assert_cmpint(r.verdict, ==, FORE_VERDICT_CONTRAINDICATED);
    g_assert_cmpuint(r.n_reasons, ==, 3);
    g_assert_cmpstr(r.reasons[1], ==, "sticky-failure");
    g_assert_cmpstr(r.reasons[2], ==, "pcr-value-mismatch");
}

static void result(ForeNodeResult *r, const char *id, ForeVerdict verdict)
{
    fore_node_result_init(r, id, FORE_ROLE_HYPERVISOR, FORE_NODE_OK);
    if (verdict != FORE_VERDICT_AFFIRMING) {
        fore_node_result_add(r, verdict, "because");
    }
    fore_node_result_settle(r);
}

/* Every combination of three nodes: one bad word outweighs all, one missing word is enough for
 * none, one warning keeps the pathway from affirming. */
static void test_join(void)
{
    static const ForeVerdict worse[] = {FORE_VERDICT_AFFIRMING, FORE_VERDICT_WARNING,
                                        FORE_VERDICT_NONE, FORE_VERDICT_CONTRAINDICATED};

    for (unsigned code = 0; code < 64; code++) {
        unsigned k[3] = {code % 4, code / 4 % 4, code / 16};
        ForeVerdict v[3] = {worse[k[0]], worse[k[1]], worse[k[2]]};
        ForeNodeResult r[3];
        ForeVerdict want = worse[MAX(MAX(k[0], k[1]), k[2])];

        for (unsigned i = 0; i < 3; i++) {
            result(&r[i], "n", v[i]);
            g_assert_cmpint(r[i].verdict, ==, v[i]);
        }
        g_assert_cmpint(fore_pathway_verdict(r, 3), ==, want);
    }
    g_assert_cmpint(fore_pathway_verdict(NULL, 0), ==, FORE_VERDICT_NONE);
}

static void test_reasons_bounded(void)
{
    ForeNodeResult r;

    fore_node_result_init(&r, "n", FORE_ROLE_SWITCH, FORE_NODE_SILENT);
    for (unsigned i = 0; i < 10; i++) {
        fore_node_result_add(&r, i == 5 ? FORE_VERDICT_CONTRAINDICATED : FORE_VERDICT_NONE, "more");
    }
    g_assert_cmpuint(r.n_reasons, ==, FORE_PATHWAY_REASONS);
    g_assert_cmpint(r.verdict, ==, FORE_VERDICT_CONTRAINDICATED);
}

static void test_evidence_digest(void)
{
    ForeNodeResult r[2];
    char one[65], other[65];

    result(&r[0], "a", FORE_VERDICT_AFFIRMING);
    result(&r[1], "b", FORE_VERDICT_AFFIRMING);
    fore_pathway_evidence(r, 2, one);
    g_assert_cmpuint(strlen(one), ==, 64);
    r[1].evidence_digest[0] ^= 1;
    fore_pathway_evidence(r, 2, other);
    g_assert_cmpstr(one, !=, other);
}

static void test_ear(void)
{
    ForeNodeResult r[2];
    ForeEarInput input = {"pam1", VM, "foresee-reference:7", run_a, 1000, 1060};
    g_autoptr(json_t) ear = NULL;
    json_t *modules, *module;
    const char *status;

    result(&r[0], "hv1", FORE_VERDICT_AFFIRMING);
    result(&r[1], VM, FORE_VERDICT_CONTRAINDICATED);
    ear = fore_pathway_ear(&input, r, 2);
    g_assert_nonnull(ear);
    g_assert_cmpstr(json_string_value(json_object_get(ear, "eat_profile")), ==,
                    "tag:github.com,2023:veraison/ear");
    g_assert_true(fore_json_get_object(ear, "submods", &modules, NULL));
    g_assert_cmpuint(json_object_size(modules), ==, 2);
    g_assert_true(fore_json_get_object(modules, VM, &module, NULL));
    g_assert_true(fore_json_get_string(module, "ear.status", &status, NULL));
    g_assert_cmpstr(status, ==, "contraindicated");
    g_assert_true(fore_json_get_object(modules, "hv1", &module, NULL));
    g_assert_true(fore_json_get_string(module, "ear.status", &status, NULL));
    g_assert_cmpstr(status, ==, "affirming");
}

static void test_names(void)
{
    for (ForeNodeReason reason = 0; reason < FORE_NODE_N; reason++) {
        g_assert_nonnull(fore_node_reason_name(reason));
        for (ForeNodeReason other = 0; other < reason; other++) {
            g_assert_cmpstr(fore_node_reason_name(reason), !=, fore_node_reason_name(other));
        }
    }
    for (ForeRole role = 0; role < FORE_ROLE_N; role++) {
        g_assert_cmpint(fore_role_from_name(fore_role_names[role]), ==, role);
    }
    g_assert_cmpint(fore_role_from_name("router"), ==, FORE_ROLE_N);
    g_assert_cmpint(fore_role_from_name(NULL), ==, FORE_ROLE_N);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/attest/pathway/nonces-differ-by-run-node-role-and-epoch", test_nonces);
    g_test_add_func("/attest/pathway/extra-data-is-laid-out-as-documented", test_extra_layout);
    g_test_add_func("/attest/pathway/no-evidence-is-none-with-its-reason", test_no_evidence);
    g_test_add_func("/attest/pathway/malformed-evidence-is-none", test_malformed);
    g_test_add_func("/attest/pathway/released-only-by-an-operator", test_sticky);
    g_test_add_func("/attest/pathway/worst-node-decides", test_join);
    g_test_add_func("/attest/pathway/reasons-are-bounded-and-never-soften", test_reasons_bounded);
    g_test_add_func("/attest/pathway/evidence-digest-names-every-node", test_evidence_digest);
    g_test_add_func("/attest/pathway/ear-has-one-submodule-a-node", test_ear);
    g_test_add_func("/attest/pathway/names-are-stable-and-distinct", test_names);
    return g_test_run();
}

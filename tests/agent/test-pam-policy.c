/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rules beside PCR values, keys in tokens, keys that change: foresee-pam with real TPMs and a real
 * token. */
#include <glib/gstdio.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "tests/agent/test-pam-stack.h"
#include "tests/lib/fore-test-token.h"
#include "vtpm/attest/fore-jws.h"
#include "vtpm/attest/fore-launch.h"
#include "vtpm/attest/fore-pathway.h"
#include "vtpm/host/fore-measure.h"
#include "vtpm/tpm/fore-tpm.h"

#define IMA_PCRS 0x07ffu

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));

    g_assert_nonnull(value);
    return value;
}

/* --- a machine that measures files --- */

typedef struct {
    const char *tcti;
    GByteArray *list; /* binary_runtime_measurements */
} Ima;

static void put_le32(GByteArray *out, uint32_t value)
{
    const uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                              (uint8_t)(value >> 24)};

    g_byte_array_append(out, bytes, 4);
}

static void sha(const char *name, const void *data, size_t size, uint8_t *ret)
{
    g_assert_true(EVP_Digest(data, size, ret, NULL, EVP_get_digestbyname(name), NULL) == 1);
}

/* One ima-ng entry: into the list, and into PCR 10 as the kernel does it. */
static void measure(Ima *ima, const char *path, const uint8_t digest[32])
{
    static const char algorithm[] = "sha256:";
    g_autoptr(GByteArray) data = g_byte_array_new();
    g_autoptr(ForeTpm) tpm = fore_tpm_open(ima->tcti, NULL);
    uint8_t template_hash[20], extend_by[32];

    put_le32(data, sizeof(algorithm) + 32);
    g_byte_array_append(data, (const guint8 *)algorithm, sizeof(algorithm)); /* with its NUL */
    g_byte_array_append(data, digest, 32);
    put_le32(data, (uint32_t)strlen(path) + 1);
    g_byte_array_append(data, (const guint8 *)path, (guint)strlen(path) + 1);
    sha("SHA1", data->data, data->len, template_hash);
    sha("SHA256", data->data, data->len, extend_by);
    put_le32(ima->list, 10);
    g_byte_array_append(ima->list, template_hash, sizeof(template_hash));
    put_le32(ima->list, 6);
    g_byte_array_append(ima->list, (const guint8 *)"ima-ng", 6);
    put_le32(ima->list, data->len);
    g_byte_array_append(ima->list, data->data, data->len);
    g_assert_true(fore_tpm_pcr_extend(tpm, 10, extend_by, NULL));
}

static void digest_of(const char *content, uint8_t ret[32])
{
    sha("SHA256", content, strlen(content), ret);
}

static void measure_file(Ima *ima, const char *path, const char *content)
{
    uint8_t digest[32];

    digest_of(content, digest);
    measure(ima, path, digest);
}

/* PCR values of 0 to 9 as they are, and the first entry, which names them. */
static void boot(Ima *ima, const char *tcti, uint8_t pcrs[FORE_TPM_PCRS][32])
{
    uint8_t aggregate[32];

    ima->tcti = tcti;
    ima->list = g_byte_array_new();
    {
        g_autoptr(ForeTpm) tpm = fore_tpm_open(tcti, NULL);
        g_assert_true(fore_tpm_pcr_read(tpm, 0x3ff, pcrs, NULL));
    }
    sha("SHA256", pcrs, 10 * 32, aggregate);
    measure(ima, "boot_aggregate", aggregate);
}

/* The manifest so far with PCRs 0 to 9 of @id, and @rules (lines without subject). */
static void hold(Stack *s, const char *kind, const char *id, uint8_t pcrs[FORE_TPM_PCRS][32],
                 const char *const *rules)
{
    g_autofree char *so_far = fore_reference_format(s->values);
    g_auto(GStrv) lines = g_strsplit(so_far, "\n", -1);
    g_autofree char *prefix = g_strdup_printf("%s %s ", kind, id);
    GString *all = g_string_new(NULL);
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; lines[i] != NULL; i++) {
        if (!g_str_has_prefix(lines[i], prefix)) {
            g_string_append_printf(all, "%s\n", lines[i]);
        }
    }
    for (unsigned pcr = 0; pcr < 10; pcr++) {
        g_autofree char *hex = fore_hex_encode(pcrs[pcr], 32);
        g_string_append_printf(all, "%spcr sha256:%u %s\n", prefix, pcr, hex);
    }
    for (unsigned i = 0; rules[i] != NULL; i++) {
        g_string_append_printf(all, "%s%s\n", prefix, rules[i]);
    }
    fore_reference_free(s->values);
    s->values = fore_reference_parse(all->str, all->len, &error);
    g_assert_no_error(error);
    g_string_free(all, TRUE);
    stack_set_reference(s);
}

static char *allow(const char *path, const char *content)
{
    uint8_t digest[32];
    g_autofree char *hex = NULL;

    digest_of(content, digest);
    hex = fore_hex_encode(digest, 32);
    return g_strdup_printf("ima file sha256:%s %s", hex, path);
}

/* --- a node's list, which the PAM fetches --- */

static void write_list(Stack *s, const Ima *ima)
{
    g_autofree char *path = g_build_filename(s->dir, "ima", NULL);

    g_assert_true(
        g_file_set_contents(path, (const char *)ima->list->data, (gssize)ima->list->len, NULL));
}

static void attester_with_list(Stack *s)
{
    g_autofree char *conf = NULL, *with = NULL;

    stack_stop_attester(s);
    g_assert_true(g_file_get_contents(s->attester_conf, &conf, NULL, NULL));
    with = g_strdup_printf("%sima-log=%s/ima\nfirmware-log=%s/none\n", conf, s->dir, s->dir);
    g_assert_true(g_file_set_contents(s->attester_conf, with, -1, NULL));
    stack_start_attester_as_configured(s);
}

static void test_node_list(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    uint8_t pcrs[FORE_TPM_PCRS][32];
    g_autofree char *good = allow("/usr/bin/good", "good");
    const char *const rules[] = {good, "max-age 30", NULL};
    g_autoptr(json_t) first = NULL, second = NULL, third = NULL, behind = NULL;
    Ima ima;

    stack_ready(s);
    boot(&ima, fore_test_swtpm_tcti(s->host), pcrs);
    write_list(s, &ima);
    attester_with_list(s);
    hold(s, "node", "hv1", pcrs, rules);
    first = run(s);
    check_verdict(first, "affirming", NULL);
    /* the list goes on: only the rest is fetched and judged */
    measure_file(&ima, "/usr/bin/good", "good");
    write_list(s, &ima);
    second = run(s);
    check_verdict(second, "affirming", NULL);
    check_grant(s, second, 0);
    /* a list that stays behind the quote, as somebody would who hides an entry */
    measure_file(&ima, "/usr/bin/evil", "evil");
    behind = run(s);
    g_assert_cmpstr(text(behind, "verdict"), !=, "affirming");
    g_assert_null(json_object_get(behind, "grant"));
    json_decref(must(s->operator, "release", json_pack("{s:s}", "id", "hv1")));
    write_list(s, &ima);
    third = run(s);
    check_verdict(third, "contraindicated", "hv1:ima-unlisted");
    g_byte_array_unref(ima.list);
}

/* --- a guest's list, which its host agent carries --- */

static json_t *run_guest(Stack *s, const Ima *ima, uint64_t *ret_from)
{
    g_autoptr(json_t) session = begin(s);
    json_t *logs = NULL;
    int64_t from = 0, mask = 0;
    json_t *evidence;

    g_assert_true(fore_json_get_int(session, "pcr-mask", 1, 0xffff, &mask, NULL));
    g_assert_cmphex(mask, ==, IMA_PCRS);
    g_assert_true(fore_json_get_object(session, "logs", &logs, NULL));
    g_assert_true(fore_json_get_int(logs, "ima", 0, G_MAXINT64, &from, NULL));
    evidence = guest_evidence(s, ima->tcti, text(session, "nonce"), (uint32_t)mask);
    for (guint at = (guint)from; at < ima->list->len; at += 50) {
        g_autoptr(GBytes) chunk = g_bytes_new(ima->list->data + at, MIN(50, ima->list->len - at));
        json_decref(
            must(s->agent, "evidence-log",
                 json_pack("{s:s, s:s, s:i, s:o}", "session", text(session, "session"), "log",
                           "ima", "offset", (int)at, "data", fore_json_bytes(chunk))));
    }
    *ret_from = (uint64_t)from;
    return finish(s, session, evidence);
}

static void test_guest_list(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    uint8_t pcrs[FORE_TPM_PCRS][32];
    g_autofree char *good = allow("/usr/bin/good", "good");
    const char *const rules[] = {good, "on-attest-failure relieve-memory", "pathway hv1", NULL};
    const char *const elsewhere[] = {good, "pathway hv9", NULL};
    g_autoptr(json_t) first = NULL, second = NULL, third = NULL, fourth = NULL;
    uint64_t from = 0;
    Ima ima;

    stack_ready(s);
    boot(&ima, fore_test_swtpm_tcti(s->guest), pcrs);
    hold(s, "vm", s->vm, pcrs, rules);
    measure_file(&ima, "/usr/bin/good", "good");
    first = run_guest(s, &ima, &from);
    g_assert_cmpuint(from, ==, 0);
    check_verdict(first, "affirming", NULL);
    g_assert_cmpstr(text(first, "on-attest-failure"), ==, "relieve-memory");
    measure_file(&ima, "/usr/bin/good", "good");
    second = run_guest(s, &ima, &from);
    g_assert_cmpuint(from, >, 0);
    check_verdict(second, "affirming", NULL);
    /* another manifest: everything is judged anew, by its rules */
    hold(s, "vm", s->vm, pcrs, elsewhere);
    third = run_guest(s, &ima, &from);
    g_assert_cmpuint(from, ==, 0);
    check_verdict(third, "none", "guest:pathway-not-allowed");
    measure_file(&ima, "/usr/bin/good", "changed");
    fourth = run_guest(s, &ima, &from);
    check_verdict(fourth, "contraindicated", "guest:ima-digest-mismatch");
    g_byte_array_unref(ima.list);
}

/* Lists that nobody asked for, of another session, or with holes. */
static void test_bad_chunks(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(json_t) session = NULL;

    stack_ready(s);
    session = begin(s);
    must_fail(s->agent, "evidence-log",
              json_pack("{s:s, s:s, s:i, s:s}", "session", text(session, "session"), "log", "ima",
                        "offset", 0, "data", "AAAA"),
              FORE_ERROR_INVALID);
    must_fail(s->agent, "evidence-log",
              json_pack("{s:s, s:s, s:i, s:s}", "session", "0123456789abcdef0123456789abcdef",
                        "log", "ima", "offset", 0, "data", "AAAA"),
              FORE_ERROR_NOT_FOUND);
    must_fail(s->operator, "evidence-log", NULL, FORE_ERROR_UNTRUSTED);
}

/* --- revocation --- */

static void test_revoked(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(json_t) good = NULL, bad = NULL;

    stack_ready(s);
    good = run(s);
    check_verdict(good, "affirming", NULL);
    json_decref(must(s->operator, "revoke", json_pack("{s:s}", "id", "hv1")));
    stack_stop_pam(s, true);
    stack_start_pam(s);
    bad = run(s);
    check_verdict(bad, "contraindicated", "hv1:revoked");
    json_decref(must(s->operator, "forget", json_pack("{s:s}", "id", s->vm)));
    json_decref(must(s->operator, "forget", json_pack("{s:s}", "id", "hv1")));
    must_fail(s->operator, "enroll-node", node_arguments(s, "hv1"), FORE_ERROR_UNTRUSTED);
}

/* --- keys --- */

static void test_token(void)
{
    g_autoptr(ForeTestToken) token = NULL;
    g_autoptr(Stack) s = NULL;
    g_autofree char *uri = NULL, *config = NULL, *log = NULL, *log_path = NULL;
    g_autoptr(json_t) good = NULL, event = NULL, session = NULL, back = NULL;

    if (fore_test_token_missing() != NULL) {
        g_test_skip(fore_test_token_missing());
        return;
    }
    token = fore_test_token_new();
    uri = fore_test_token_uri(token, "grant");
    config = g_strdup_printf("allow-software-tpm=true\nsigning-key=%s\npkcs11-module=%s", uri,
                             fore_test_token_module());
    s = stack_new(config);
    stack_ready(s);
    good = run(s);
    check_verdict(good, "affirming", NULL);
    g_assert_true(json_is_false(json_object_get(good, "insecure-software-key")));
    check_grant(s, good, 0);
    fore_test_token_remove(token);
    session = begin(s);
    must_fail(
        s->agent, "finish",
        json_pack(
            "{s:s, s:o, s:s, s:i, s:i}", "session", text(session, "session"), "evidence",
            guest_evidence(s, fore_test_swtpm_tcti(s->guest), text(session, "nonce"), GUEST_PCRS),
            "channel-pin", fore_identity_pin(s->sea_id), "vcpus", 2, "memory-bytes", 1 << 20),
        FORE_ERROR_UNAVAILABLE);
    event = fore_client_next_event(s->operator, CALL_MS, NULL);
    g_assert_cmpstr(text(event, "event"), ==, "ALARM");
    g_assert_cmpstr(text(json_object_get(event, "data"), "what"), ==, "signing-key");
    fore_test_token_insert(token);
    back = run(s);
    check_grant(s, back, 0);
    log_path = g_build_filename(s->dir, "pam", "audit.log", NULL);
    g_assert_true(g_file_get_contents(log_path, &log, NULL, NULL));
    g_assert_nonnull(strstr(log, "\"what\":\"alarm\",\"id\":\"signing-key\""));
    g_assert_nonnull(strstr(log, "\"what\":\"alarm-over\""));
}

static void read_next_key(Stack *s, EVP_PKEY **ret)
{
    g_autofree char *path = g_build_filename(s->dir, "next.pub", NULL);
    const char *argv[] = {stack_pam_program(), "--config", s->pam_conf,
                          "--export-next-key", path,       NULL};

    g_assert_cmpint(stack_run(argv, NULL), ==, 0);
    *ret = fore_key_load_public(path, NULL);
    g_assert_nonnull(*ret);
}

static void verify_grant(Stack *s, const json_t *answer, EVP_PKEY *key, ForeGrant *ret)
{
    g_autoptr(json_t) nodes = must(s->agent, "query-nodes", NULL);
    ForeGrantExpect expect = {
        .pam_key = key,
        .vm_uuid = s->vm,
        .ak_name = text(json_array_get(json_object_get(nodes, "vms"), 0), "ak-name"),
        .now_s = g_get_real_time() / G_USEC_PER_SEC,
    };

    g_assert_cmpstr(fore_grant_reason_name(fore_grant_verify(text(answer, "grant"), &expect, ret)),
                    ==, "ok");
}

static void test_rotation(void)
{
    g_autoptr(Stack) s =
        stack_new("allow-software-tpm=true\ninsecure-software-key=true\nsigning-key=file\n"
                  "next-signing-key=file:2027");
    g_autoptr(json_t) first = NULL, second = NULL, third = NULL;
    EVP_PKEY *present, *next;
    g_autofree char *path = g_build_filename(s->dir, "pam", "signing-key.pem", NULL);
    g_autoptr(ForeIdentity) old = NULL;
    g_autoptr(GBytes) der = NULL;
    ForeGrant grant;

    stack_ready(s);
    first = run(s);
    g_assert_true(json_is_true(json_object_get(first, "insecure-software-key")));
    old = fore_identity_load_or_create(path, "x", NULL);
    present = fore_identity_key(old);
    verify_grant(s, first, present, &grant);
    read_next_key(s, &next);
    der = fore_jws_key_der(next);
    g_assert_cmpmem(grant.next, grant.next_size, g_bytes_get_data(der, NULL),
                    g_bytes_get_size(der));
    /* the guest has learnt it, and says so under its quote's signature */
    fore_jws_key_id(next, s->pam_key);
    second = run(s);
    verify_grant(s, second, next, &grant);
    g_assert_cmpuint(grant.next_size, ==, 0);
    /* a guest that pins somebody else's key gets nothing */
    memset(s->pam_key, 'a', 64);
    third = run(s);
    check_verdict(third, "none", "guest:other-pam-key");
    EVP_PKEY_free(next);
}

/* --- what the host launched --- */

static ForeLaunch launch_of_guest(const Stack *s)
{
    ForeLaunch l = {.have = 1u << FORE_LAUNCH_QEMU | 1u << FORE_LAUNCH_KERNEL |
                            1u << FORE_LAUNCH_CMDLINE | 1u << FORE_LAUNCH_VTPM};
    g_autoptr(ForeTpm) tpm = fore_tpm_open(fore_test_swtpm_tcti(s->guest), NULL);
    g_autoptr(GBytes) ek = NULL;

    g_strlcpy(l.vm, s->vm, sizeof(l.vm));
    memset(l.digest[FORE_LAUNCH_QEMU], 1, 32);
    memset(l.digest[FORE_LAUNCH_KERNEL], 2, 32);
    memset(l.digest[FORE_LAUNCH_CMDLINE], 3, 32);
    g_assert_true(fore_tpm_ek(tpm, &ek, NULL, NULL));
    SHA256(g_bytes_get_data(ek, NULL), g_bytes_get_size(ek), l.digest[FORE_LAUNCH_VTPM]);
    return l;
}

static void launch(Stack *s, const ForeLaunch *l)
{
    g_autofree char *log = g_build_filename(s->dir, "launch.log", NULL);
    g_autoptr(ForeTpm) tpm = fore_tpm_open(fore_test_swtpm_tcti(s->host), NULL);
    g_autoptr(GError) error = NULL;

    fore_measure_record(tpm, log, l, &error);
    g_assert_no_error(error);
}

/* The guest's values as learnt, and rules that its host has to have launched it by. */
static void hold_launch(Stack *s, const ForeLaunch *l)
{
    g_autofree char *so_far = fore_reference_format(s->values);
    GString *all = g_string_new(so_far);
    g_autoptr(GError) error = NULL;

    for (unsigned part = 0; part < FORE_LAUNCH_VTPM; part++) {
        g_autofree char *hex = fore_hex_encode(l->digest[part], 32);

        if (l->have >> part & 1u) {
            g_string_append_printf(all, "vm %s launch %s sha256:%s\n", s->vm,
                                   fore_launch_part_name(part), hex);
        }
    }
    fore_reference_free(s->values);
    s->values = fore_reference_parse(all->str, all->len, &error);
    g_assert_no_error(error);
    g_string_free(all, TRUE);
    stack_set_reference(s);
}

static void attester_with_launches(Stack *s)
{
    g_autofree char *conf = NULL, *with = NULL;

    stack_stop_attester(s);
    g_assert_true(g_file_get_contents(s->attester_conf, &conf, NULL, NULL));
    with = g_strdup_printf("%slaunch-log=%s/launch.log\n", conf, s->dir);
    g_assert_true(g_file_set_contents(s->attester_conf, with, -1, NULL));
    stack_start_attester_as_configured(s);
}

static void run_expecting(Stack *s, const char *verdict, const char *reason)
{
    g_autoptr(json_t) answer = run(s);

    check_verdict(answer, verdict, reason);
}

static void test_launch(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autofree char *log = g_build_filename(s->dir, "launch.log", NULL), *text = NULL;
    ForeLaunch good, other;
    gsize size = 0;

    stack_ready(s);
    attester_with_launches(s);
    good = launch_of_guest(s);
    hold_launch(s, &good);
    run_expecting(s, "none", "hv1:launch-absent");
    launch(s, &good);
    run_expecting(s, "affirming", NULL);
    other = good; /* another VM's launch changes nothing for this one */
    g_strlcpy(other.vm, "0b0d4c1e-0a52-4a8e-9d57-2f3c8b1a7e41", sizeof(other.vm));
    launch(s, &other);
    run_expecting(s, "affirming", NULL);
    other = good;
    other.digest[FORE_LAUNCH_KERNEL][0] ^= 1;
    launch(s, &other);
    run_expecting(s, "none", "hv1:launch-unlisted");
    other = good;
    other.digest[FORE_LAUNCH_VTPM][0] ^= 1;
    launch(s, &other);
    run_expecting(s, "none", "hv1:launch-other-vtpm");
    launch(s, &good);
    run_expecting(s, "affirming", NULL);
    /* a log that was edited: the host's own failure, and it sticks */
    g_assert_true(g_file_get_contents(log, &text, &size, NULL));
    text[size - 2] = text[size - 2] == '0' ? '1' : '0';
    g_assert_true(g_file_set_contents(log, text, (gssize)size, NULL));
    run_expecting(s, "contraindicated", "hv1:launch-head-mismatch");
}

#define ADD(path, fn) g_test_add_func(path, fn)

int main(int argc, char **argv)
{
    const char *missing;
    int code;

    g_test_init(&argc, &argv, NULL);
    missing = stack_missing();
    if (missing != NULL) {
        g_print("1..0 # SKIP %s is missing\n", missing);
        return 0;
    }
    ADD("/pam/policy/list-of-a-node-is-fetched-and-judged", test_node_list);
    ADD("/pam/policy/launches-of-a-host-are-held-to-the-vms-rules", test_launch);
    ADD("/pam/policy/list-of-a-guest-is-carried-and-judged", test_guest_list);
    ADD("/attest/attack/29-unasked-lists-are-refused", test_bad_chunks);
    ADD("/pam/policy/revoked-keys-stay-out", test_revoked);
    ADD("/attest/attack/106-removed-token-means-no-grant-and-an-alarm", test_token);
    ADD("/pam/policy/next-key-is-told-by-the-present-one", test_rotation);
    code = g_test_run();
    stack_swtpms_done();
    return code;
}

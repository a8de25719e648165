/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may be enrolled, who may ask, and how foresee-pam behaves as a service. */
#include <signal.h>
#include <string.h>

#include "tests/agent/test-pam-stack.h"

static json_t *activate_arguments(const json_t *session, GBytes *secret)
{
    return json_pack("{s:O, s:o}", "session", json_object_get(session, "session"), "secret",
                     fore_json_bytes(secret));
}

/* query-nodes without what time and runs change. */
static char *identities(Stack *s)
{
    g_autoptr(json_t) ret = must(s->operator, "query-nodes", NULL);

    return json_dumps(ret, JSON_SORT_KEYS);
}

static void test_node_other_keys(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(ForeTestSwtpm) other = fore_test_swtpm_new();
    g_autofree char *both = g_build_filename(s->dir, "both-ca.pem", NULL);
    g_autofree char *one = NULL, *two = NULL, *joined = NULL;
    g_autofree char *before = NULL, *after = NULL;

    /* the other TPM has a certificate just as good */
    g_assert_true(g_file_get_contents(fore_test_swtpm_ca_file(s->host), &one, NULL, NULL));
    g_assert_true(g_file_get_contents(fore_test_swtpm_ca_file(other), &two, NULL, NULL));
    joined = g_strconcat(one, two, NULL);
    g_assert_true(g_file_set_contents(both, joined, -1, NULL));
    stack_stop_pam(s, true);
    stack_write_pam_conf(s, both, fore_test_swtpm_ca_file(s->guest));
    stack_start_pam(s);
    stack_enroll_node(s);
    before = identities(s);
    stack_enroll_node(s); /* the same keys may prove themselves again */
    stack_stop_attester(s);
    stack_start_attester(s, fore_test_swtpm_tcti(other));
    must_fail(s->operator, "enroll-node", node_arguments(s, "hv1"), FORE_ERROR_EXISTS);
    after = identities(s);
    g_assert_cmpstr(before, ==, after);
    /* an operator who means it */
    json_decref(must(s->operator, "forget", json_pack("{s:s}", "id", "hv1")));
    stack_enroll_node(s);
}

static void test_vm_other_keys(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(ForeTestSwtpm) other = fore_test_swtpm_new();
    g_autofree char *both = g_build_filename(s->dir, "both-ca.pem", NULL);
    g_autofree char *one = NULL, *two = NULL, *joined = NULL;
    g_autofree char *before = NULL, *after = NULL;

    g_assert_true(g_file_get_contents(fore_test_swtpm_ca_file(s->guest), &one, NULL, NULL));
    g_assert_true(g_file_get_contents(fore_test_swtpm_ca_file(other), &two, NULL, NULL));
    joined = g_strconcat(one, two, NULL);
    g_assert_true(g_file_set_contents(both, joined, -1, NULL));
    stack_stop_pam(s, true);
    stack_write_pam_conf(s, fore_test_swtpm_ca_file(s->host), both);
    stack_start_pam(s);
    stack_enroll_node(s);
    stack_enroll_vm(s);
    before = identities(s);
    must_fail(s->agent, "enroll-vm", vm_arguments(s, s->vm, fore_test_swtpm_tcti(other)),
              FORE_ERROR_EXISTS);
    must_fail(s->operator, "enroll-vm", vm_arguments(s, s->vm, fore_test_swtpm_tcti(other)),
              FORE_ERROR_EXISTS);
    after = identities(s);
    g_assert_cmpstr(before, ==, after);
    stack_enroll_vm(s);
}

/* Two that want the same name at the same time: at most one conversation is open. */
static void test_vm_race(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(ForeClient) second = stack_connect(s, s->agent2_id, NULL);
    const char *tcti = fore_test_swtpm_tcti(s->guest);

    stack_enroll_node(s);
    json_decref(must(s->agent, "enroll-vm", vm_arguments(s, s->vm, tcti)));
    must_fail(second, "enroll-vm", vm_arguments(s, s->vm, tcti), FORE_ERROR_EXISTS);
    stack_enroll_vm(s); /* the first starts over: its own older attempt gives way */
}

static void test_node_race(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(ForeClient) second = stack_connect(s, s->operator_id, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) late = NULL;

    /* the attester does not answer, so the first enrolment stays open when the second comes */
    g_subprocess_send_signal(s->attester, SIGSTOP);
    late = fore_client_call(s->operator, "enroll-node", node_arguments(s, "hv1"), 1, &error);
    g_assert_error(error, FORE_ERROR, FORE_ERROR_TIMEOUT);
    must_fail(second, "enroll-node", node_arguments(s, "hv1"), FORE_ERROR_EXISTS);
    g_subprocess_send_signal(s->attester, SIGCONT);
}

static void test_wrong_secret(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(GBytes) guess = g_bytes_new_static("0123456789abcdef0123456789abcdef", 32);
    g_autoptr(GBytes) short_guess = g_bytes_new_static("", 0);
    g_autoptr(json_t) session = NULL;
    g_autofree char *before = NULL, *after = NULL;

    stack_enroll_node(s);
    before = identities(s);
    session = must(s->agent, "enroll-vm", vm_arguments(s, s->vm, fore_test_swtpm_tcti(s->guest)));
    must_fail(s->agent, "activate-vm", activate_arguments(session, guess), FORE_ERROR_UNTRUSTED);
    /* one try: the credential is spent */
    must_fail(s->agent, "activate-vm", activate_arguments(session, guess), FORE_ERROR_NOT_FOUND);
    json_decref(session);
    session = must(s->agent, "enroll-vm", vm_arguments(s, s->vm, fore_test_swtpm_tcti(s->guest)));
    must_fail(s->agent, "activate-vm", activate_arguments(session, short_guess),
              FORE_ERROR_UNTRUSTED);
    after = identities(s);
    g_assert_cmpstr(before, ==, after);
    must_fail(s->agent, "begin", json_pack("{s:s}", "vm", s->vm), FORE_ERROR_NOT_FOUND);
    stack_enroll_vm(s);
}

static void test_anchors_apart(void)
{
    g_autoptr(Stack) s = stack_new(NULL);

    /* who may vouch for vTPMs must not be able to vouch for hardware, and the reverse */
    stack_stop_pam(s, true);
    stack_write_pam_conf(s, fore_test_swtpm_ca_file(s->guest), fore_test_swtpm_ca_file(s->host));
    stack_start_pam(s);
    must_fail(s->operator, "enroll-node", node_arguments(s, "hv1"), FORE_ERROR_UNTRUSTED);
    stack_stop_pam(s, true);
    stack_write_pam_conf(s, fore_test_swtpm_ca_file(s->host), fore_test_swtpm_ca_file(s->host));
    stack_start_pam(s);
    stack_enroll_node(s);
    must_fail(s->agent, "enroll-vm", vm_arguments(s, s->vm, fore_test_swtpm_tcti(s->guest)),
              FORE_ERROR_UNTRUSTED);
}

static void test_software_tpm(void)
{
    g_autoptr(Stack) s = stack_new("");

    must_fail(s->operator, "enroll-node", node_arguments(s, "hv1"), FORE_ERROR_UNTRUSTED);
}

/* Allowed once, enrolled, then forbidden: the next verdict says so. */
static void test_software_tpm_later(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(json_t) answer = NULL;

    stack_ready(s);
    s->extra_config = "";
    stack_stop_pam(s, true);
    stack_write_pam_conf(s, fore_test_swtpm_ca_file(s->host), fore_test_swtpm_ca_file(s->guest));
    stack_start_pam(s);
    answer = run(s);
    check_verdict(answer, "contraindicated", "hv1:software-tpm");
}

static void test_crl(void)
{
    g_autoptr(Stack) s = stack_new("allow-software-tpm=true");
    g_autofree char *conf = NULL;
    g_autofree char *strict = NULL;
    char *at;

    stack_stop_pam(s, true);
    g_assert_true(g_file_get_contents(s->pam_conf, &conf, NULL, NULL));
    at = strstr(conf, "require-crl=false\n");
    strict = g_strdup_printf("%.*s%s", (int)(at - conf), conf, strchr(at, '\n') + 1);
    g_assert_true(g_file_set_contents(s->pam_conf, strict, -1, NULL));
    stack_start_pam(s);
    must_fail(s->operator, "enroll-node", node_arguments(s, "hv1"), FORE_ERROR_UNTRUSTED);
}

static void test_vm_name(void)
{
    static const char another[] = "00000000-1111-4222-8333-444444444444";
    g_autoptr(Stack) s = stack_new(NULL);

    stack_enroll_node(s);
    must_fail(s->agent, "enroll-vm", vm_arguments(s, another, fore_test_swtpm_tcti(s->guest)),
              FORE_ERROR_UNTRUSTED);
}

/* One TPM behind two names. */
static void test_tpm_copy(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autofree char *conf = NULL;
    g_auto(GStrv) parts = NULL;
    g_autofree char *renamed = NULL;

    stack_enroll_node(s);
    must_fail(s->operator, "enroll-node", node_arguments(s, "hv2"), FORE_ERROR_UNTRUSTED);
    g_assert_true(g_file_get_contents(s->attester_conf, &conf, NULL, NULL));
    parts = g_strsplit(conf, "id=hv1", 2);
    renamed = g_strjoinv("id=hv2", parts);
    stack_stop_attester(s);
    g_assert_true(g_file_set_contents(s->attester_conf, renamed, -1, NULL));
    stack_start_attester_as_configured(s);
    must_fail(s->operator, "enroll-node", node_arguments(s, "hv2"), FORE_ERROR_EXISTS);
}

static void test_pathway(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(json_t) arguments = vm_arguments(s, s->vm, fore_test_swtpm_tcti(s->guest));

    must_fail(s->agent, "enroll-vm", json_incref(arguments), FORE_ERROR_NOT_FOUND);
    stack_enroll_node(s);
    json_object_set_new(arguments, "pathway", json_array());
    must_fail(s->agent, "enroll-vm", json_incref(arguments), FORE_ERROR_INVALID);
    json_object_set_new(arguments, "pathway", json_pack("[s,s]", "hv1", "hv1"));
    must_fail(s->agent, "enroll-vm", json_incref(arguments), FORE_ERROR_NOT_FOUND);
    stack_enroll_vm(s);
    must_fail(s->operator, "forget", json_pack("{s:s}", "id", "hv1"), FORE_ERROR_EXISTS);
    json_decref(must(s->operator, "forget", json_pack("{s:s}", "id", s->vm)));
    json_decref(must(s->operator, "forget", json_pack("{s:s}", "id", "hv1")));
}

/* --- peers --- */

static void test_stranger(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeIdentity) stranger = fore_identity_new("stranger", NULL);
    g_autoptr(ForeClient) client = stack_connect(s, stranger, &error);

    g_assert_null(client);
    g_assert_nonnull(error);
    json_decref(must(s->agent, "query-nodes", NULL)); /* others are served */
}

/* The attester, too, serves one key only. */
static void test_attester_stranger(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(GError) error = NULL;
    const char *pins[] = {s->attester_pin, NULL};
    ForeChannelConfig channel = {
        .mode = FORE_CHANNEL_TLS_CLIENT, .identity = s->operator_id, .pins = pins};
    g_autoptr(ForeClient) client = fore_client_new(s->attester_address, &channel, CALL_MS, &error);

    g_assert_null(client);
    g_assert_nonnull(error);
    stack_enroll_node(s);
}

static void test_rights(void)
{
    static const char *const operators[] = {"enroll-node", "learn", "set-reference", "release",
                                            "forget"};
    g_autoptr(Stack) s = stack_new(NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(operators); i++) {
        must_fail(s->agent, operators[i], NULL, FORE_ERROR_UNTRUSTED);
        must_fail(s->operator, operators[i], NULL, FORE_ERROR_INVALID);
    }
    must_fail(s->operator, "begin", NULL, FORE_ERROR_UNTRUSTED);
    must_fail(s->operator, "finish", NULL, FORE_ERROR_UNTRUSTED);
    must_fail(s->operator, "no-such-command", NULL, FORE_ERROR_NOT_FOUND);
}

static void test_other_peers_session(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(ForeClient) second = NULL;
    g_autoptr(json_t) session = NULL, own = NULL;

    stack_ready(s);
    second = stack_connect(s, s->agent2_id, NULL);
    session = begin(s);
    must_fail(second, "finish",
              json_pack("{s:O, s:n, s:s}", "session", json_object_get(session, "session"),
                        "evidence", "channel-pin", ""),
              FORE_ERROR_NOT_FOUND);
    own = finish(s, session,
                 guest_evidence(s, fore_test_swtpm_tcti(s->guest),
                                json_string_value(json_object_get(session, "nonce")), GUEST_PCRS));
    check_verdict(own, "affirming", NULL); /* the stranger's try did not touch it */
}

/* Sessions are few and short: with one allowed, the second begin succeeds only after the first
 * expired. */
static void test_expiry(void)
{
    g_autoptr(Stack) s = stack_new("allow-software-tpm=true\nsession-ms=1000\nmax-sessions=1");
    g_autoptr(json_t) session = NULL;
    bool limited = false;

    stack_enroll_node(s);
    stack_enroll_vm(s);
    session = begin(s);
    for (;;) {
        g_autoptr(GError) error = NULL;
        g_autoptr(json_t) next =
            fore_client_call(s->agent, "begin", json_pack("{s:s}", "vm", s->vm), CALL_MS, &error);
        if (next != NULL) {
            break;
        }
        g_assert_error(error, FORE_ERROR, FORE_ERROR_LIMIT);
        limited = true; /* the server's own rate limit paces this loop */
    }
    g_assert_true(limited);
    must_fail(s->agent, "finish",
              json_pack("{s:O, s:n, s:s}", "session", json_object_get(session, "session"),
                        "evidence", "channel-pin", ""),
              FORE_ERROR_NOT_FOUND);
}

static void test_bad_finish(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(json_t) session = NULL;

    stack_ready(s);
    session = begin(s);
    must_fail(s->agent, "finish",
              json_pack("{s:O, s:{}, s:s, s:i, s:i}", "session",
                        json_object_get(session, "session"), "evidence", "channel-pin",
                        fore_identity_pin(s->sea_id), "vcpus", 0, "memory-bytes", 1),
              FORE_ERROR_INVALID);
    /* used, even badly */
    must_fail(s->agent, "finish",
              json_pack("{s:O, s:n, s:s}", "session", json_object_get(session, "session"),
                        "evidence", "channel-pin", ""),
              FORE_ERROR_NOT_FOUND);
}

/* --- service --- */

static void test_double_start(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    const char *argv[] = {stack_pam_program(), "--config", s->pam_conf, NULL};

    g_assert_cmpint(stack_run(argv, NULL), ==, 4);
    json_decref(must(s->agent, "query-nodes", NULL));
}

static void test_killed(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(json_t) answer = NULL;

    stack_ready(s);
    g_subprocess_send_signal(s->pam, SIGKILL);
    stack_stop_pam(s, false);
    stack_start_pam(s);
    answer = run(s);
    check_verdict(answer, "affirming", NULL);
}

static void test_audit(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    const char *argv[] = {stack_pam_program(), "--config", s->pam_conf, "--verify-audit", NULL};
    g_autofree char *path = g_build_filename(s->dir, "pam", "audit.log", NULL);
    g_autofree char *log = NULL;
    const char *start[] = {stack_pam_program(), "--config", s->pam_conf, NULL};
    char *grant;

    stack_ready(s);
    json_decref(run(s));
    g_assert_cmpint(stack_run(argv, NULL), ==, 0);
    g_assert_true(g_file_get_contents(path, &log, NULL, NULL));
    g_assert_nonnull(strstr(log, "\"what\":\"enrolled\""));
    g_assert_nonnull(strstr(log, "\"what\":\"set-reference\""));
    grant = strstr(log, "vcpus 4");
    g_assert_nonnull(grant);
    grant[6] = '9';
    stack_stop_pam(s, true);
    g_assert_true(g_file_set_contents(path, log, -1, NULL));
    g_assert_cmpint(stack_run(argv, NULL), ==, 3);
    g_assert_cmpint(stack_run(start, NULL), ==, 3);
}

static void test_usage(void)
{
    const char *none[] = {stack_pam_program(), NULL};
    const char *bad[] = {stack_pam_program(), "--no-such-option", NULL};
    const char *version[] = {stack_pam_program(), "--version", NULL};
    const char *help[] = {stack_pam_program(), "--help", NULL};
    const char *missing[] = {stack_pam_program(), "--config", "/nonexistent", NULL};
    const char *attester[] = {stack_attester_program(), NULL};
    const char *attester_version[] = {stack_attester_program(), "--version", NULL};

    g_assert_cmpint(stack_run(none, NULL), ==, 2);
    g_assert_cmpint(stack_run(bad, NULL), ==, 2);
    g_assert_cmpint(stack_run(version, NULL), ==, 0);
    g_assert_cmpint(stack_run(help, NULL), ==, 0);
    g_assert_cmpint(stack_run(missing, NULL), ==, 1);
    g_assert_cmpint(stack_run(attester, NULL), ==, 2);
    g_assert_cmpint(stack_run(attester_version, NULL), ==, 0);
}

static void test_new_policy_key(void)
{
    g_autofree char *dir = g_dir_make_tmp("foresee-policy-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "policy.pem", NULL);
    g_autofree char *public_path = g_strconcat(path, ".pub", NULL);
    const char *argv[] = {stack_pam_program(), "--new-policy-key", path, NULL};
    EVP_PKEY *key;

    g_assert_cmpint(stack_run(argv, NULL), ==, 0);
    key = fore_key_load_public(public_path, NULL);
    g_assert_nonnull(key);
    EVP_PKEY_free(key);
    g_assert_cmpint(stack_run(argv, NULL), ==, 1); /* it is not overwritten */
    fore_test_remove_tree(dir);
}

#define ADD(claim, fn)         g_test_add_func("/pam/identity/" claim, fn)
#define ADD_SERVICE(claim, fn) g_test_add_func("/pam/service/" claim, fn)
#define ATTACK(claim, fn)      g_test_add_func("/attest/attack/" claim, fn)

static void add_identity(void)
{
    ATTACK("32-node-keeps-its-keys", test_node_other_keys);
    ATTACK("32-vm-keeps-its-keys", test_vm_other_keys);
    ATTACK("33-two-that-enrol-one-vm-do-not-both-win", test_vm_race);
    ATTACK("33-two-that-enrol-one-node-do-not-both-win", test_node_race);
    ATTACK("35-failed-activation-leaves-nothing", test_wrong_secret);
    ATTACK("45-anchors-of-hosts-and-vms-are-apart", test_anchors_apart);
    ADD("software-tpm-needs-permission", test_software_tpm);
    ADD("withdrawn-permission-counts-at-once", test_software_tpm_later);
    ATTACK("41-missing-revocation-list-fails-closed", test_crl);
    ADD("vtpm-of-another-vm-is-refused", test_vm_name);
    ATTACK("87-one-tpm-has-one-name", test_tpm_copy);
    ADD("pathway-names-a-hypervisor-and-enrolled-nodes", test_pathway);
}

static void add_service(void)
{
    ATTACK("47-unknown-key-is-refused", test_stranger);
    ADD_SERVICE("attester-serves-its-pam-only", test_attester_stranger);
    ATTACK("48-agents-are-no-operators-and-the-reverse", test_rights);
    ATTACK("30-session-belongs-to-its-peer", test_other_peers_session);
    ADD_SERVICE("session-expires", test_expiry);
    ADD_SERVICE("badly-finished-session-is-used", test_bad_finish);
    ADD_SERVICE("second-start-is-refused", test_double_start);
    ADD_SERVICE("kill-loses-nothing", test_killed);
    ATTACK("105-edited-audit-log-is-told-and-stops-the-start", test_audit);
    ADD_SERVICE("wrong-arguments-are-told", test_usage);
    ADD_SERVICE("policy-key-is-made-once", test_new_policy_key);
}

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
    add_identity();
    add_service();
    code = g_test_run();
    stack_swtpms_done();
    return code;
}

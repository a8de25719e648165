/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may ask for what and how often, and what one quote for many is worth. */
#include <gio/gunixsocketaddress.h>
#include <signal.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "tests/agent/test-pam-stack.h"
#include "vtpm/attest/fore-pathway.h"
#include "vtpm/tpm/fore-tpm.h"

#define BATCH 8

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));

    g_assert_nonnull(value);
    return value;
}

/* --- whose VM it is --- */

static void test_other_agent(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(ForeClient) second = NULL;
    g_autoptr(json_t) seen = NULL, session = NULL;

    stack_ready(s);
    second = stack_connect(s, s->agent2_id, NULL);
    must_fail(second, "begin", json_pack("{s:s}", "vm", s->vm), FORE_ERROR_UNTRUSTED);
    must_fail(second, "enroll-vm", vm_arguments(s, s->vm, fore_test_swtpm_tcti(s->guest)),
              FORE_ERROR_UNTRUSTED);
    seen = must(second, "query-nodes", NULL);
    g_assert_cmpuint(json_array_size(json_object_get(seen, "vms")), ==, 0);
    /* after a move the new host asks, and the old one does not any more */
    must_fail(second, "assign", json_pack("{s:s, s:s}", "id", s->vm, "agent", "x"),
              FORE_ERROR_UNTRUSTED);
    must_fail(s->operator, "assign", json_pack("{s:s, s:s}", "id", s->vm, "agent", "x"),
              FORE_ERROR_INVALID);
    json_decref(
        must(s->operator, "assign",
             json_pack("{s:s, s:s}", "id", s->vm, "agent", fore_identity_pin(s->agent2_id))));
    session = must(second, "begin", json_pack("{s:s}", "vm", s->vm));
    must_fail(s->agent, "begin", json_pack("{s:s}", "vm", s->vm), FORE_ERROR_UNTRUSTED);
}

static void test_other_host(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    json_t *arguments = node_arguments(s, "hv1");

    json_object_set_new(arguments, "agent", json_string(fore_identity_pin(s->agent2_id)));
    json_decref(must(s->operator, "enroll-node", arguments));
    must_fail(s->agent, "enroll-vm", vm_arguments(s, s->vm, fore_test_swtpm_tcti(s->guest)),
              FORE_ERROR_UNTRUSTED);
}

/* --- how often --- */

static void test_enrolment_rate(void)
{
    g_autoptr(Stack) s =
        stack_new("allow-software-tpm=true\nmax-enrolments-per-minute=3\nmax-per-second=1000");
    g_autoptr(ForeClient) second = NULL;
    g_autoptr(json_t) request = NULL, other = NULL;
    unsigned limited = 0;

    stack_enroll_node(s);
    request = vm_arguments(s, s->vm, fore_test_swtpm_tcti(s->guest));
    for (unsigned i = 0; i < 1000; i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(json_t) ret =
            fore_client_call(s->agent, "enroll-vm", json_incref(request), CALL_MS, &error);

        if (ret == NULL) {
            g_assert_error(error, FORE_ERROR, FORE_ERROR_LIMIT);
            limited++;
        }
    }
    g_assert_cmpuint(limited, >=, 900);
    /* the others are served */
    second = stack_connect(s, s->agent2_id, NULL);
    other = must(second, "query-nodes", NULL);
}

/* Connections that prove no key, as many as fit: the pinned ones still get in. */
static void test_strangers(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(GPtrArray) idle = g_ptr_array_new_with_free_func(g_object_unref);
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(ForeClient) pinned = NULL;
    g_autoptr(GError) error = NULL;
    const char *addresses[] = {s->pam_address, s->attester_address};

    stack_enroll_node(s);
    for (unsigned i = 0; i < 200; i++) {
        g_autoptr(GSocketAddress) address =
            g_unix_socket_address_new(addresses[i % 2] + strlen("unix:"));
        GSocketConnection *connection =
            g_socket_client_connect(client, G_SOCKET_CONNECTABLE(address), NULL, NULL);

        if (connection != NULL) {
            g_ptr_array_add(idle, connection);
        }
    }
    pinned = stack_connect(s, s->agent2_id, &error);
    g_clear_error(&error); /* a full waiting room may turn one away */
    json_decref(must(s->agent, "query-nodes", NULL));
    g_ptr_array_set_size(idle, 0);
    g_clear_pointer(&pinned, fore_client_free);
    pinned = stack_connect(s, s->agent2_id, &error);
    g_assert_no_error(error);
}

/* --- one quote for many --- */

typedef struct {
    GMainLoop *loop;
    json_t *evidence[BATCH];
    unsigned answered;
} Batch;

typedef struct {
    Batch *batch;
    unsigned index;
} Asker;

static void on_evidence(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    Asker *asker = data;

    g_assert_no_error(error);
    asker->batch->evidence[asker->index] = json_deep_copy(ret);
    if (++asker->batch->answered == BATCH) {
        g_main_loop_quit(asker->batch->loop);
    }
}

static void on_closed(ForeWire *wire, const GError *why, gpointer data)
{
}

static void question(unsigned i, uint8_t nonce[32])
{
    memset(nonce, 0x40 + (int)i, 32);
}

static void ask_all(Stack *s, Batch *batch)
{
    static const ForeWireOps ops = {.on_closed = on_closed};
    g_autofree char *key = g_build_filename(s->dir, "pam", "channel-key.pem", NULL);
    g_autoptr(ForeIdentity) pam = fore_identity_load_or_create(key, "pam", NULL);
    const char *pins[] = {s->attester_pin, NULL};
    ForeChannelConfig channel = {.mode = FORE_CHANNEL_TLS_CLIENT, .identity = pam, .pins = pins};
    ForeWireConfig config = {.json = fore_json_limits_guest};
    int fd = fore_connect(s->attester_address, NULL);
    Asker askers[BATCH];
    ForeWire *wire;

    batch->loop = g_main_loop_new(NULL, FALSE);
    wire = fore_wire_new(NULL, fd, &channel, FORE_WIRE_CLIENT, &config, &ops, NULL);
    for (unsigned i = 0; i < BATCH; i++) {
        uint8_t nonce[32];
        g_autofree char *nonce64 = NULL;

        question(i, nonce);
        nonce64 = fore_b64_encode(nonce, sizeof(nonce));
        askers[i] = (Asker){batch, i};
        fore_wire_execute(wire, "attester-quote",
                          json_pack("{s:s, s:i, s:s, s:s}", "nonce", nonce64, "pcr-mask", NODE_PCRS,
                                    "vm", s->vm, "vm-ak-name", "000b00"),
                          CALL_MS, on_evidence, &askers[i]);
    }
    g_main_loop_run(batch->loop);
    fore_wire_free(wire);
    g_main_loop_unref(batch->loop);
}

static void judge(Stack *s, GBytes *ak, unsigned i, const json_t *evidence, ForeNodeResult *ret)
{
    uint8_t nonce[32];
    g_autoptr(GBytes) extra = NULL;
    ForeNodeExpect expect = {
        .id = "hv1",
        .role = FORE_ROLE_HYPERVISOR,
        .ak_public = ak,
        .pcr_mask = NODE_PCRS,
        .allow_software_tpm = true,
    };

    question(i, nonce);
    extra = fore_pathway_node_extra(nonce, "hv1", FORE_ROLE_HYPERVISOR, s->vm, "000b00");
    expect.extra = extra;
    fore_pathway_judge(&expect, evidence, ret);
}

static GBytes *host_ak(Stack *s)
{
    g_autoptr(ForeTpm) tpm = fore_tpm_open(fore_test_swtpm_tcti(s->host), NULL);
    GBytes *ak = NULL;

    g_assert_true(fore_tpm_ak(tpm, &ak, NULL, NULL));
    return ak;
}

static void test_batch(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(GBytes) ak = host_ak(s);
    g_autoptr(GHashTable) quotes = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(json_t) foreign = NULL, edited = NULL;
    Batch batch = {NULL};
    ForeNodeResult result;

    ask_all(s, &batch);
    for (unsigned i = 0; i < BATCH; i++) {
        judge(s, ak, i, batch.evidence[i], &result);
        g_assert_true(result.quoted);
        g_hash_table_add(quotes, (char *)text(batch.evidence[i], "attest"));
    }
    /* the first went alone, the rest waited for it together */
    g_assert_cmpuint(g_hash_table_size(quotes), <, BATCH);
    /* who was not asked for finds nothing of his in it */
    judge(s, ak, BATCH, batch.evidence[BATCH - 1], &result);
    g_assert_false(result.quoted);
    g_assert_cmpint(result.verdict, !=, FORE_VERDICT_AFFIRMING);
    /* nor does he get in by adding himself to the list: the signed hash is another one */
    edited = json_deep_copy(batch.evidence[BATCH - 1]);
    foreign =
        json_deep_copy(json_array_get(json_object_get(batch.evidence[BATCH - 1], "batch"), 0));
    json_array_append(json_object_get(edited, "batch"), foreign);
    judge(s, ak, BATCH - 1, edited, &result);
    g_assert_false(result.quoted);
    g_assert_cmpstr(result.reasons[0], ==, "nonce-mismatch");
    for (unsigned i = 0; i < BATCH; i++) {
        json_decref(batch.evidence[i]);
    }
}

/* --- what is remembered --- */

/* Signing key and anchors in a TPM; the whole state folder put back as it was once. */
static void test_old_state(void)
{
    g_autofree char *config = NULL, *state = NULL, *old = NULL, *inside = NULL;
    g_autoptr(Stack) s = NULL;
    g_autoptr(json_t) first = NULL, second = NULL;
    uint64_t seq;

    {
        g_autoptr(Stack) probe = stack_new(NULL); /* to learn where the TPM is */
        config = g_strdup_printf("allow-software-tpm=true\nsigning-key=tpm\ntcti=%s",
                                 fore_test_swtpm_tcti(probe->host));
    }
    s = stack_new(config);
    state = g_build_filename(s->dir, "pam", NULL);
    old = g_build_filename(s->dir, "old", NULL);
    inside = g_build_filename(old, ".", NULL);
    stack_ready(s);
    first = run(s);
    seq = check_grant(s, first, 0);
    stack_stop_pam(s, true);
    copy_tree(state, old);
    stack_start_pam(s); /* as it was left: fine */
    second = run(s);
    g_assert_cmpuint(check_grant(s, second, seq), ==, seq + 1);
    stack_stop_pam(s, true);
    copy_tree(inside, state);
    {
        const char *argv[] = {stack_pam_program(), "--config", s->pam_conf, NULL};

        g_assert_cmpint(stack_run(argv, NULL), ==, 3);
    }
}

/* Nonces and sessions are good for whoever knows them: they stand in no log. */
static void test_secrets(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    g_autoptr(json_t) session = NULL, verdict = NULL;
    g_autofree char *audit = NULL, *audit_path = NULL;
    GString *log = g_string_new(NULL);

    stack_ready(s);
    session = begin(s);
    verdict = finish(s, session, json_null());
    audit_path = g_build_filename(s->dir, "pam", "audit.log", NULL);
    g_assert_true(g_file_get_contents(audit_path, &audit, NULL, NULL));
    g_subprocess_send_signal(s->pam, SIGTERM);
    for (;;) {
        g_autofree char *line = g_data_input_stream_read_line(s->pam_log, NULL, NULL, NULL);
        if (line == NULL) {
            break;
        }
        g_string_append_printf(log, "%s\n", line);
    }
    g_string_append(log, audit);
    g_assert_null(strstr(log->str, text(session, "nonce")));
    g_assert_null(strstr(log->str, text(session, "session")));
    g_string_free(log, TRUE);
}

/* What a peer sends stands in a log as one line. */
static void test_log_lines(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    json_t *request = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) ret = NULL;

    stack_enroll_node(s);
    request = vm_arguments(s, s->vm, fore_test_swtpm_tcti(s->guest));
    json_object_set_new(request, "name", json_string("x\n** Message: grant for everybody"));
    ret = fore_client_call(s->agent, "enroll-vm", request, CALL_MS, &error);
    g_assert_null(ret);
    g_subprocess_send_signal(s->pam, SIGTERM);
    for (;;) {
        g_autofree char *line = g_data_input_stream_read_line(s->pam_log, NULL, NULL, NULL);
        if (line == NULL) {
            break;
        }
        g_assert_false(g_str_has_prefix(line, "** Message: grant"));
    }
}

/* A certificate that is left out is no way past it. */
static void test_no_certificate(void)
{
    g_autoptr(Stack) s = stack_new(NULL);
    json_t *request;

    stack_enroll_node(s);
    stack_enroll_vm(s);
    request = vm_arguments(s, s->vm, fore_test_swtpm_tcti(s->guest));
    json_object_set_new(json_object_get(request, "info"), "ek-certificate", json_null());
    must_fail(s->agent, "enroll-vm", request, FORE_ERROR_UNTRUSTED);
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
    g_test_add_func("/attest/attack/30-agent-cannot-ask-for-anothers-vm", test_other_agent);
    g_test_add_func("/attest/attack/48-agent-enrols-no-vm-on-anothers-host", test_other_host);
    g_test_add_func("/attest/attack/103-enrolments-of-one-key-are-limited", test_enrolment_rate);
    g_test_add_func("/attest/attack/29-strangers-do-not-keep-pinned-peers-out", test_strangers);
    g_test_add_func("/attest/attack/23-batch-is-worth-nothing-to-others", test_batch);
    g_test_add_func("/attest/attack/105-old-copy-of-everything-stops-the-start", test_old_state);
    g_test_add_func("/attest/attack/31-no-nonce-and-no-session-in-a-log", test_secrets);
    g_test_add_func("/attest/attack/31-a-name-writes-no-line-of-a-log", test_log_lines);
    g_test_add_func("/attest/attack/34-certificate-cannot-be-left-out", test_no_certificate);
    code = g_test_run();
    stack_swtpms_done();
    return code;
}

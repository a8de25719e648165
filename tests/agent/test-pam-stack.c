/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/agent/test-pam-stack.h"

#include <glib/gstdio.h>
#include <openssl/pem.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#include "common/fore-bytes.h"
#include "vtpm/attest/fore-jws.h"
#include "vtpm/attest/fore-pathway.h"
#include "vtpm/tpm/fore-tpm.h"

static ForeTestSwtpm *host_tpm, *guest_tpm;
static char *pristine; /* folder with both states as manufactured */

void copy_tree(const char *from, const char *to)
{
    const char *argv[] = {"/bin/cp", "-a", "--remove-destination", from, to, NULL};

    g_assert_cmpint(stack_run(argv, NULL), ==, 0);
}

static char *pristine_of(const char *name)
{
    return g_build_filename(pristine, name, NULL);
}

static ForeTestSwtpm *make_tpm(const char *name)
{
    g_autofree char *copy = pristine_of(name);
    ForeTestSwtpm *tpm = fore_test_swtpm_new();

    fore_test_swtpm_stop(tpm);
    copy_tree(fore_test_swtpm_state_dir(tpm), copy);
    return tpm;
}

/* As manufactured: fresh PCRs and counters, and no dictionary-attack lockout, which TPMs that lose
 * their power a few times in a row fall into. */
static void renew(ForeTestSwtpm *tpm, const char *name)
{
    g_autofree char *copy = pristine_of(name);
    g_autofree char *inside = g_strconcat(copy, "/.", NULL);

    fore_test_swtpm_stop(tpm);
    copy_tree(inside, fore_test_swtpm_state_dir(tpm));
    fore_test_swtpm_restart(tpm);
}

const char *stack_missing(void)
{
    const char *missing = fore_test_swtpm_missing();

    if (missing == NULL && host_tpm == NULL) {
        pristine = g_dir_make_tmp("foresee-pristine-XXXXXX", NULL);
        host_tpm = make_tpm("host");
        guest_tpm = make_tpm("guest");
    }
    return missing;
}

void stack_swtpms_done(void)
{
    g_clear_pointer(&host_tpm, fore_test_swtpm_free);
    g_clear_pointer(&guest_tpm, fore_test_swtpm_free);
    fore_test_remove_tree(pristine);
    g_clear_pointer(&pristine, g_free);
}

const char *stack_pam_program(void)
{
    const char *path = g_getenv("FORE_PAM");

    g_assert_nonnull(path); /* run by 'meson test', which sets it */
    return path;
}

const char *stack_attester_program(void)
{
    const char *path = g_getenv("FORE_ATTESTER");

    g_assert_nonnull(path);
    return path;
}

/* --- processes --- */

/* A test that aborts takes its processes along. */
static void die_with_parent(gpointer data)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static GSubprocess *spawn(const char *program, const char *conf, GDataInputStream **ret_log)
{
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDERR_PIPE);
    g_autoptr(GError) error = NULL;
    GSubprocess *process;

    g_subprocess_launcher_set_child_setup(launcher, die_with_parent, NULL, NULL);
    process = g_subprocess_launcher_spawn(launcher, &error, program, "--config", conf, NULL);
    g_assert_no_error(error);
    *ret_log = g_data_input_stream_new(g_subprocess_get_stderr_pipe(process));
    return process;
}

/* Its own log says when it serves: no clock is asked. */
static void await_listening(GDataInputStream *log)
{
    for (;;) {
        g_autoptr(GError) error = NULL;
        g_autofree char *line = g_data_input_stream_read_line(log, NULL, NULL, &error);

        g_assert_no_error(error);
        g_assert_nonnull(line); /* it ended instead */
        g_test_message("%s", line);
        if (strstr(line, "listening on") != NULL) {
            return;
        }
    }
}

static void end(GSubprocess **process, GDataInputStream **log, bool check_clean_exit)
{
    if (*process == NULL) {
        return;
    }
    g_subprocess_send_signal(*process, SIGCONT);
    g_subprocess_send_signal(*process, SIGTERM);
    g_assert_true(g_subprocess_wait(*process, NULL, NULL));
    if (check_clean_exit) {
        g_assert_true(g_subprocess_get_if_exited(*process));
        g_assert_cmpint(g_subprocess_get_exit_status(*process), ==, 0);
    }
    g_clear_object(log);
    g_clear_object(process);
}

int stack_run(const char *const *argv, char **ret_out)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GSubprocess) process = g_subprocess_newv(
        argv, G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE, &error);
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;

    g_assert_no_error(error);
    g_assert_true(g_subprocess_communicate_utf8(process, NULL, NULL, &out, &err, &error));
    if (ret_out != NULL) {
        *ret_out = g_strdup(g_strchomp(out));
    }
    return g_subprocess_get_if_exited(process) ? g_subprocess_get_exit_status(process) : -1;
}

static char *print_pin(const char *program, const char *conf)
{
    const char *argv[] = {program, "--config", conf, "--print-pin", NULL};
    char *pin = NULL;

    g_assert_cmpint(stack_run(argv, &pin), ==, 0);
    g_assert_cmpuint(strlen(pin), ==, FORE_PIN_HEX);
    return pin;
}

/* --- configuration --- */

static void write_file(const char *path, char *text)
{
    g_autofree char *owned = text;
    g_autoptr(GError) error = NULL;

    g_file_set_contents(path, owned, -1, &error);
    g_assert_no_error(error);
}

void stack_write_pam_conf(Stack *s, const char *hardware_ca, const char *vtpm_ca)
{
    g_autofree char *policy = g_build_filename(s->dir, "policy.pub", NULL);

    g_assert_true(fore_key_save_public(fore_identity_key(s->policy_id), policy, NULL));
    write_file(
        s->pam_conf,
        g_strdup_printf(
            "[pam]\nlisten=%s\nstate-dir=%s/pam\nagent-pins=%s;%s\n"
            "operator-pins=%s\nhardware-ca=%s\nvtpm-ca=%s\npolicy-key=%s\n"
            "vm-pcrs=0,1,8\nnode-pcrs=0,1,7\nrequire-crl=false\n%s%s\n",
            s->pam_address, s->dir, fore_identity_pin(s->agent_id), fore_identity_pin(s->agent2_id),
            fore_identity_pin(s->operator_id), hardware_ca, vtpm_ca, policy,
            strstr(s->extra_config, "signing-key=") == NULL ? "insecure-software-key=true\n" : "",
            s->extra_config));
}

static void write_attester_conf(Stack *s, const char *tcti)
{
    write_file(s->attester_conf,
               g_strdup_printf("[attester]\nid=hv1\nrole=hypervisor\nlisten=%s\ntcti=%s\n"
                               "pam-pin=%s\nstate-dir=%s/attester\n",
                               s->attester_address, tcti, s->pam_pin, s->dir));
}

void stack_start_pam(Stack *s)
{
    g_autoptr(GError) error = NULL;

    s->pam = spawn(stack_pam_program(), s->pam_conf, &s->pam_log);
    await_listening(s->pam_log);
    s->agent = stack_connect(s, s->agent_id, &error);
    g_assert_no_error(error);
    s->operator= stack_connect(s, s->operator_id, &error);
    g_assert_no_error(error);
}

void stack_stop_pam(Stack *s, bool check_clean_exit)
{
    g_clear_pointer(&s->agent, fore_client_free);
    g_clear_pointer(&s->operator, fore_client_free);
    end(&s->pam, &s->pam_log, check_clean_exit);
}

void stack_start_attester(Stack *s, const char *tcti)
{
    write_attester_conf(s, tcti);
    stack_start_attester_as_configured(s);
}

void stack_start_attester_as_configured(Stack *s)
{
    s->attester = spawn(stack_attester_program(), s->attester_conf, &s->attester_log);
    await_listening(s->attester_log);
}

void stack_stop_attester(Stack *s)
{
    end(&s->attester, &s->attester_log, true);
}

static ForeIdentity *make_identity(const char *name)
{
    g_autoptr(GError) error = NULL;
    ForeIdentity *identity = fore_identity_new(name, &error);

    g_assert_no_error(error);
    return identity;
}

Stack *stack_new(const char *extra_config)
{
    Stack *s = g_new0(Stack, 1);

    renew(host_tpm, "host");
    renew(guest_tpm, "guest");
    s->host = host_tpm;
    s->guest = guest_tpm;
    s->vm = fore_test_swtpm_uuid(guest_tpm);
    s->extra_config = extra_config != NULL ? extra_config : "allow-software-tpm=true";
    s->dir = g_dir_make_tmp("foresee-pam-XXXXXX", NULL);
    s->pam_address = g_strdup_printf("unix:%s/pam.sock", s->dir);
    s->attester_address = g_strdup_printf("unix:%s/attester.sock", s->dir);
    s->pam_conf = g_build_filename(s->dir, "pam.conf", NULL);
    s->attester_conf = g_build_filename(s->dir, "attester.conf", NULL);
    s->agent_id = make_identity("agent");
    s->agent2_id = make_identity("agent2");
    s->operator_id = make_identity("operator");
    s->policy_id = make_identity("policy");
    s->sea_id = make_identity("sea");
    s->values = fore_reference_new(0);
    stack_write_pam_conf(s, fore_test_swtpm_ca_file(s->host), fore_test_swtpm_ca_file(s->guest));
    s->pam_pin = print_pin(stack_pam_program(), s->pam_conf);
    write_attester_conf(s, fore_test_swtpm_tcti(s->host));
    s->attester_pin = print_pin(stack_attester_program(), s->attester_conf);
    stack_start_pam(s);
    stack_start_attester(s, fore_test_swtpm_tcti(s->host));
    return s;
}

void stack_free(Stack *s)
{
    stack_stop_pam(s, true);
    stack_stop_attester(s);
    fore_test_remove_tree(s->dir);
    fore_identity_free(s->agent_id);
    fore_identity_free(s->agent2_id);
    fore_identity_free(s->operator_id);
    fore_identity_free(s->policy_id);
    fore_identity_free(s->sea_id);
    fore_reference_free(s->values);
    g_free(s->dir);
    g_free(s->pam_address);
    g_free(s->attester_address);
    g_free(s->pam_conf);
    g_free(s->attester_conf);
    g_free(s->pam_pin);
    g_free(s->attester_pin);
    g_free(s);
}

/* --- calls --- */

ForeClient *stack_connect(Stack *s, ForeIdentity *identity, GError **error)
{
    const char *pins[] = {s->pam_pin, NULL};
    ForeChannelConfig channel = {
        .mode = FORE_CHANNEL_TLS_CLIENT, .identity = identity, .pins = pins};

    return fore_client_new(s->pam_address, &channel, CALL_MS, error);
}

json_t *must(ForeClient *client, const char *command, json_t *arguments)
{
    g_autoptr(GError) error = NULL;
    json_t *ret = fore_client_call(client, command, arguments, CALL_MS, &error);

    g_assert_no_error(error);
    g_assert_nonnull(ret);
    return ret;
}

void must_fail(ForeClient *client, const char *command, json_t *arguments, ForeErrorCode code)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) ret = fore_client_call(client, command, arguments, CALL_MS, &error);

    g_assert_null(ret);
    g_test_message("%s: %s", command, error->message);
    g_assert_error(error, FORE_ERROR, (int)code);
}

static const char *text_of(const json_t *object, const char *key)
{
    g_autoptr(GError) error = NULL;
    const char *text = NULL;

    fore_json_get_string(object, key, &text, &error);
    g_assert_no_error(error);
    return text;
}

json_t *node_arguments(Stack *s, const char *id)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "id", id, "role", "hypervisor", "address",
                     s->attester_address, "pin", s->attester_pin);
}

static ForeTpm *open_tpm(const char *tcti)
{
    g_autoptr(GError) error = NULL;
    ForeTpm *tpm = fore_tpm_open(tcti, &error);

    g_assert_no_error(error);
    return tpm;
}

json_t *vm_arguments(Stack *s, const char *vm, const char *tcti)
{
    g_autoptr(ForeTpm) tpm = open_tpm(tcti);
    g_autoptr(GBytes) ek = NULL, cert = NULL, ak = NULL, name = NULL;
    g_autofree char *hex = NULL;
    g_autoptr(GError) error = NULL;
    uint64_t seq = 0;

    fore_tpm_ek(tpm, &ek, &cert, &error);
    g_assert_no_error(error);
    fore_tpm_ak(tpm, &ak, &name, &error);
    g_assert_no_error(error);
    fore_tpm_counter(tpm, FORE_TPM_SEQ_INDEX, &seq, &error);
    g_assert_no_error(error);
    hex = fore_hex_encode(g_bytes_get_data(name, NULL), g_bytes_get_size(name));
    return json_pack("{s:s, s:s, s:[s], s:{s:s, s:o, s:o, s:o, s:s, s:s, s:I}}", "vm", vm, "name",
                     "web1", "pathway", "hv1", "info", "vm-uuid", vm, "ek-public",
                     fore_json_bytes(ek), "ek-certificate", fore_json_bytes(cert), "ak-public",
                     fore_json_bytes(ak), "ak-name", hex, "channel-pin",
                     fore_identity_pin(s->sea_id), "seq", (json_int_t)seq);
}

void stack_enroll_node(Stack *s)
{
    json_decref(must(s->operator, "enroll-node", node_arguments(s, "hv1")));
}

void stack_enroll_vm(Stack *s)
{
    const char *tcti = fore_test_swtpm_tcti(s->guest);
    g_autoptr(json_t) session = must(s->agent, "enroll-vm", vm_arguments(s, s->vm, tcti));
    g_autoptr(GBytes) blob = NULL, encrypted = NULL, secret = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(fore_json_get_bytes(session, "credential-blob", 1024, &blob, NULL));
    g_assert_true(fore_json_get_bytes(session, "encrypted-secret", 1024, &encrypted, NULL));
    {
        g_autoptr(ForeTpm) tpm = open_tpm(tcti);
        fore_tpm_activate(tpm, blob, encrypted, &secret, &error);
        g_assert_no_error(error);
    }
    json_decref(must(s->agent, "activate-vm",
                     json_pack("{s:s, s:o}", "session", text_of(session, "session"), "secret",
                               fore_json_bytes(secret))));
}

/* --- reference values --- */

void stack_learn(Stack *s, const char *kind, const char *id)
{
    g_autoptr(json_t) ret = must(s->operator, "learn", json_pack("{s:s}", kind, id));
    const char *text = text_of(ret, "reference");
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autofree char *so_far = fore_reference_format(s->values);
    GString *all = g_string_new(so_far);
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; lines[i] != NULL; i++) {
        if (g_str_has_prefix(lines[i], kind)) {
            g_string_append_printf(all, "%s\n", lines[i]);
        }
    }
    fore_reference_free(s->values);
    s->values = fore_reference_parse(all->str, all->len, &error);
    g_assert_no_error(error);
    g_string_free(all, TRUE);
}

/* Signed by the program itself, from the text, as an operator does it. */
void stack_set_reference(Stack *s)
{
    g_autofree char *text_path = g_build_filename(s->dir, "reference.txt", NULL);
    g_autofree char *jws_path = g_build_filename(s->dir, "reference.jws", NULL);
    g_autofree char *key_path = g_build_filename(s->dir, "policy.pem", NULL);
    g_autofree char *text = fore_reference_format(s->values);
    g_autofree char *jws = NULL;
    const char *argv[] = {stack_pam_program(),
                          "--sign-reference",
                          text_path,
                          "--key",
                          key_path,
                          "--out",
                          jws_path,
                          NULL};
    char *body = strchr(strchr(text, '\n') + 1, '\n');
    FILE *key = fopen(key_path, "w");

    g_assert_true(
        PEM_write_PrivateKey(key, fore_identity_key(s->policy_id), NULL, NULL, 0, NULL, NULL) == 1);
    fclose(key);
    g_chmod(key_path, 0600);
    write_file(text_path, g_strdup_printf("foresee-reference 1\nversion %" G_GUINT64_FORMAT "%s",
                                          ++s->version, body));
    g_assert_cmpint(stack_run(argv, NULL), ==, 0);
    g_assert_true(g_file_get_contents(jws_path, &jws, NULL, NULL));
    json_decref(
        must(s->operator, "set-reference", json_pack("{s:s}", "document", g_strchomp(jws))));
}

void stack_ready(Stack *s)
{
    g_autoptr(json_t) first = NULL;

    stack_enroll_node(s);
    stack_enroll_vm(s);
    first = run(s); /* no reference value yet: proves, affirms nothing */
    check_verdict(first, "none", "guest:no-reference");
    check_verdict(first, "none", "hv1:no-reference");
    g_assert_null(json_object_get(first, "grant"));
    stack_learn(s, "node", "hv1");
    stack_learn(s, "vm", s->vm);
    stack_set_reference(s);
}

/* --- runs --- */

/* The key whose grants the guest takes; a test may have set another. */
static const char *stack_pam_key(Stack *s)
{
    g_autofree char *path = g_build_filename(s->dir, "pam-key.pub", NULL);
    const char *argv[] = {stack_pam_program(), "--config", s->pam_conf, "--export-key", path, NULL};
    EVP_PKEY *key;

    if (s->pam_key[0] == '\0') {
        g_assert_cmpint(stack_run(argv, NULL), ==, 0);
        key = fore_key_load_public(path, NULL);
        fore_jws_key_id(key, s->pam_key);
        EVP_PKEY_free(key);
    }
    return s->pam_key;
}

json_t *guest_evidence(Stack *s, const char *tcti, const char *nonce64, uint32_t mask)
{
    g_autoptr(ForeTpm) tpm = open_tpm(tcti);
    g_autoptr(GBytes) nonce = fore_b64_decode(nonce64, FORE_NONCE_SIZE);
    ForeGuestSays says = {s->vm, fore_identity_pin(s->sea_id), stack_pam_key(s), 0};
    g_autoptr(GBytes) extra = NULL;
    g_autoptr(GBytes) attest = NULL, signature = NULL;
    g_autoptr(GError) error = NULL;
    uint8_t pcrs[FORE_TPM_PCRS][32];
    json_t *values = json_object();

    fore_tpm_counter(tpm, FORE_TPM_SEQ_INDEX, &says.seq, &error);
    g_assert_no_error(error);
    extra = fore_pathway_guest_extra(g_bytes_get_data(nonce, NULL), &says);
    fore_tpm_quote(tpm, extra, mask, &attest, &signature, &error);
    g_assert_no_error(error);
    fore_tpm_pcr_read(tpm, mask, pcrs, &error);
    g_assert_no_error(error);
    for (unsigned pcr = 0; pcr < FORE_TPM_PCRS; pcr++) {
        if ((mask >> pcr & 1u) != 0) {
            g_autofree char *key = g_strdup_printf("%u", pcr);
            g_autofree char *hex = fore_hex_encode(pcrs[pcr], 32);
            json_object_set_new(values, key, json_string(hex));
        }
    }
    return json_pack("{s:o, s:o, s:o, s:b, s:s, s:s, s:I}", "attest", fore_json_bytes(attest),
                     "signature", fore_json_bytes(signature), "pcrs", values, "software-tpm", 1,
                     "channel-pin", says.channel_pin, "pam-key", says.pam_key, "seq",
                     (json_int_t)says.seq);
}

json_t *begin(Stack *s)
{
    return must(s->agent, "begin", json_pack("{s:s}", "vm", s->vm));
}

json_t *finish(Stack *s, const json_t *session, json_t *evidence)
{
    return must(s->agent, "finish",
                json_pack("{s:s, s:o, s:s, s:i, s:I}", "session", text_of(session, "session"),
                          "evidence", evidence, "channel-pin", fore_identity_pin(s->sea_id),
                          "vcpus", 4, "memory-bytes", (json_int_t)1 << 30));
}

json_t *run(Stack *s)
{
    g_autoptr(json_t) session = begin(s);
    int64_t mask = 0;

    g_assert_true(fore_json_get_int(session, "pcr-mask", 1, 0xffff, &mask, NULL));
    g_assert_cmphex(mask, ==, GUEST_PCRS);
    return finish(s, session,
                  guest_evidence(s, fore_test_swtpm_tcti(s->guest), text_of(session, "nonce"),
                                 (uint32_t)mask));
}

void check_verdict(const json_t *answer, const char *verdict, const char *reason)
{
    g_autofree char *text = fore_json_dump_line(json_object_get(answer, "nodes"));
    g_autofree char *quoted = reason != NULL ? g_strdup_printf("\"%s\"", reason) : NULL;

    g_test_message("%s %s", text_of(answer, "verdict"), text);
    g_assert_cmpstr(text_of(answer, "verdict"), ==, verdict);
    if (reason != NULL) {
        g_assert_nonnull(strstr(text, quoted));
    } else {
        g_assert_null(strstr(text, "\"reasons\":[\""));
    }
    if (strcmp(verdict, "affirming") != 0) {
        g_assert_null(json_object_get(answer, "grant"));
    }
}

uint64_t check_grant(Stack *s, const json_t *answer, uint64_t last_seq)
{
    g_autofree char *path = g_build_filename(s->dir, "grant.pub", NULL);
    const char *argv[] = {stack_pam_program(), "--config", s->pam_conf, "--export-key", path, NULL};
    EVP_PKEY *key = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) nodes = must(s->agent, "query-nodes", NULL);
    const char *ak = text_of(json_array_get(json_object_get(nodes, "vms"), 0), "ak-name");
    ForeGrantExpect expect = {.vm_uuid = s->vm, .ak_name = ak, .last_seq = last_seq};
    ForeGrant grant;

    g_assert_cmpint(stack_run(argv, NULL), ==, 0);
    key = fore_key_load_public(path, &error);
    g_assert_no_error(error);
    expect.pam_key = key;
    expect.now_s = g_get_real_time() / G_USEC_PER_SEC;
    g_assert_cmpstr(
        fore_grant_reason_name(fore_grant_verify(text_of(answer, "grant"), &expect, &grant)), ==,
        "ok");
    EVP_PKEY_free(key);
    g_assert_cmpuint(grant.vcpus, ==, 4);
    g_assert_cmpuint(grant.mem_bytes, ==, (uint64_t)1 << 30);
    g_assert_cmpuint(grant.n_nodes, ==, 1);
    g_assert_cmpstr(grant.nodes[0], ==, "hv1");
    return grant.seq;
}

void extend(const char *tcti, unsigned pcr)
{
    g_autoptr(ForeTpm) tpm = open_tpm(tcti);
    static const uint8_t digest[32] = {0xbe, 0xef};

    g_assert_true(fore_tpm_pcr_extend(tpm, pcr, digest, NULL));
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What foresee-pam says about evidence, honest and not. */
#include <signal.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "tests/agent/test-pam-stack.h"
#include "vtpm/attest/fore-jws.h"
#include "vtpm/tpm/fore-tpm.h"

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));

    g_assert_nonnull(value);
    return value;
}

static Stack *ready(void)
{
    Stack *s = stack_new(NULL);

    stack_ready(s);
    return s;
}

static json_t *honest(Stack *s, const json_t *session)
{
    return guest_evidence(s, fore_test_swtpm_tcti(s->guest), text(session, "nonce"), GUEST_PCRS);
}

static void test_affirming(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) first = run(s);
    g_autoptr(json_t) second = run(s);
    g_autoptr(json_t) nodes = must(s->operator, "query-nodes", NULL);
    uint64_t seq;

    check_verdict(first, "affirming", NULL);
    check_verdict(second, "affirming", NULL);
    seq = check_grant(s, first, 0);
    g_assert_cmpuint(check_grant(s, second, seq), ==, seq + 1);
    g_assert_cmpstr(text(json_array_get(json_object_get(nodes, "nodes"), 0), "state"), ==,
                    "affirming");
}

static void test_ear(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) answer = run(s);
    g_autoptr(json_t) claims = NULL;
    g_autofree char *path = g_build_filename(s->dir, "grant.pub", NULL);
    EVP_PKEY *key;
    json_t *modules;

    check_grant(s, answer, 0);
    key = fore_key_load_public(path, NULL);
    g_assert_cmpint(fore_jws_verify(text(answer, "ear"), 65536, "JWT", key, &claims), ==,
                    FORE_JWS_OK);
    EVP_PKEY_free(key);
    modules = json_object_get(claims, "submods");
    g_assert_cmpuint(json_object_size(modules), ==, 2);
    g_assert_cmpstr(text(json_object_get(modules, "hv1"), "ear.status"), ==, "affirming");
    g_assert_cmpstr(text(json_object_get(modules, s->vm), "ear.status"), ==, "affirming");
    g_assert_true(
        json_is_true(json_object_get(json_object_get(modules, "hv1"), "foresee.software-tpm")));
}

/* The SEA's own counter leads when it is ahead of what this PAM issued. */
static void test_sequence(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) first = run(s);
    uint64_t seq = check_grant(s, first, 0);
    g_autoptr(json_t) next = NULL, session = NULL, far = NULL, evidence = NULL;

    {
        g_autoptr(ForeTpm) tpm = fore_tpm_open(fore_test_swtpm_tcti(s->guest), NULL);
        g_assert_true(fore_tpm_counter_raise(tpm, FORE_TPM_SEQ_INDEX, seq + 5, NULL));
    }
    next = run(s);
    g_assert_cmpuint(check_grant(s, next, seq + 5), ==, seq + 6);
    session = begin(s);
    evidence = honest(s, session);
    json_object_set_new(evidence, "seq", json_integer((json_int_t)(seq + 1000000)));
    far = finish(s, session, json_incref(evidence));
    /* the quote signs the counter, so another one is a disproof */
    check_verdict(far, "contraindicated", "guest:nonce-mismatch");
}

static void test_verdict_only(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) session = begin(s);
    g_autoptr(json_t) only =
        must(s->agent, "finish",
             json_pack("{s:s, s:o, s:s}", "session", text(session, "session"), "evidence",
                       honest(s, session), "channel-pin", fore_identity_pin(s->sea_id)));
    g_autoptr(json_t) next = run(s);

    check_verdict(only, "affirming", NULL);
    g_assert_null(json_object_get(only, "grant"));
    check_grant(s, next, 0);
}

static void test_wrong_nonce(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) session = begin(s);
    uint8_t own[32] = {7};
    g_autofree char *nonce = fore_b64_encode(own, sizeof(own));
    g_autoptr(json_t) answer =
        finish(s, session, guest_evidence(s, fore_test_swtpm_tcti(s->guest), nonce, GUEST_PCRS));

    check_verdict(answer, "contraindicated", "guest:nonce-mismatch");
}

static void test_replay(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) first = begin(s);
    g_autoptr(json_t) evidence = honest(s, first);
    g_autoptr(json_t) good = finish(s, first, json_incref(evidence));
    g_autoptr(json_t) second = begin(s);
    g_autoptr(json_t) replayed = finish(s, second, json_incref(evidence));

    check_verdict(good, "affirming", NULL);
    check_verdict(replayed, "contraindicated", "guest:nonce-mismatch");
}

static void test_used_session(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) session = begin(s);
    g_autoptr(json_t) evidence = honest(s, session);

    json_decref(finish(s, session, json_incref(evidence)));
    must_fail(s->agent, "finish",
              json_pack("{s:s, s:O, s:s}", "session", text(session, "session"), "evidence",
                        evidence, "channel-pin", fore_identity_pin(s->sea_id)),
              FORE_ERROR_NOT_FOUND);
}

static void test_spliced(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) a = begin(s);
    g_autoptr(json_t) b = begin(s);
    g_autoptr(json_t) crossed = finish(s, a, honest(s, b));

    g_assert_cmpstr(text(a, "nonce"), !=, text(b, "nonce"));
    check_verdict(crossed, "contraindicated", "guest:nonce-mismatch");
}

/* Overlapping runs of one pathway: the later one may end first. */
static void test_overlap(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) a = begin(s);
    g_autoptr(json_t) b = begin(s);
    json_t *evidence_a = honest(s, a), *evidence_b = honest(s, b);
    g_autoptr(json_t) second = finish(s, b, evidence_b);
    g_autoptr(json_t) first = finish(s, a, evidence_a);

    check_verdict(second, "affirming", NULL);
    check_verdict(first, "affirming", NULL);
}

static void test_guest_pcr(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) before = run(s);
    g_autoptr(json_t) tampered = NULL, still = NULL, after = NULL, nodes = NULL;

    check_verdict(before, "affirming", NULL);
    extend(fore_test_swtpm_tcti(s->guest), 8);
    tampered = run(s);
    check_verdict(tampered, "contraindicated", "guest:pcr-value-mismatch");
    check_verdict(tampered, "contraindicated", "guest:pcr-8");
    /* a reboot brings the right values back: the failure stands until somebody looked at it */
    fore_test_swtpm_restart(s->guest);
    still = run(s);
    check_verdict(still, "contraindicated", "guest:sticky-failure");
    nodes = must(s->agent, "query-nodes", NULL);
    g_assert_cmpstr(text(json_array_get(json_object_get(nodes, "vms"), 0), "state"), ==, "failed");
    must_fail(s->agent, "release", json_pack("{s:s}", "id", s->vm), FORE_ERROR_UNTRUSTED);
    json_decref(must(s->operator, "release", json_pack("{s:s}", "id", s->vm)));
    after = run(s);
    check_verdict(after, "affirming", NULL);
}

static void test_host_pcr(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) tampered = NULL;

    extend(fore_test_swtpm_tcti(s->host), 7);
    tampered = run(s);
    check_verdict(tampered, "contraindicated", "hv1:pcr-value-mismatch");
}

static void test_sticky_survives(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) first = run(s);
    uint64_t seq = check_grant(s, first, 0);
    g_autoptr(json_t) tampered = NULL, later = NULL, released = NULL;

    extend(fore_test_swtpm_tcti(s->guest), 1);
    tampered = run(s);
    check_verdict(tampered, "contraindicated", "guest:pcr-value-mismatch");
    fore_test_swtpm_restart(s->guest);
    stack_stop_pam(s, true);
    stack_start_pam(s);
    later = run(s);
    check_verdict(later, "contraindicated", "guest:sticky-failure");
    json_decref(must(s->operator, "release", json_pack("{s:s}", "id", s->vm)));
    released = run(s);
    /* neither reference values nor the last grant's number were forgotten */
    g_assert_cmpuint(check_grant(s, released, seq), ==, seq + 1);
}

static void test_other_tpm(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(ForeTestSwtpm) other = fore_test_swtpm_new();
    g_autoptr(json_t) session = begin(s);
    g_autoptr(json_t) answer =
        finish(s, session,
               guest_evidence(s, fore_test_swtpm_tcti(other), text(session, "nonce"), GUEST_PCRS));

    check_verdict(answer, "contraindicated", "guest:bad-signature");
}

/* The node's attester speaks with another TPM than the enrolled one. */
static void test_other_host_tpm(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(ForeTestSwtpm) other = fore_test_swtpm_new();
    g_autoptr(json_t) answer = NULL;

    stack_stop_attester(s);
    stack_start_attester(s, fore_test_swtpm_tcti(other));
    answer = run(s);
    check_verdict(answer, "contraindicated", "hv1:bad-signature");
}

static void test_channel(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) session = begin(s);
    g_autoptr(json_t) answer =
        must(s->agent, "finish",
             json_pack("{s:s, s:o, s:s, s:i, s:i}", "session", text(session, "session"), "evidence",
                       honest(s, session), "channel-pin", fore_identity_pin(s->agent_id), "vcpus",
                       2, "memory-bytes", 1 << 20));

    check_verdict(answer, "contraindicated", "guest:channel-mismatch");
}

static void test_edited_pcr(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) session = begin(s);
    g_autoptr(json_t) evidence = honest(s, session);
    g_autoptr(json_t) answer = NULL;
    json_t *pcrs = json_object_get(evidence, "pcrs");
    g_autofree char *zeros = g_strnfill(64, '0');

    g_assert_cmpstr(text(pcrs, "8"), ==, zeros);
    zeros[0] = '1';
    json_object_set_new(pcrs, "8", json_string(zeros));
    answer = finish(s, session, json_incref(evidence));
    check_verdict(answer, "contraindicated", "guest:pcr-digest-mismatch");
}

/* More, fewer or other PCRs than were asked for. */
static void test_other_pcrs(void)
{
    static const uint32_t masks[] = {0x0003, 0x0107, 0x0203};
    g_autoptr(Stack) s = ready();

    for (unsigned i = 0; i < G_N_ELEMENTS(masks); i++) {
        g_autoptr(json_t) session = begin(s);
        g_autoptr(json_t) answer = finish(
            s, session,
            guest_evidence(s, fore_test_swtpm_tcti(s->guest), text(session, "nonce"), masks[i]));
        check_verdict(answer, "none", "guest:malformed");
    }
}

static void test_silent_guest(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) session = begin(s);
    g_autoptr(json_t) silent =
        must(s->agent, "finish",
             json_pack("{s:s, s:n, s:s, s:i, s:i}", "session", text(session, "session"), "evidence",
                       "channel-pin", "", "vcpus", 2, "memory-bytes", 1 << 20));
    g_autoptr(json_t) after = run(s);

    check_verdict(silent, "none", "guest:silent");
    check_verdict(after, "affirming", NULL); /* silence is no failure that sticks */
}

static void test_killed_attester(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) without = NULL, with = NULL;

    stack_stop_attester(s);
    without = run(s);
    check_verdict(without, "none", "hv1:unreachable");
    stack_start_attester(s, fore_test_swtpm_tcti(s->host));
    with = run(s);
    check_verdict(with, "affirming", NULL);
}

static void test_stopped_attester(void)
{
    g_autoptr(Stack) s = stack_new("allow-software-tpm=true\ndeadline-ms=700");
    g_autoptr(json_t) without = NULL, with = NULL;
    gint64 begun;

    stack_ready(s);
    g_subprocess_send_signal(s->attester, SIGSTOP);
    begun = g_get_monotonic_time();
    without = run(s);
    check_verdict(without, "none", "hv1:silent");
    /* the deadline, and not some longer time-out below it */
    g_assert_cmpint((g_get_monotonic_time() - begun) / 1000, <, 5000);
    g_subprocess_send_signal(s->attester, SIGCONT);
    with = run(s);
    check_verdict(with, "affirming", NULL);
}

/* An old copy of the vTPM's state: same keys, but its counters lie behind what was seen. */
static void test_rollback(void)
{
    g_autoptr(Stack) s = ready();
    g_autofree char *old = g_build_filename(s->dir, "old-state", NULL);
    g_autofree char *inside = g_strconcat(old, "/.", NULL);
    g_autoptr(json_t) rolled_back = NULL;

    fore_test_swtpm_stop(s->guest);
    copy_tree(fore_test_swtpm_state_dir(s->guest), old);
    for (unsigned i = 0; i < 2; i++) {
        /* each boot is used: an emulator keeps the count of an empty one in memory only */
        g_autoptr(json_t) booted = NULL;

        fore_test_swtpm_restart(s->guest);
        booted = run(s);
        check_verdict(booted, "affirming", NULL); /* reboots alone are fine */
    }
    fore_test_swtpm_stop(s->guest);
    copy_tree(inside, fore_test_swtpm_state_dir(s->guest));
    fore_test_swtpm_restart(s->guest);
    rolled_back = run(s);
    check_verdict(rolled_back, "contraindicated", "guest:clock-backwards");
}

static void test_garbage(void)
{
    static const char *const bad[] = {
        "7",
        "[]",
        "{}",
        "{\"attest\":\"////\",\"signature\":\"AAAA\",\"pcrs\":{},\"software-tpm\":true}",
        "{\"attest\":[1],\"signature\":{},\"pcrs\":7,\"software-tpm\":null,\"channel-pin\":[]}",
    };
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) after = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(json_t) session = begin(s);
        g_autoptr(json_t) answer = finish(s, session, json_loads(bad[i], JSON_DECODE_ANY, NULL));
        check_verdict(answer, "none", "guest:malformed");
    }
    after = run(s);
    check_verdict(after, "affirming", NULL);
}

static void test_empty_reference(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(json_t) good = run(s);
    g_autoptr(json_t) empty = NULL;

    check_verdict(good, "affirming", NULL);
    fore_reference_free(s->values);
    s->values = fore_reference_new(0);
    stack_set_reference(s);
    empty = run(s);
    check_verdict(empty, "none", "guest:no-reference");
    check_verdict(empty, "none", "hv1:no-reference");
}

static void test_reference_rollback(void)
{
    g_autoptr(Stack) s = ready();
    g_autoptr(ForeReference) old = fore_reference_new(0);
    g_autoptr(ForeReference) other = fore_reference_new(99);
    g_autoptr(ForeReference) same_version = fore_reference_new(1);
    EVP_PKEY *policy = fore_identity_key(s->policy_id);
    g_autofree char *old_jws = fore_reference_sign(old, policy, NULL);
    g_autofree char *same_jws = fore_reference_sign(same_version, policy, NULL);
    g_autofree char *other_jws = fore_reference_sign(other, fore_identity_key(s->agent_id), NULL);
    g_autoptr(json_t) after = NULL;

    must_fail(s->operator, "set-reference", json_pack("{s:s}", "document", old_jws),
              FORE_ERROR_UNTRUSTED);
    must_fail(s->operator, "set-reference", json_pack("{s:s}", "document", same_jws),
              FORE_ERROR_UNTRUSTED);
    must_fail(s->operator, "set-reference", json_pack("{s:s}", "document", other_jws),
              FORE_ERROR_UNTRUSTED);
    must_fail(s->operator, "set-reference", json_pack("{s:s}", "document", "x.y.z"),
              FORE_ERROR_UNTRUSTED);
    after = run(s);
    check_verdict(after, "affirming", NULL);
}

#define ADD(claim, fn) g_test_add_func("/pam/verdict/" claim, fn)
/* A line of the list of attacks, by its number. */
#define ATTACK(claim, fn) g_test_add_func("/attest/attack/" claim, fn)

static void add_honest(void)
{
    ADD("whole-pathway-affirms-and-grants", test_affirming);
    ADD("ear-carries-one-submodule-a-node", test_ear);
    ADD("grant-number-follows-the-counter-of-the-sea", test_sequence);
    ADD("verdict-without-amounts-uses-no-number", test_verdict_only);
    ADD("overlapping-runs-do-not-disturb-each-other", test_overlap);
    ATTACK("25-silent-guest-is-none", test_silent_guest);
    ATTACK("25-killed-attester-is-none", test_killed_attester);
    ATTACK("25-stopped-attester-is-none-within-the-deadline", test_stopped_attester);
}

static void add_attacks(void)
{
    ATTACK("10-wrong-nonce-is-refused", test_wrong_nonce);
    ATTACK("21-replayed-evidence-is-refused", test_replay);
    ATTACK("24-used-session-is-gone", test_used_session);
    ATTACK("23-evidence-of-another-session-is-refused", test_spliced);
    ATTACK("102-guest-pcr-fails-and-sticks-until-released", test_guest_pcr);
    ADD("host-pcr-fails-the-guest", test_host_pcr);
    ATTACK("102-failure-and-number-survive-a-restart", test_sticky_survives);
    ATTACK("18-quote-of-another-tpm-is-refused", test_other_tpm);
    ATTACK("49-attester-with-another-tpm-is-refused", test_other_host_tpm);
    ATTACK("49-evidence-of-another-channel-is-refused", test_channel);
    ATTACK("10-edited-pcr-value-is-refused", test_edited_pcr);
    ATTACK("5-other-pcrs-than-asked-are-refused", test_other_pcrs);
    ATTACK("88-rolled-back-vtpm-is-refused", test_rollback);
    ATTACK("26-garbage-is-none", test_garbage);
    ATTACK("62-empty-reference-accepts-nothing", test_empty_reference);
    ATTACK("99-older-or-foreign-reference-is-refused", test_reference_rollback);
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
    add_honest();
    add_attacks();
    code = g_test_run();
    stack_swtpms_done();
    return code;
}

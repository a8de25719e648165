/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Judging is pure and at once; what it found is kept before it is told: a failure is
 * on disk before it leaves, and so is a grant's number.  Then a token or TPM signs, in its own
 * thread, and the answer follows.  A key that does not sign means no answer but an error: there is
 * no other key to fall back to.
 *
 * Which key signs is the guest's word, which its quote signs: the newest that it takes grants of.
 * While the keys change, a grant by the present key names the next one, and whoever knows that one
 * gets grants by it.
 */
#include <string.h>

#include "common/fore-bytes.h"
#include "vtpm/attest/fore-grant.h"
#include "vtpm/attest/fore-jws.h"
#include "vtpm/host/fore-keyfile.h"
#include "vtpm/pam/fore-pam-run.h"

#define SEQ_GAP_MAX 1000 /* a SEA raises its counter by at most 1024 at once */
#define SIGN_MS     5000

typedef ForeRunNode Node;
typedef ForeRunFinish Finish;

static const ForeSubjectRules *rules_of(const ForePamRun *run, const Node *node)
{
    return fore_rules_of(run->pam->rules,
                         node->role == FORE_ROLE_GUEST ? FORE_SUBJECT_VM : FORE_SUBJECT_NODE,
                         node->id);
}

static GBytes *log_bytes(const ForeRunLog *log)
{
    return log->bytes != NULL ? g_bytes_new(log->bytes->data, log->bytes->len) : NULL;
}

/* What the guest's policy wants of its host. */
static ForeNodeLaunch launch_of(const ForePamRun *run, GBytes *log)
{
    const ForeRecord *vm = fore_inventory_find(run->pam->inventory, run->guest.id);
    const ForeSubjectRules *rules = rules_of(run, &run->guest);
    ForeNodeLaunch launch = {.vm = run->guest.id,
                             .log = log,
                             .allowed = rules->launches,
                             .n_allowed = rules->n_launches};

    if (vm != NULL) {
        g_assert(EVP_Digest(g_bytes_get_data(vm->ek_public, NULL), g_bytes_get_size(vm->ek_public),
                            launch.vtpm, NULL, EVP_sha256(), NULL) == 1);
    }
    return launch;
}

static void judge_node(ForePamRun *run, const Node *node, const json_t *evidence, GBytes *extra,
                       const char *channel_pin, ForeNodeResult *ret)
{
    ForePam *pam = run->pam;
    ForeRecord *record = fore_inventory_find(pam->inventory, node->id);
    /* forgotten, or enrolled anew with other keys, while the run was open */
    bool same = record != NULL && node->ak_public != NULL &&
                g_bytes_equal(record->ak_public, node->ak_public);
    const ForeSubjectRules *rules = rules_of(run, node);
    g_autoptr(GBytes) firmware = log_bytes(&node->logs[FORE_RUN_FIRMWARE]);
    g_autoptr(GBytes) ima = log_bytes(&node->logs[FORE_RUN_IMA]);
    g_autoptr(GBytes) launches = log_bytes(&node->logs[FORE_RUN_LAUNCH]);
    ForeNodeLaunch launch = launch_of(run, launches);
    ForeNodeLogs logs = {
        .rules = rules,
        .snp_roots = pam->snp_roots,
        .now_s = g_get_real_time() / G_USEC_PER_SEC,
        .firmware = firmware,
        .ima = {ima, node->logs[FORE_RUN_IMA].from},
        .ima_state = same ? record->ima_state : NULL,
        .newest = same && record->has_clock ? &record->clock : NULL,
    };
    ForeNodeExpect expect = {
        .id = node->id,
        .role = node->role,
        .ak_public = same ? node->ak_public : NULL,
        .extra = extra,
        .pcr_mask = node->mask,
        .last = node->has_last ? &node->last : NULL,
        .reference = pam->reference,
        .channel_pin = channel_pin,
        /* a vTPM is software by nature; its host answers for it */
        .allow_software_tpm = node->role == FORE_ROLE_GUEST || pam->config->allow_software_tpm,
        .absent = node->absent,
        .sticky = same && record->sticky[0] != '\0' ? record->sticky : NULL,
        .revoked = same && fore_inventory_is_revoked(pam->inventory, record),
        .judge = rules->judged ? fore_node_judge : NULL,
        .judge_data = &logs,
        .also = node->logs[FORE_RUN_LAUNCH].wanted ? fore_node_judge_launch : NULL,
        .also_data = &launch,
    };

    fore_pathway_judge(&expect, evidence, ret);
}

/* The SEA's counter must be within reach of what was issued: a far one would lock the VM out of
 * grants. */
static void judge_sequence(const ForeGuestSays *says, const ForeRecord *vm, ForeNodeResult *ret)
{
    if (says->seq > vm->seq + SEQ_GAP_MAX) {
        fore_node_result_add(ret, FORE_VERDICT_NONE, fore_node_reason_name(FORE_NODE_SEQUENCE));
    }
}

/* The key that the guest takes grants of; NULL: none of ours. */
static ForeKey *key_for(const ForePam *pam, const char *id)
{
    ForeKey *const known[] = {pam->keys->signing, pam->keys->next};

    for (unsigned i = 0; i < G_N_ELEMENTS(known); i++) {
        if (known[i] != NULL && strcmp(fore_key_id(known[i]), id) == 0) {
            return known[i];
        }
    }
    return NULL;
}

static void judge_pathway(const ForePamRun *run, const ForeRecord *vm, ForeNodeResult *ret)
{
    const ForeSubjectRules *rules = rules_of(run, &run->guest);

    if (rules->pathway != NULL &&
        !g_strv_equal((const char *const *)rules->pathway, (const char *const *)vm->pathway)) {
        fore_node_result_add(ret, FORE_VERDICT_NONE, fore_node_reason_name(FORE_NODE_PATHWAY));
    }
}

static void judge_guest(ForePamRun *run, const Finish *finish, ForeNodeResult *ret,
                        ForeGuestSays *ret_says)
{
    const ForeRecord *vm = fore_inventory_find(run->pam->inventory, run->guest.id);
    ForeGuestSays says = {run->guest.id, finish->channel_pin, "", 0};
    g_autoptr(GBytes) extra = NULL;
    int64_t seq = 0;
    bool told = finish->evidence == NULL ||
                (fore_json_get_int(finish->evidence, "seq", 0, INT64_MAX / 2, &seq, NULL) &&
                 fore_json_get_string(finish->evidence, "pam-key", &says.pam_key, NULL) &&
                 fore_keyfile_pin_is_valid(says.pam_key));

    says.seq = (uint64_t)seq;
    extra = fore_pathway_guest_extra(run->nonce, &says);
    judge_node(run, &run->guest, told ? finish->evidence : json_null(), extra, finish->channel_pin,
               ret);
    *ret_says = says;
    if (vm != NULL && ret->quoted) {
        judge_sequence(&says, vm, ret);
        judge_pathway(run, vm, ret);
        if (key_for(run->pam, says.pam_key) == NULL) {
            fore_node_result_add(ret, FORE_VERDICT_NONE, fore_node_reason_name(FORE_NODE_PAM_KEY));
        }
    }
}

/* Keeps what was found.  A failure that cannot be written still holds in memory. */
static void note_all(ForePam *pam, const ForePamRun *run, const ForeNodeResult *results, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ForeRecord *record = fore_inventory_find(pam->inventory, results[i].id);
        uint32_t mask = i < run->n_nodes ? run->nodes[i].mask : run->guest.mask;
        ForeChange change = {.what = "failed", .id = results[i].id, .peer = run->peer_pin};
        g_autoptr(GError) error = NULL;

        if (record == NULL || !fore_pam_note(record, &results[i], mask)) {
            continue;
        }
        change.detail = record->sticky;
        if (!fore_inventory_save(pam->inventory, &change, &error)) {
            g_warning("cannot record that '%s' failed: %s", record->id, error->message);
        }
    }
}

/* --- what goes out --- */

static json_t *nodes_to_json(const ForeNodeResult *results, size_t n)
{
    json_t *nodes = json_array();

    for (size_t i = 0; i < n; i++) {
        const ForeNodeResult *r = &results[i];
        json_t *reasons = json_array(), *details = json_array();

        for (unsigned k = 0; k < r->n_reasons; k++) {
            g_autofree char *reason = g_strdup_printf(
                "%s:%s", r->role == FORE_ROLE_GUEST ? "guest" : r->id, r->reasons[k]);
            json_array_append_new(reasons, json_string(reason));
            json_array_append_new(details, json_string(r->details[k]));
        }
        json_array_append_new(nodes,
                              json_pack("{s:s, s:s, s:s, s:b, s:o, s:o}", "id", r->id, "role",
                                        fore_role_names[r->role], "verdict",
                                        fore_verdict_names[r->verdict], "software-tpm",
                                        r->software_tpm, "reasons", reasons, "details", details));
    }
    return nodes;
}

/* Nothing that policy says may be older than this. */
static unsigned lifetime_s(const ForePamRun *run)
{
    unsigned age = run->pam->config->grant_lifetime_s;
    unsigned limit = rules_of(run, &run->guest)->max_age_s;

    age = limit > 0 ? MIN(age, limit) : age;
    for (unsigned i = 0; i < run->n_nodes; i++) {
        limit = rules_of(run, &run->nodes[i])->max_age_s;
        age = limit > 0 ? MIN(age, limit) : age;
    }
    return age;
}

static json_t *make_ear(ForePamRun *run, const ForeNodeResult *results, size_t n, int64_t now_s,
                        int64_t expires_s)
{
    ForePam *pam = run->pam;
    g_autofree char *policy = pam->reference != NULL
                                  ? g_strdup_printf("foresee-reference:%" G_GUINT64_FORMAT,
                                                    fore_reference_version(pam->reference))
                                  : g_strdup("none");
    ForeEarInput input = {
        .verifier = pam->config->name,
        .vm_uuid = run->guest.id,
        .policy_id = policy,
        .nonce = run->nonce,
        .issued_s = now_s,
        .expires_s = expires_s,
        .software_key = fore_key_kind_of(pam->keys->signing) == FORE_KEY_FILE,
    };

    return fore_pathway_ear(&input, results, n);
}

/* The guest knows only the present key: tell it the next one. */
static void name_next(const ForePam *pam, const ForeKey *signer, ForeGrant *grant)
{
    g_autoptr(GBytes) der = NULL;

    if (pam->keys->next != NULL && signer == pam->keys->signing) {
        der = fore_jws_key_der(fore_key_public(pam->keys->next));
        g_assert(g_bytes_get_size(der) <= sizeof(grant->next));
        grant->next_size = g_bytes_get_size(der);
        memcpy(grant->next, g_bytes_get_data(der, NULL), grant->next_size);
    }
}

static json_t *make_grant(ForePamRun *run, const Finish *finish, const ForeGuestSays *says,
                          const ForeNodeResult *results, size_t n, int64_t now_s, int64_t expires_s,
                          GError **error)
{
    ForePam *pam = run->pam;
    ForeRecord *vm = fore_inventory_find(pam->inventory, run->guest.id);
    ForeGrant grant = {.vcpus = (unsigned)finish->vcpus, .mem_bytes = (uint64_t)finish->mem_bytes};
    uint64_t before = vm->seq;
    g_autofree char *id = g_uuid_string_random();
    g_autofree char *detail = NULL;
    ForeChange change = {.what = "grant", .id = vm->id, .peer = run->peer_pin};

    vm->seq = MAX(vm->seq, says->seq) + 1;
    grant.seq = vm->seq;
    grant.issued_s = now_s;
    grant.expires_s = expires_s;
    g_strlcpy(grant.vm_uuid, vm->id, sizeof(grant.vm_uuid));
    g_strlcpy(grant.ak_name, vm->ak_name_hex, sizeof(grant.ak_name));
    g_strlcpy(grant.id, id, sizeof(grant.id));
    fore_pathway_evidence(results, n, grant.evidence);
    for (unsigned i = 0; i < run->n_nodes; i++) {
        g_strlcpy(grant.nodes[grant.n_nodes++], run->nodes[i].id, sizeof(grant.nodes[0]));
    }
    name_next(pam, key_for(pam, says->pam_key), &grant);
    detail = g_strdup_printf("seq %" G_GUINT64_FORMAT " vcpus %u memory %" G_GUINT64_FORMAT
                             " evidence %s",
                             grant.seq, grant.vcpus, grant.mem_bytes, grant.evidence);
    change.detail = detail;
    if (!fore_inventory_save(pam->inventory, &change, error)) {
        vm->seq = before;
        return NULL;
    }
    return fore_grant_claims(&grant, error);
}

/* --- signing --- */

static void on_signed(char *const *tokens, const GError *error, gpointer data)
{
    ForePamRun *run = data;
    json_t *answer = g_steal_pointer(&run->answer);

    run->sign = NULL;
    if (error != NULL) {
        GError *why = g_error_new(FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                                  "nothing is signed, so nothing is granted: %s", error->message);
        json_decref(answer);
        fore_pam_alarm(run->pam, "signing-key", error->message);
        fore_run_over(run, NULL, why);
        return;
    }
    fore_pam_calm(run->pam, "signing-key");
    json_object_set_new(answer, "ear", json_string(tokens[0]));
    if (tokens[1] != NULL) {
        json_object_set_new(answer, "grant", json_string(tokens[1]));
    }
    fore_run_over(run, answer, NULL);
}

static void sign(ForePamRun *run, const ForeGuestSays *says, json_t *ear, json_t *grant)
{
    static const char *const types[FORE_SIGNER_TOKENS] = {"JWT", FORE_GRANT_TYPE};
    json_t *const claims[FORE_SIGNER_TOKENS] = {ear, grant};
    ForeKey *key = key_for(run->pam, says->pam_key);

    run->sign = fore_signer_start(run->pam->signer, key != NULL ? key : run->pam->keys->signing,
                                  types, claims, SIGN_MS, on_signed, run);
}

void fore_run_judge(ForePamRun *run)
{
    ForePam *pam = run->pam;
    ForeNodeResult results[FORE_PATHWAY_MAX + 1];
    size_t n = run->n_nodes + 1;
    int64_t now_s = g_get_real_time() / G_USEC_PER_SEC;
    int64_t expires_s = now_s + lifetime_s(run);
    ForeGuestSays says = {NULL};
    json_t *grant = NULL;
    GError *error = NULL;
    ForeVerdict verdict;
    Finish finish;

    if (!fore_run_read_finish(fore_call_arguments(run->finish), &finish, &error)) {
        fore_run_over(run, NULL, error);
        return;
    }
    for (unsigned i = 0; i < run->n_nodes; i++) {
        judge_node(run, &run->nodes[i], run->nodes[i].evidence, run->nodes[i].extra, NULL,
                   &results[i]);
    }
    judge_guest(run, &finish, &results[run->n_nodes], &says);
    note_all(pam, run, results, n);
    verdict = fore_pathway_verdict(results, n);
    if (fore_verdict_grants(verdict) && finish.wants_grant) {
        grant = make_grant(run, &finish, &says, results, n, now_s, expires_s, &error);
        if (grant == NULL) {
            fore_run_over(run, NULL, error);
            return;
        }
    }
    run->answer = json_pack(
        "{s:s, s:o, s:I, s:b, s:s}", "verdict", fore_verdict_names[verdict], "nodes",
        nodes_to_json(results, n), "expires", (json_int_t)expires_s, "insecure-software-key",
        fore_key_kind_of(pam->keys->signing) == FORE_KEY_FILE, "on-attest-failure",
        fore_on_failure_names[rules_of(run, &run->guest)->on_failure]);
    sign(run, &says, make_ear(run, results, n, now_s, expires_s), grant);
}

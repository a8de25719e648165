/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  A run is one question to a whole pathway: begin makes the nonces and asks every
 * attester at once; finish brings the guest's evidence, waits until each attester has answered or
 * is late, and judges all of it.
 *
 *   OPEN       nonces are out, attesters are being asked      leaves by finish, or by expiry
 *   FINISHING  finish was called, some attester still owes    leaves when the last one answered or
 * was late (gone)     judged, expired or dropped; its id never names anything again
 *
 * What must stay true: a run is used once, by the peer that began it.  Clocks are compared with
 * what was known when the run began, because runs overlap and a node may be asked by several at a
 * time.  A failure is on disk before it is told; a grant's number is on disk before the grant
 * leaves.
 */
#include <string.h>

#include "common/fore-bytes.h"
#include "vtpm/attest/fore-grant.h"
#include "vtpm/attest/fore-jws.h"
#include "vtpm/host/fore-keyfile.h"
#include "vtpm/pam/fore-pam-internal.h"

#define MAX_RUNS    512
#define SEQ_GAP_MAX 1000 /* a SEA raises its counter by at most 1024 at once */

typedef struct ForePamRun ForePamRun;

typedef struct {
    ForePamRun *run;
    char id[FORE_NAME_MAX + 1];
    ForeRole role;
    GBytes *ak_public; /* as enrolled at begin; NULL: not enrolled */
    GBytes *extra;
    uint32_t mask;
    bool has_last;
    ForeTpmClock last; /* known at begin */
    ForeAsk *ask;      /* NULL once answered */
    json_t *evidence;
    ForeNodeReason absent;
} Node;

struct ForePamRun {
    ForePam *pam;
    char id[FORE_SESSION_ID_LEN + 1];
    char peer_pin[FORE_PIN_HEX + 1];
    uint8_t nonce[FORE_NONCE_SIZE]; /* of the guest */
    Node guest;
    Node nodes[FORE_PATHWAY_MAX];
    unsigned n_nodes, waiting;
    GSource *expiry;
    ForeCall *finish; /* FINISHING */
};

/* What finish brought. */
typedef struct {
    const json_t *evidence; /* NULL: the guest is silent */
    const char *channel_pin;
    bool wants_grant;
    int64_t vcpus, mem_bytes;
} Finish;

static void node_clear(Node *node)
{
    g_clear_pointer(&node->ak_public, g_bytes_unref);
    g_clear_pointer(&node->extra, g_bytes_unref);
    g_clear_pointer(&node->ask, fore_ask_free);
    g_clear_pointer(&node->evidence, json_decref);
}

static void run_free(gpointer data)
{
    ForePamRun *run = data;

    if (run->expiry != NULL) {
        g_source_destroy(run->expiry);
        g_source_unref(run->expiry);
    }
    for (unsigned i = 0; i < run->n_nodes; i++) {
        node_clear(&run->nodes[i]);
    }
    node_clear(&run->guest);
    if (run->finish != NULL) {
        fore_pam_fail(run->finish, FORE_ERROR_CLOSED, "foresee-pam stops");
    }
    g_free(run);
}

void fore_pam_run_init(ForePam *pam)
{
    pam->runs = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, run_free);
}

void fore_pam_run_done(ForePam *pam)
{
    g_hash_table_unref(pam->runs);
}

/* --- begin --- */

static gboolean on_expiry(gpointer data)
{
    ForePamRun *run = data;

    g_hash_table_remove(run->pam->runs, run->id);
    return G_SOURCE_REMOVE;
}

static void conclude(ForePamRun *run);

static void on_node_answer(const json_t *ret, const GError *error, gpointer data)
{
    Node *node = data;
    ForePamRun *run = node->run;

    if (ret != NULL) {
        node->evidence = json_deep_copy(ret);
    } else {
        node->absent = fore_pam_absence(error);
        g_message("node '%s' gave no evidence: %s", node->id, error->message);
    }
    g_clear_pointer(&node->ask, fore_ask_free);
    run->waiting--;
    if (run->waiting == 0 && run->finish != NULL) {
        conclude(run);
    }
}

static void remember(Node *node, ForePamRun *run, const ForeRecord *record, uint32_t mask)
{
    node->run = run;
    node->role = record->role;
    node->mask = mask;
    node->ak_public = g_bytes_ref(record->ak_public);
    node->has_last = record->has_clock;
    node->last = record->clock;
}

static void ask_node(ForePamRun *run, Node *node, const uint8_t *run_nonce, uint64_t epoch,
                     const ForeRecord *vm)
{
    ForePam *pam = run->pam;
    const ForeRecord *record = fore_inventory_find(pam->inventory, node->id);
    uint8_t nonce[FORE_NONCE_SIZE];
    g_autofree char *nonce64 = NULL;
    json_t *arguments;

    if (record == NULL || record->subject != FORE_SUBJECT_NODE) {
        node->run = run;
        node->role = FORE_ROLE_HYPERVISOR;
        return; /* judged as not enrolled */
    }
    remember(node, run, record, fore_pam_mask(pam, FORE_SUBJECT_NODE, node->id));
    fore_pathway_node_nonce(run_nonce, node->id, node->role, epoch, nonce);
    node->extra = fore_pathway_node_extra(nonce, node->id, node->role, vm->id, vm->ak_name_hex);
    nonce64 = fore_b64_encode(nonce, sizeof(nonce));
    arguments = json_pack("{s:s, s:I, s:s, s:s}", "nonce", nonce64, "pcr-mask",
                          (json_int_t)node->mask, "vm", vm->id, "vm-ak-name", vm->ak_name_hex);
    node->ask = fore_pam_ask(pam, record->address, record->pin, "attester-quote", arguments,
                             on_node_answer, node);
    run->waiting++;
}

static bool may_begin(ForePam *pam, const char *pin, GError **error)
{
    GHashTableIter iter;
    gpointer value;
    unsigned open = 0;

    g_hash_table_iter_init(&iter, pam->runs);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        open += strcmp(((ForePamRun *)value)->peer_pin, pin) == 0;
    }
    if (open >= pam->config->max_sessions || g_hash_table_size(pam->runs) >= MAX_RUNS) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "%u sessions of this peer are open (of %u), %u of all; finish them first", open,
                    pam->config->max_sessions, g_hash_table_size(pam->runs));
        return false;
    }
    return true;
}

static void start_expiry(ForePamRun *run)
{
    run->expiry = g_timeout_source_new(run->pam->config->session_ms);
    g_source_set_callback(run->expiry, on_expiry, run, NULL);
    g_source_attach(run->expiry, run->pam->context);
}

static ForePamRun *run_new(ForePam *pam, const char *pin, const ForeRecord *vm, GError **error)
{
    uint8_t run_nonce[FORE_NONCE_SIZE];
    char id[FORE_SESSION_ID_LEN + 1];
    uint64_t epoch = ++pam->epoch;
    ForePamRun *run;

    if (!fore_pam_random(run_nonce, sizeof(run_nonce), error) || !fore_pam_session_id(id, error)) {
        return NULL;
    }
    run = g_new0(ForePamRun, 1);
    run->pam = pam;
    memcpy(run->id, id, sizeof(id));
    g_strlcpy(run->peer_pin, pin, sizeof(run->peer_pin));
    g_strlcpy(run->guest.id, vm->id, sizeof(run->guest.id));
    remember(&run->guest, run, vm, fore_pam_mask(pam, FORE_SUBJECT_VM, vm->id));
    fore_pathway_node_nonce(run_nonce, vm->id, FORE_ROLE_GUEST, epoch, run->nonce);
    for (unsigned i = 0; vm->pathway[i] != NULL && i < FORE_PATHWAY_MAX; i++) {
        Node *node = &run->nodes[run->n_nodes++];

        g_strlcpy(node->id, vm->pathway[i], sizeof(node->id));
        ask_node(run, node, run_nonce, epoch, vm);
    }
    start_expiry(run);
    return run;
}

void fore_pam_begin(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    GError *error = NULL;
    const char *vm_id;
    const ForeRecord *vm;
    ForePamRun *run;
    g_autofree char *nonce = NULL;

    if (!fore_json_get_string(fore_call_arguments(call), "vm", &vm_id, &error)) {
        fore_pam_fail_with(call, error);
        return;
    }
    vm = fore_inventory_find(pam->inventory, vm_id);
    if (vm == NULL || vm->subject != FORE_SUBJECT_VM) {
        fore_pam_fail(call, FORE_ERROR_NOT_FOUND, "VM '%.64s' is not enrolled; enroll-vm first",
                      vm_id);
        return;
    }
    if (!fore_pam_owns(peer, vm, &error)) {
        fore_pam_fail_with(call, error);
        return;
    }
    run = may_begin(pam, peer->pin, &error) ? run_new(pam, peer->pin, vm, &error) : NULL;
    if (run == NULL) {
        fore_pam_fail_with(call, error);
        return;
    }
    g_hash_table_insert(pam->runs, run->id, run);
    nonce = fore_b64_encode(run->nonce, sizeof(run->nonce));
    fore_call_return(call, json_pack("{s:s, s:s, s:I}", "session", run->id, "nonce", nonce,
                                     "pcr-mask", (json_int_t)run->guest.mask));
}

/* --- judging --- */

static void judge_node(ForePamRun *run, const Node *node, const json_t *evidence, GBytes *extra,
                       const char *channel_pin, ForeNodeResult *ret)
{
    const ForeRecord *record = fore_inventory_find(run->pam->inventory, node->id);
    /* forgotten, or enrolled anew with other keys, while the run was open */
    bool same = record != NULL && node->ak_public != NULL &&
                g_bytes_equal(record->ak_public, node->ak_public);
    ForeNodeExpect expect = {
        .id = node->id,
        .role = node->role,
        .ak_public = same ? node->ak_public : NULL,
        .extra = extra,
        .pcr_mask = node->mask,
        .last = node->has_last ? &node->last : NULL,
        .reference = run->pam->reference,
        .channel_pin = channel_pin,
        /* a vTPM is software by nature; its host answers for it */
        .allow_software_tpm = node->role == FORE_ROLE_GUEST || run->pam->config->allow_software_tpm,
        .absent = node->absent,
        .sticky = same && record->sticky[0] != '\0' ? record->sticky : NULL,
    };

    fore_pathway_judge(&expect, evidence, ret);
}

/* The SEA's counter must be within reach of what was issued: a far one would lock the VM out of
 * grants. */
static void judge_sequence(const Finish *finish, const ForeRecord *vm, ForeNodeResult *ret,
                           uint64_t *ret_seq)
{
    int64_t seq;

    if (!ret->quoted) {
        return;
    }
    if (!fore_json_get_int(finish->evidence, "seq", 0, INT64_MAX / 2, &seq, NULL)) {
        fore_node_result_add(ret, FORE_VERDICT_NONE, fore_node_reason_name(FORE_NODE_MALFORMED));
    } else if ((uint64_t)seq > vm->seq + SEQ_GAP_MAX) {
        fore_node_result_add(ret, FORE_VERDICT_NONE, fore_node_reason_name(FORE_NODE_SEQUENCE));
    } else {
        *ret_seq = (uint64_t)seq;
    }
}

static void judge_guest(ForePamRun *run, const Finish *finish, ForeNodeResult *ret,
                        uint64_t *ret_seq)
{
    const ForeRecord *vm = fore_inventory_find(run->pam->inventory, run->guest.id);
    g_autoptr(GBytes) extra =
        fore_pathway_guest_extra(run->nonce, run->guest.id, finish->channel_pin);

    judge_node(run, &run->guest, finish->evidence, extra, finish->channel_pin, ret);
    if (vm != NULL) {
        judge_sequence(finish, vm, ret, ret_seq);
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
        json_t *reasons = json_array();

        for (unsigned k = 0; k < r->n_reasons; k++) {
            g_autofree char *reason = g_strdup_printf(
                "%s:%s", r->role == FORE_ROLE_GUEST ? "guest" : r->id, r->reasons[k]);
            json_array_append_new(reasons, json_string(reason));
        }
        json_array_append_new(nodes, json_pack("{s:s, s:s, s:s, s:b, s:o}", "id", r->id, "role",
                                               fore_role_names[r->role], "verdict",
                                               fore_verdict_names[r->verdict], "software-tpm",
                                               r->software_tpm, "reasons", reasons));
    }
    return nodes;
}

static char *make_ear(ForePamRun *run, const ForeNodeResult *results, size_t n, int64_t now_s,
                      int64_t expires_s, GError **error)
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
    };
    g_autoptr(json_t) claims = fore_pathway_ear(&input, results, n);

    return fore_jws_sign("JWT", claims, fore_identity_key(pam->keys->signing), error);
}

static char *make_grant(ForePamRun *run, const Finish *finish, ForeRecord *vm, uint64_t sea_seq,
                        const ForeNodeResult *results, size_t n, int64_t now_s, int64_t expires_s,
                        GError **error)
{
    ForePam *pam = run->pam;
    ForeGrant grant = {.vcpus = (unsigned)finish->vcpus, .mem_bytes = (uint64_t)finish->mem_bytes};
    uint64_t before = vm->seq;
    g_autofree char *id = g_uuid_string_random();
    g_autofree char *detail = NULL;
    ForeChange change = {.what = "grant", .id = vm->id, .peer = run->peer_pin};

    vm->seq = MAX(vm->seq, sea_seq) + 1;
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
    detail = g_strdup_printf("seq %" G_GUINT64_FORMAT " vcpus %u memory %" G_GUINT64_FORMAT
                             " evidence %s",
                             grant.seq, grant.vcpus, grant.mem_bytes, grant.evidence);
    change.detail = detail;
    if (!fore_inventory_save(pam->inventory, &change, error)) {
        vm->seq = before;
        return NULL;
    }
    return fore_grant_sign(&grant, fore_identity_key(pam->keys->signing), error);
}

static bool read_finish(const json_t *arguments, Finish *ret, GError **error)
{
    const json_t *evidence = json_object_get(arguments, "evidence");

    memset(ret, 0, sizeof(*ret));
    ret->evidence = json_is_null(evidence) ? NULL : evidence;
    if (!fore_json_get_string(arguments, "channel-pin", &ret->channel_pin, error)) {
        return false;
    }
    if (ret->evidence != NULL && !fore_keyfile_pin_is_valid(ret->channel_pin)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "channel-pin must be the 64 hex digits of the key that the guest shows in TLS");
        return false;
    }
    ret->wants_grant = json_object_get(arguments, "vcpus") != NULL ||
                       json_object_get(arguments, "memory-bytes") != NULL;
    return !ret->wants_grant ||
           (fore_json_get_int(arguments, "vcpus", 1, FORE_GRANT_MAX_VCPUS, &ret->vcpus, error) &&
            fore_json_get_int(arguments, "memory-bytes", 1, (int64_t)FORE_GRANT_MAX_MEM,
                              &ret->mem_bytes, error));
}

/* Judges, keeps, signs; NULL with @error when the answer could not be made. */
static json_t *judge_run(ForePamRun *run, const Finish *finish, GError **error)
{
    ForePam *pam = run->pam;
    ForeNodeResult results[FORE_PATHWAY_MAX + 1];
    size_t n = run->n_nodes + 1;
    uint64_t sea_seq = 0;
    int64_t now_s = g_get_real_time() / G_USEC_PER_SEC;
    int64_t expires_s = now_s + pam->config->grant_lifetime_s;
    ForeRecord *vm;
    ForeVerdict verdict;
    g_autofree char *ear = NULL;
    g_autofree char *grant = NULL;

    for (unsigned i = 0; i < run->n_nodes; i++) {
        judge_node(run, &run->nodes[i], run->nodes[i].evidence, run->nodes[i].extra, NULL,
                   &results[i]);
    }
    judge_guest(run, finish, &results[run->n_nodes], &sea_seq);
    note_all(pam, run, results, n);
    verdict = fore_pathway_verdict(results, n);
    vm = fore_inventory_find(pam->inventory, run->guest.id);
    if (verdict == FORE_VERDICT_AFFIRMING && finish->wants_grant) {
        grant = make_grant(run, finish, vm, sea_seq, results, n, now_s, expires_s, error);
        if (grant == NULL) {
            return NULL;
        }
    }
    ear = make_ear(run, results, n, now_s, expires_s, error);
    if (ear == NULL) {
        return NULL;
    }
    return json_pack("{s:s, s:o, s:s, s:s*, s:I}", "verdict", fore_verdict_names[verdict], "nodes",
                     nodes_to_json(results, n), "ear", ear, "grant", grant, "expires",
                     (json_int_t)expires_s);
}

/* --- finish --- */

/* Every attester has answered or is late.  Frees @run. */
static void conclude(ForePamRun *run)
{
    ForeCall *call = g_steal_pointer(&run->finish);
    GError *error = NULL;
    Finish finish;
    json_t *answer = NULL;

    if (read_finish(fore_call_arguments(call), &finish, &error)) {
        answer = judge_run(run, &finish, &error);
    }
    if (answer != NULL) {
        fore_call_return(call, answer);
    } else {
        g_warning("no verdict for VM %s: %s", run->guest.id, error->message);
        fore_pam_fail_with(call, error);
    }
    g_hash_table_remove(run->pam->runs, run->id);
}

void fore_pam_finish(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    GError *error = NULL;
    const char *id;
    ForePamRun *run;
    Finish finish;

    if (!fore_json_get_string(fore_call_arguments(call), "session", &id, &error)) {
        fore_pam_fail_with(call, error);
        return;
    }
    run = g_hash_table_lookup(pam->runs, id);
    if (run == NULL || run->finish != NULL || strcmp(run->peer_pin, peer->pin) != 0) {
        fore_pam_fail(call, FORE_ERROR_NOT_FOUND,
                      "no open session of that name: it was used, has expired after %u ms, or is "
                      "another peer's; begin again",
                      pam->config->session_ms);
        return;
    }
    if (!read_finish(fore_call_arguments(call), &finish, &error)) {
        g_hash_table_remove(pam->runs, run->id); /* used, even badly */
        fore_pam_fail_with(call, error);
        return;
    }
    g_source_destroy(run->expiry);
    g_clear_pointer(&run->expiry, g_source_unref);
    run->finish = call;
    if (run->waiting == 0) {
        conclude(run);
    }
}

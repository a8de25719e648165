/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  begin makes the nonces and asks every attester at once; finish brings the guest's
 * evidence, waits until each attester has answered or is late, and hands over to judge
 * (fore-pam-run.h lists the states).
 *
 * What must stay true: a run is used once, by the peer that began it.  Clocks are compared with
 * what was known when the run began, because runs overlap and a node may be asked by several at a
 * time.  Lists come in chunks, from attesters by our asking, from the guest by its host agent;
 * their bytes are counted over all runs.
 */
#include <string.h>

#include "common/fore-bytes.h"
#include "vtpm/attest/fore-grant.h"
#include "vtpm/host/fore-keyfile.h"
#include "vtpm/pam/fore-pam-run.h"

#define MAX_RUNS   512
#define LOG_MAX    (16u << 20)  /* bytes of one list */
#define LOGS_MAX   (256u << 20) /* bytes of all lists of all runs */
#define CHUNK_ASK  32768
#define CHUNK_TAKE (640u << 10) /* bytes that an agent sends at once */

typedef ForeRunNode Node;
typedef ForeRunFinish Finish;

const char *const fore_run_log_names[] = {"firmware", "ima", "launch"};
G_STATIC_ASSERT(G_N_ELEMENTS(fore_run_log_names) == FORE_RUN_LOG_N);

static void node_clear(Node *node)
{
    g_clear_pointer(&node->ak_public, g_bytes_unref);
    g_clear_pointer(&node->extra, g_bytes_unref);
    g_clear_pointer(&node->ask, fore_ask_free);
    g_clear_pointer(&node->evidence, json_decref);
    for (unsigned i = 0; i < FORE_RUN_LOG_N; i++) {
        if (node->logs[i].bytes != NULL) {
            node->run->pam->log_bytes -= node->logs[i].bytes->len;
            g_clear_pointer(&node->logs[i].bytes, g_byte_array_unref);
        }
    }
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
    if (run->sign != NULL) {
        fore_signer_cancel(run->sign);
    }
    json_decref(run->answer);
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

/* --- lists --- */

static bool add_log(ForePam *pam, ForeRunLog *log, GBytes *data)
{
    gsize size = g_bytes_get_size(data);

    if (log->bytes == NULL) {
        log->bytes = g_byte_array_new();
    }
    if (log->bytes->len + size > LOG_MAX || pam->log_bytes + size > LOGS_MAX) {
        return false;
    }
    pam->log_bytes += size;
    g_byte_array_append(log->bytes, g_bytes_get_data(data, NULL), (guint)size);
    return true;
}

/* How far each list goes; one that is shorter than what was judged is of another boot: all of it.
 */
static bool plan_logs(Node *node)
{
    json_t *sizes = NULL;

    for (unsigned i = 0; i < FORE_RUN_LOG_N; i++) {
        ForeRunLog *log = &node->logs[i];
        int64_t size = 0;

        if (!log->wanted) {
            continue;
        }
        if (!fore_json_get_object(node->evidence, "log-sizes", &sizes, NULL) ||
            !fore_json_get_int(sizes, fore_run_log_names[i], 0, INT64_MAX, &size, NULL)) {
            return false;
        }
        log->end = (uint64_t)size;
        log->from = log->from > log->end ? 0 : log->from;
    }
    return true;
}

static bool take_chunk(Node *node, const json_t *ret)
{
    for (unsigned i = 0; i < FORE_RUN_LOG_N; i++) {
        ForeRunLog *log = &node->logs[i];
        uint64_t have = log->from + (log->bytes != NULL ? log->bytes->len : 0);
        g_autoptr(GBytes) data = NULL;
        int64_t offset;

        if (!log->wanted || have >= log->end) {
            continue;
        }
        return fore_json_get_int(ret, "offset", 0, INT64_MAX, &offset, NULL) &&
               (uint64_t)offset == have &&
               fore_json_get_bytes(ret, "data", CHUNK_ASK, &data, NULL) &&
               g_bytes_get_size(data) > 0 && add_log(node->run->pam, log, data);
    }
    return false;
}

/* Asks for the next chunk; false when all is there. */
static bool ask_chunk(Node *node)
{
    for (unsigned i = 0; i < FORE_RUN_LOG_N; i++) {
        ForeRunLog *log = &node->logs[i];
        uint64_t have = log->from + (log->bytes != NULL ? log->bytes->len : 0);

        if (log->wanted && have < log->end) {
            fore_ask_again(node->ask, "attester-get-log",
                           json_pack("{s:s, s:I, s:i}", "log", fore_run_log_names[i], "offset",
                                     (json_int_t)have, "length", CHUNK_ASK));
            return true;
        }
    }
    return false;
}

static void node_done(Node *node)
{
    ForePamRun *run = node->run;

    g_clear_pointer(&node->ask, fore_ask_free);
    run->waiting--;
    if (run->waiting == 0 && run->finish != NULL) {
        fore_run_judge(run);
    }
}

static void on_node_answer(const json_t *ret, const GError *error, gpointer data)
{
    Node *node = data;
    bool good = ret != NULL;

    if (good && node->evidence == NULL) {
        node->evidence = json_deep_copy(ret);
        good = plan_logs(node);
    } else if (good) {
        good = take_chunk(node, ret);
    }
    if (good && ask_chunk(node)) {
        return;
    }
    if (!good) {
        node->absent = error != NULL ? fore_pam_absence(error) : FORE_NODE_MALFORMED;
        g_clear_pointer(&node->evidence, json_decref);
        g_message("node '%s' gave no evidence: %s", node->id,
                  error != NULL ? error->message : "malformed answer");
    }
    node_done(node);
}

static void remember(Node *node, ForePamRun *run, const ForeRecord *record, uint32_t mask)
{
    const ForeSubjectRules *rules = fore_rules_of(run->pam->rules, record->subject, record->id);

    node->run = run;
    node->role = record->role;
    node->mask = mask;
    node->ak_public = g_bytes_ref(record->ak_public);
    node->has_last = record->has_clock;
    node->last = record->clock;
    node->logs[FORE_RUN_FIRMWARE].wanted = rules->wants_firmware;
    node->logs[FORE_RUN_IMA].wanted = rules->wants_ima;
    node->logs[FORE_RUN_IMA].from = fore_ima_state_offset(record->ima_state);
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
    node->logs[FORE_RUN_LAUNCH].wanted =
        node->role == FORE_ROLE_HYPERVISOR &&
        fore_rules_of(pam->rules, FORE_SUBJECT_VM, vm->id)->n_launches > 0;
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

/* From where the PAM wants which of the guest's lists; NULL: none. */
static json_t *wanted_logs(const Node *guest)
{
    json_t *wanted = json_object();

    for (unsigned i = 0; i < FORE_RUN_LOG_N; i++) {
        if (guest->logs[i].wanted) {
            json_object_set_new(wanted, fore_run_log_names[i],
                                json_integer((json_int_t)guest->logs[i].from));
        }
    }
    if (json_object_size(wanted) == 0) {
        json_decref(wanted);
        return NULL;
    }
    return wanted;
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
    fore_call_return(call, json_pack("{s:s, s:s, s:I, s:o*}", "session", run->id, "nonce", nonce,
                                     "pcr-mask", (json_int_t)run->guest.mask, "logs",
                                     wanted_logs(&run->guest)));
}

/* --- finish --- */

bool fore_run_read_finish(const json_t *arguments, Finish *ret, GError **error)
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

void fore_run_over(ForePamRun *run, json_t *answer, GError *error)
{
    ForeCall *call = g_steal_pointer(&run->finish);

    if (answer != NULL) {
        fore_call_return(call, answer);
    } else {
        g_warning("no verdict for VM %s: %s", run->guest.id, error->message);
        fore_pam_fail_with(call, error);
    }
    g_hash_table_remove(run->pam->runs, run->id);
}

/* An open run of this peer; answers the call otherwise. */
static ForePamRun *find_run(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    GError *error = NULL;
    const char *id;
    ForePamRun *run;

    if (!fore_json_get_string(fore_call_arguments(call), "session", &id, &error)) {
        fore_pam_fail_with(call, error);
        return NULL;
    }
    run = g_hash_table_lookup(pam->runs, id);
    if (run == NULL || run->finish != NULL || strcmp(run->peer_pin, peer->pin) != 0) {
        fore_pam_fail(call, FORE_ERROR_NOT_FOUND,
                      "no open session of that name: it was used, has expired after %u ms, or is "
                      "another peer's; begin again",
                      pam->config->session_ms);
        return NULL;
    }
    return run;
}

static bool read_log(ForePamRun *run, const json_t *arguments, GError **error)
{
    g_autoptr(GBytes) data = NULL;
    ForeRunLog *log = NULL;
    const char *name;
    int64_t offset;

    if (!fore_json_get_string(arguments, "log", &name, error) ||
        !fore_json_get_int(arguments, "offset", 0, LOG_MAX, &offset, error) ||
        !fore_json_get_bytes(arguments, "data", CHUNK_TAKE, &data, error)) {
        return false;
    }
    for (unsigned i = 0; i < FORE_RUN_LOG_N; i++) {
        if (strcmp(name, fore_run_log_names[i]) == 0 && run->guest.logs[i].wanted) {
            log = &run->guest.logs[i];
        }
    }
    if (log == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "log '%.32s' was not asked for", name);
        return false;
    }
    if (log->bytes == NULL && offset == 0) {
        log->from = 0; /* another boot than the one that was judged: all of it */
    }
    if ((uint64_t)offset != log->from + (log->bytes != NULL ? log->bytes->len : 0)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "offset %" G_GINT64_FORMAT " is not where the %s log goes on", offset, name);
        return false;
    }
    if (!add_log(run->pam, log, data)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "more than %u bytes of one list, or %u of all", LOG_MAX, LOGS_MAX);
        return false;
    }
    return true;
}

void fore_pam_evidence_log(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    ForePamRun *run = find_run(pam, peer, call);
    GError *error = NULL;

    if (run == NULL) {
        return;
    }
    if (!read_log(run, fore_call_arguments(call), &error)) {
        fore_pam_fail_with(call, error);
        return;
    }
    fore_call_return(call, NULL);
}

void fore_pam_finish(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    ForePamRun *run = find_run(pam, peer, call);
    GError *error = NULL;
    Finish finish;

    if (run == NULL) {
        return;
    }
    if (!fore_run_read_finish(fore_call_arguments(call), &finish, &error)) {
        g_hash_table_remove(pam->runs, run->id); /* used, even badly */
        fore_pam_fail_with(call, error);
        return;
    }
    g_source_destroy(run->expiry);
    g_clear_pointer(&run->expiry, g_source_unref);
    run->finish = call;
    if (run->waiting == 0) {
        fore_run_judge(run);
    }
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The operator's commands: what is enrolled, reference values, forgiving and forgetting. */
#include <string.h>

#include "common/fore-bytes.h"
#include "vtpm/host/fore-keyfile.h"
#include "vtpm/pam/fore-pam-internal.h"

#define LEARN_AGE_MAX_S 120 /* of a VM's last proved values */
#define MAX_LEARNS      16

/* --- query-nodes --- */

static json_t *record_to_json(const ForeRecord *r)
{
    bool sticky = r->sticky[0] != '\0';
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:s*, s:s, s:I, s:b, s:s, s:s}", "id", r->id, "name", r->name,
                  "role", fore_role_names[r->role], "address", r->address, "ak-name",
                  r->ak_name_hex, "enrolled-at", (json_int_t)r->enrolled_s, "software-tpm",
                  r->software_tpm, "state", sticky ? "failed" : fore_verdict_names[r->verdict],
                  "reason", sticky ? r->sticky : r->reason);

    if (r->pathway != NULL) {
        json_t *pathway = json_array();
        for (unsigned i = 0; r->pathway[i] != NULL; i++) {
            json_array_append_new(pathway, json_string(r->pathway[i]));
        }
        json_object_set_new(json, "pathway", pathway);
        json_object_set_new(json, "seq", json_integer((json_int_t)r->seq));
    }
    if (r->owner[0] != '\0') {
        json_object_set_new(json, "agent", json_string(r->owner));
    }
    return json;
}

void fore_pam_query_nodes(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    g_autoptr(GPtrArray) records = fore_inventory_records(pam->inventory);
    json_t *nodes = json_array(), *vms = json_array();

    for (guint i = 0; i < records->len; i++) {
        const ForeRecord *record = records->pdata[i];

        if (record->subject == FORE_SUBJECT_VM && !fore_pam_owns(peer, record, NULL)) {
            continue; /* another host's VMs are none of an agent's business */
        }
        json_array_append_new(record->subject == FORE_SUBJECT_NODE ? nodes : vms,
                              record_to_json(record));
    }
    fore_call_return(
        call, json_pack("{s:o, s:o, s:I}", "nodes", nodes, "vms", vms, "reference-version",
                        (json_int_t)(pam->reference != NULL ? fore_reference_version(pam->reference)
                                                            : 0)));
}

/* --- learn --- */

typedef struct {
    ForePam *pam;
    ForeCall *call;
    char id[FORE_NAME_MAX + 1];
    GBytes *ak_public, *extra;
    uint32_t mask;
    bool has_last;
    ForeTpmClock last;
    ForeAsk *ask;
} Learn;

static void learn_free(gpointer data)
{
    Learn *learn = data;

    fore_ask_free(learn->ask);
    g_clear_pointer(&learn->ak_public, g_bytes_unref);
    g_clear_pointer(&learn->extra, g_bytes_unref);
    if (learn->call != NULL) {
        fore_pam_fail(learn->call, FORE_ERROR_CLOSED, "foresee-pam stops");
    }
    g_free(learn);
}

void fore_pam_admin_init(ForePam *pam)
{
    pam->learns = g_ptr_array_new_with_free_func(learn_free);
}

void fore_pam_admin_done(ForePam *pam)
{
    g_ptr_array_unref(pam->learns);
}

/* Text to review: the lines of this subject, ready to stand in a manifest of the next version. */
static json_t *values_to_json(const ForePam *pam, const ForeRecord *record, int64_t age_s)
{
    uint64_t version = pam->reference != NULL ? fore_reference_version(pam->reference) + 1 : 1;
    g_autoptr(ForeReference) text = fore_reference_new(version);
    const ForeSubjectRules *rules = fore_rules_of(pam->rules, record->subject, record->id);
    g_autofree char *lines = NULL;
    json_t *pcrs = json_object();

    for (unsigned pcr = 0; pcr < FORE_PCRS; pcr++) {
        g_autofree char *key = g_strdup_printf("%u", pcr);
        g_autofree char *hex = NULL;

        if ((record->pcr_mask >> pcr & 1u) == 0 || (pcr == FORE_IMA_PCR && rules->wants_ima)) {
            continue; /* PCR 10 grows with each file: its list holds it */
        }
        hex = fore_hex_encode(record->pcrs[pcr], 32);
        json_object_set_new(pcrs, key, json_string(hex));
        fore_reference_add(text, record->subject, record->id, pcr, record->pcrs[pcr], NULL);
    }
    lines = fore_reference_format(text);
    return json_pack("{s:o, s:s, s:I}", "pcrs", pcrs, "reference", lines, "age-s",
                     (json_int_t)age_s);
}

/* A VM is reached through its host agent only: what its last run proved, when that is recent. */
static void learn_vm(ForePam *pam, const char *id, ForeCall *call)
{
    const ForeRecord *vm = fore_inventory_find(pam->inventory, id);
    int64_t age_s;

    if (vm == NULL || vm->subject != FORE_SUBJECT_VM) {
        fore_pam_fail(call, FORE_ERROR_NOT_FOUND, "VM '%.64s' is not enrolled", id);
        return;
    }
    age_s = (g_get_monotonic_time() - vm->proved_us) / G_USEC_PER_SEC;
    if (!vm->proved || age_s > LEARN_AGE_MAX_S) {
        fore_pam_fail(call, FORE_ERROR_UNAVAILABLE,
                      "VM '%s' proved nothing within the last %d s; let it be attested once "
                      "('foresee attest'), then learn",
                      vm->name, LEARN_AGE_MAX_S);
        return;
    }
    fore_call_return(call, values_to_json(pam, vm, age_s));
}

static void on_learnt(const json_t *ret, const GError *why, gpointer data)
{
    Learn *learn = data;
    ForePam *pam = learn->pam;
    ForeRecord *record = fore_inventory_find(pam->inventory, learn->id);
    ForeCall *call = g_steal_pointer(&learn->call);
    ForeNodeResult result;
    ForeNodeExpect expect = {
        .id = learn->id,
        .ak_public = learn->ak_public,
        .extra = learn->extra,
        .pcr_mask = learn->mask,
        .last = learn->has_last ? &learn->last : NULL,
        .reference = pam->reference,
        .allow_software_tpm = pam->config->allow_software_tpm,
        .absent = why != NULL ? fore_pam_absence(why) : FORE_NODE_OK,
    };

    if (record == NULL || !g_bytes_equal(record->ak_public, learn->ak_public)) {
        fore_pam_fail(call, FORE_ERROR_NOT_FOUND, "'%s' is not enrolled any more", learn->id);
        g_ptr_array_remove_fast(pam->learns, learn);
        return;
    }
    expect.role = record->role;
    fore_pathway_judge(&expect, ret, &result);
    if (!result.quoted) {
        fore_pam_fail(call, why != NULL ? FORE_ERROR_UNAVAILABLE : FORE_ERROR_UNTRUSTED,
                      "'%s' proved nothing: %s", learn->id, result.reasons[0]);
        g_ptr_array_remove_fast(pam->learns, learn);
        return;
    }
    /* Learning is to look, not to judge: other values than the reference's are why one learns. */
    result.verdict = record->verdict;
    fore_pam_note(record, &result, learn->mask);
    fore_call_return(call, values_to_json(pam, record, 0));
    g_ptr_array_remove_fast(pam->learns, learn);
}

static bool learn_start(Learn *learn, const ForeRecord *record, GError **error)
{
    /* a quote of no VM: an all-zero UUID and AK name, which no VM has */
    static const char no_vm[] = "00000000-0000-0000-0000-000000000000", no_ak[] = "00";
    uint8_t run[FORE_NONCE_SIZE], nonce[FORE_NONCE_SIZE];
    g_autofree char *nonce64 = NULL;
    ForePam *pam = learn->pam;

    if (!fore_pam_random(run, sizeof(run), error)) {
        return false;
    }
    fore_pathway_node_nonce(run, record->id, record->role, ++pam->epoch, nonce);
    nonce64 = fore_b64_encode(nonce, sizeof(nonce));
    g_strlcpy(learn->id, record->id, sizeof(learn->id));
    learn->ak_public = g_bytes_ref(record->ak_public);
    learn->extra = fore_pathway_node_extra(nonce, record->id, record->role, no_vm, no_ak);
    learn->mask = fore_pam_mask(pam, FORE_SUBJECT_NODE, record->id);
    learn->has_last = record->has_clock;
    learn->last = record->clock;
    learn->ask = fore_pam_ask(pam, record->address, record->pin, "attester-quote",
                              json_pack("{s:s, s:I, s:s, s:s}", "nonce", nonce64, "pcr-mask",
                                        (json_int_t)learn->mask, "vm", no_vm, "vm-ak-name", no_ak),
                              on_learnt, learn);
    return true;
}

static void learn_node(ForePam *pam, const char *id, ForeCall *call)
{
    const ForeRecord *record = fore_inventory_find(pam->inventory, id);
    GError *error = NULL;
    Learn *learn;

    if (record == NULL || record->subject != FORE_SUBJECT_NODE) {
        fore_pam_fail(call, FORE_ERROR_NOT_FOUND, "node '%.64s' is not enrolled", id);
        return;
    }
    if (pam->learns->len >= MAX_LEARNS) {
        fore_pam_fail(call, FORE_ERROR_LIMIT, "%d nodes are being asked already", MAX_LEARNS);
        return;
    }
    learn = g_new0(Learn, 1);
    learn->pam = pam;
    if (!learn_start(learn, record, &error)) {
        learn_free(learn);
        fore_pam_fail_with(call, error);
        return;
    }
    learn->call = call;
    g_ptr_array_add(pam->learns, learn);
}

void fore_pam_learn(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    const char *id;

    if (fore_json_get_string(fore_call_arguments(call), "vm", &id, NULL)) {
        learn_vm(pam, id, call);
    } else if (fore_json_get_string(fore_call_arguments(call), "node", &id, NULL)) {
        learn_node(pam, id, call);
    } else {
        fore_pam_fail(call, FORE_ERROR_INVALID, "want 'vm' (UUID) or 'node' (id)");
    }
}

/* --- set-reference --- */

/* The same manifest may be set again; an older one, or another of the same version, may not. */
static bool is_newer(const ForeReference *old, const ForeReference *fresh, GError **error)
{
    g_autofree char *old_text = old != NULL ? fore_reference_format(old) : NULL;
    g_autofree char *fresh_text = fore_reference_format(fresh);

    if (old == NULL || fore_reference_version(fresh) > fore_reference_version(old) ||
        strcmp(old_text, fresh_text) == 0) {
        return true;
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                "version %" G_GUINT64_FORMAT
                " is not newer than the one in force, %" G_GUINT64_FORMAT "; sign a higher version",
                fore_reference_version(fresh), fore_reference_version(old));
    return false;
}

/* What was judged by other rules proves nothing under these: lists are read from their beginning.
 */
static void judge_anew(ForePam *pam)
{
    g_autoptr(GPtrArray) records = fore_inventory_records(pam->inventory);

    for (guint i = 0; i < records->len; i++) {
        fore_ima_state_reset(((ForeRecord *)records->pdata[i])->ima_state);
    }
}

void fore_pam_set_reference(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    GError *error = NULL;
    const char *jws;
    g_autoptr(ForeReference) fresh = NULL;
    g_autoptr(ForeRules) rules = NULL;
    g_autofree char *detail = NULL;
    ForeChange change = {.what = "set-reference", .id = "", .peer = peer->pin};

    if (pam->policy_key == NULL) {
        fore_pam_fail(call, FORE_ERROR_UNSUPPORTED,
                      "no policy-key is configured, so no reference values can be trusted");
        return;
    }
    if (!fore_json_get_string(fore_call_arguments(call), "document", &jws, &error)) {
        fore_pam_fail_with(call, error);
        return;
    }
    fresh = fore_reference_verify(jws, pam->policy_key, &error);
    rules = fresh != NULL ? fore_rules_compile(fresh, &error) : NULL;
    if (rules == NULL) {
        fore_pam_fail_with(call, error);
        return;
    }
    if (!is_newer(pam->reference, fresh, &error)) {
        fore_pam_fail_with(call, error);
        return;
    }
    detail = g_strdup_printf("version %" G_GUINT64_FORMAT " values %zu",
                             fore_reference_version(fresh), fore_reference_size(fresh));
    change.detail = detail;
    if (!fore_inventory_set_reference(pam->inventory, jws, &change, &error)) {
        fore_pam_fail_with(call, error);
        return;
    }
    fore_reference_free(pam->reference);
    pam->reference = g_steal_pointer(&fresh);
    fore_rules_free(pam->rules);
    pam->rules = g_steal_pointer(&rules);
    judge_anew(pam);
    fore_call_return(
        call, json_pack("{s:I}", "version", (json_int_t)fore_reference_version(pam->reference)));
}

/* --- release, forget --- */

static ForeRecord *find_for(ForePam *pam, ForeCall *call, GError **error)
{
    const char *id;
    ForeRecord *record;

    if (!fore_json_get_string(fore_call_arguments(call), "id", &id, error)) {
        return NULL;
    }
    record = fore_inventory_find(pam->inventory, id);
    if (record == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND,
                    "'%.64s' is not enrolled; see query-nodes", id);
    }
    return record;
}

void fore_pam_release(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    GError *error = NULL;
    ForeRecord *record = find_for(pam, call, &error);
    char before[FORE_REASON_MAX + 1];
    ForeChange change = {.what = "released", .peer = peer->pin, .detail = before};

    if (record == NULL) {
        fore_pam_fail_with(call, error);
        return;
    }
    g_strlcpy(before, record->sticky, sizeof(before));
    change.id = record->id;
    record->sticky[0] = '\0';
    if (before[0] != '\0' && !fore_inventory_save(pam->inventory, &change, &error)) {
        g_strlcpy(record->sticky, before, sizeof(record->sticky));
        fore_pam_fail_with(call, error);
        return;
    }
    record->verdict = FORE_VERDICT_NONE; /* the next one counts */
    record->reason[0] = '\0';
    fore_call_return(call, NULL);
}

/* A node that some VM's pathway names stays: without it that VM would never be attested again,
 * silently. */
static const ForeRecord *user_of(ForePam *pam, const char *node)
{
    g_autoptr(GPtrArray) records = fore_inventory_records(pam->inventory);

    for (guint i = 0; i < records->len; i++) {
        const ForeRecord *record = records->pdata[i];

        if (record->pathway != NULL &&
            g_strv_contains((const char *const *)record->pathway, node)) {
            return record;
        }
    }
    return NULL;
}

void fore_pam_forget(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    GError *error = NULL;
    const ForeRecord *record = find_for(pam, call, &error);
    const ForeRecord *user;
    g_autofree char *id = NULL;
    ForeChange change = {.what = "forgotten", .peer = peer->pin, .detail = ""};

    if (record == NULL) {
        fore_pam_fail_with(call, error);
        return;
    }
    user = user_of(pam, record->id);
    if (user != NULL) {
        fore_pam_fail(call, FORE_ERROR_EXISTS,
                      "'%s' is on the pathway of VM '%s'; forget or re-enrol that VM first",
                      record->id, user->name);
        return;
    }
    id = g_strdup(record->id);
    change.id = id;
    if (!fore_inventory_remove(pam->inventory, id, &change, &error)) {
        fore_pam_fail_with(call, error);
        return;
    }
    fore_call_return(call, NULL);
}

/* --- assign --- */

/* A VM moved to another host, or its host agent has a new key. */
void fore_pam_assign(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    GError *error = NULL;
    ForeRecord *record = find_for(pam, call, &error);
    const char *agent;
    char before[sizeof(record->owner)];
    ForeChange change = {.what = "assigned", .peer = peer->pin};

    if (record == NULL ||
        !fore_json_get_string(fore_call_arguments(call), "agent", &agent, &error)) {
        fore_pam_fail_with(call, error);
        return;
    }
    if (!fore_keyfile_pin_is_valid(agent)) {
        fore_pam_fail(call, FORE_ERROR_INVALID,
                      "agent must be the 64 hex digits that 'foreseed --print-pin' shows");
        return;
    }
    memcpy(before, record->owner, sizeof(before));
    g_strlcpy(record->owner, agent, sizeof(record->owner));
    change.id = record->id;
    change.detail = record->owner;
    if (!fore_inventory_save(pam->inventory, &change, &error)) {
        memcpy(record->owner, before, sizeof(before));
        fore_pam_fail_with(call, error);
        return;
    }
    fore_call_return(call, NULL);
}

/* --- revoke --- */

/* The keys of a node or VM, for ever: forgetting it does not bring them back. */
void fore_pam_revoke(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    GError *error = NULL;
    const ForeRecord *record = find_for(pam, call, &error);
    ForeChange change = {.what = "revoked", .peer = peer->pin};
    g_autofree char *ek = NULL;

    if (record == NULL) {
        fore_pam_fail_with(call, error);
        return;
    }
    ek = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, record->ek_public);
    change.id = record->id;
    change.detail = ek;
    if (!fore_inventory_revoke(pam->inventory, ek, &change, &error)) {
        fore_pam_fail_with(call, error);
        return;
    }
    change.detail = record->ak_name_hex;
    if (!fore_inventory_revoke(pam->inventory, record->ak_name_hex, &change, &error)) {
        fore_pam_fail_with(call, error);
        return;
    }
    fore_call_return(call, json_pack("{s:s, s:s}", "ek", ek, "ak-name", record->ak_name_hex));
}

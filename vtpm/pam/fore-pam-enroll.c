/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Enrolment is one conversation: keys, judgement, credential, secret, record.  The
 * record appears only after the TPM has given the secret back; a failure at any step leaves nothing
 * behind.  While a node or VM is being enrolled its name is taken, so of two that race at most one
 * wins.  A name that is enrolled keeps its keys: the same keys may prove themselves again, other
 * keys are refused until an operator forgets the name.
 */
#include <string.h>

#include "common/fore-bytes.h"
#include "vtpm/host/fore-keyfile.h"
#include "vtpm/pam/fore-pam-internal.h"

#define KEY_MAX       1024 /* bytes of a TPM2B_PUBLIC */
#define CERT_MAX      8192
#define AK_NAME_MAX   66
#define MAX_ENROLLING 64

typedef struct {
    ForePam *pam;
    char id[FORE_NAME_MAX + 1];
    ForeCall *call;
    char peer_pin[FORE_PIN_HEX + 1];
    ForeRecord *record; /* what will be stored */
    ForePamCredential credential;
    ForeAsk *ask;
} NodeEnrolment;

typedef struct {
    ForePam *pam;
    char id[FORE_SESSION_ID_LEN + 1];
    char peer_pin[FORE_PIN_HEX + 1];
    bool is_operator;
    ForeRecord *record;
    ForePamCredential credential;
    GSource *expiry;
} VmEnrolment;

static void node_enrolment_free(gpointer data)
{
    NodeEnrolment *e = data;

    fore_ask_free(e->ask);
    fore_record_free(e->record);
    fore_pam_credential_done(&e->credential);
    if (e->call != NULL) {
        fore_pam_fail(e->call, FORE_ERROR_CLOSED, "foresee-pam stops");
    }
    g_free(e);
}

static void vm_enrolment_free(gpointer data)
{
    VmEnrolment *e = data;

    if (e->expiry != NULL) {
        g_source_destroy(e->expiry);
        g_source_unref(e->expiry);
    }
    fore_record_free(e->record);
    fore_pam_credential_done(&e->credential);
    g_free(e);
}

void fore_pam_enroll_init(ForePam *pam)
{
    pam->node_enrolments =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, node_enrolment_free);
    pam->enrolments = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, vm_enrolment_free);
}

void fore_pam_enroll_done(ForePam *pam)
{
    g_hash_table_unref(pam->node_enrolments);
    g_hash_table_unref(pam->enrolments);
}

/* --- shared --- */

static void claim_done(ForePamKeysClaim *claim)
{
    g_clear_pointer(&claim->ek_public, g_bytes_unref);
    g_clear_pointer(&claim->ek_certificate, g_bytes_unref);
    g_clear_pointer(&claim->ak_public, g_bytes_unref);
    g_clear_pointer(&claim->ak_name, g_bytes_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ForePamKeysClaim, claim_done)

static bool same_keys(const ForeRecord *a, const ForeRecord *b)
{
    return g_bytes_equal(a->ek_public, b->ek_public) && g_bytes_equal(a->ak_public, b->ak_public) &&
           g_strcmp0(a->pin, b->pin) == 0 && a->role == b->role && a->subject == b->subject;
}

/* May @fresh stand under its name?  Asked before the credential and again before it is stored. */
static bool identity_is_free(ForePam *pam, const ForeRecord *fresh, GError **error)
{
    const ForeRecord *old = fore_inventory_find(pam->inventory, fresh->id);
    const ForeRecord *owner =
        fore_inventory_find_key(pam->inventory, fresh->ek_public, fresh->ak_name);

    if (old != NULL && !same_keys(old, fresh)) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_EXISTS,
            "'%s' is enrolled with other keys, and a name keeps its keys; if its machine was "
            "really replaced, an operator runs 'forget' first",
            fresh->id);
        return false;
    }
    if (fore_inventory_is_revoked(pam->inventory, fresh)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "the keys of '%s' are revoked",
                    fresh->id);
        return false;
    }
    if (owner != NULL && owner != old) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS,
                    "this TPM is enrolled as '%s' already; '%s' would be its copy", owner->id,
                    fresh->id);
        return false;
    }
    return true;
}

/* Keys from JSON of outside, as they are claimed, into @record.  Nothing is judged yet. */
static bool read_keys(ForeRecord *record, const json_t *info, ForePamKeysClaim *claim,
                      GError **error)
{
    const json_t *cert = json_object_get(info, "ek-certificate");
    const char *name;

    claim->vm_uuid = record->subject == FORE_SUBJECT_VM ? record->id : NULL;
    if (!fore_json_get_string(info, "ak-name", &name, error)) {
        return false;
    }
    claim->ak_name = fore_hex_decode(name, AK_NAME_MAX);
    if (claim->ak_name == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "ak-name '%.140s' is no hex", name);
        return false;
    }
    if (!fore_json_get_bytes(info, "ek-public", KEY_MAX, &claim->ek_public, error) ||
        !fore_json_get_bytes(info, "ak-public", KEY_MAX, &claim->ak_public, error) ||
        (cert != NULL && !json_is_null(cert) &&
         !fore_json_get_bytes(info, "ek-certificate", CERT_MAX, &claim->ek_certificate, error))) {
        return false;
    }
    record->ek_public = g_bytes_ref(claim->ek_public);
    record->ak_public = g_bytes_ref(claim->ak_public);
    record->ak_name = g_bytes_ref(claim->ak_name);
    record->ak_name_hex =
        fore_hex_encode(g_bytes_get_data(record->ak_name, NULL), g_bytes_get_size(record->ak_name));
    return true;
}

/* Cheap questions first: whether the name is free is a look-up, a certificate chain is not.  The
 * claimed name of the AK that the look-up used is the computed one, or the judge refuses it. */
static bool take_keys(ForePam *pam, ForeRecord *record, const json_t *info, GError **error)
{
    g_auto(ForePamKeysClaim) claim = {.ek_public = NULL};
    g_autoptr(GBytes) ak_name = NULL;

    return read_keys(record, info, &claim, error) && identity_is_free(pam, record, error) &&
           fore_pam_judge_keys(pam->anchors, record->subject, &claim,
                               g_get_real_time() / G_USEC_PER_SEC, &ak_name, error);
}

/* What may change under a name that keeps its keys. */
static void swap_place(ForeRecord *a, ForeRecord *b)
{
    ForeRecord was = *a;

    a->address = b->address;
    a->pathway = b->pathway;
    memcpy(a->name, b->name, sizeof(a->name));
    memcpy(a->owner, b->owner, sizeof(a->owner));
    b->address = was.address;
    b->pathway = was.pathway;
    memcpy(b->name, was.name, sizeof(b->name));
    memcpy(b->owner, was.owner, sizeof(b->owner));
}

/* Stores @record (transfer full), or, when the same keys are enrolled, only what is not identity.
 */
static bool store(ForePam *pam, ForeRecord *record, const char *peer_pin, bool may_move,
                  GError **error)
{
    ForeRecord *old = fore_inventory_find(pam->inventory, record->id);
    ForeChange change = {.what = "enrolled", .id = record->id, .peer = peer_pin};
    g_autofree char *detail =
        g_strdup_printf("%s ak %s at %s", fore_role_names[record->role], record->ak_name_hex,
                        record->address != NULL ? record->address : "-");

    change.detail = detail;
    if (old == NULL) {
        return fore_inventory_add(pam->inventory, record, &change, error);
    }
    change.what = "proved-again";
    if (!may_move) {
        fore_record_free(record);
        change.id = old->id;
        return fore_inventory_save(pam->inventory, &change, error);
    }
    if (record->owner[0] == '\0') {
        g_strlcpy(record->owner, old->owner, sizeof(record->owner)); /* none named: as it was */
    }
    swap_place(old, record);
    if (!fore_inventory_save(pam->inventory, &change, error)) {
        swap_place(old, record);
        fore_record_free(record);
        return false;
    }
    fore_record_free(record);
    return true;
}

/* --- nodes: the PAM asks the attester itself --- */

/* Answers the operator; the enrolment is over. */
static void node_over(NodeEnrolment *e, json_t *answer, GError *error)
{
    ForeCall *call = g_steal_pointer(&e->call);

    if (error != NULL) {
        g_message("node was not enrolled: %s", error->message);
        fore_pam_fail_with(call, error);
    } else {
        fore_call_return(call, answer);
    }
    g_hash_table_remove(e->pam->node_enrolments, e->id);
}

static void on_node_activated(const json_t *ret, const GError *why, gpointer data)
{
    NodeEnrolment *e = data;
    GError *error = NULL;
    g_autoptr(GBytes) secret = NULL;
    g_autofree char *ak_name = NULL;

    if (ret == NULL) {
        error = g_error_copy(why);
        g_prefix_error(&error,
                       "attester of '%s' does not activate the credential: ", e->record->id);
        node_over(e, NULL, error);
        return;
    }
    if (!fore_json_get_bytes(ret, "secret", FORE_PAM_SECRET_SIZE, &secret, NULL) ||
        !fore_pam_credential_matches(&e->credential, secret)) {
        node_over(e, NULL,
                  g_error_new(FORE_ERROR, FORE_ERROR_UNTRUSTED,
                              "the TPM of '%s' does not hold both its EK and its AK",
                              e->record->id));
        return;
    }
    if (!identity_is_free(e->pam, e->record, &error)) {
        node_over(e, NULL, error);
        return;
    }
    ak_name = g_strdup(e->record->ak_name_hex);
    store(e->pam, g_steal_pointer(&e->record), e->peer_pin, true, &error);
    node_over(e, error == NULL ? json_pack("{s:s}", "ak-name", ak_name) : NULL, error);
}

static bool check_node_info(NodeEnrolment *e, const json_t *info, GError **error)
{
    const ForePamConfig *config = e->pam->config;
    const char *id, *role;

    if (!fore_json_get_string(info, "id", &id, error) ||
        !fore_json_get_string(info, "role", &role, error) ||
        !fore_json_get_bool(info, "software-tpm", &e->record->software_tpm, error)) {
        return false;
    }
    if (strcmp(id, e->record->id) != 0 || fore_role_from_name(role) != e->record->role) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "the attester there says it is '%.64s', %.32s; wanted '%s', %s", id, role,
                    e->record->id, fore_role_names[e->record->role]);
        return false;
    }
    if (e->record->software_tpm && !config->allow_software_tpm) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "'%s' has a software TPM; only allow-software-tpm = true accepts that", id);
        return false;
    }
    return take_keys(e->pam, e->record, info, error) &&
           fore_pam_credential_init(&e->credential, e->record->ek_public, e->record->ak_name,
                                    error);
}

static void on_node_info(const json_t *ret, const GError *why, gpointer data)
{
    NodeEnrolment *e = data;
    GError *error = NULL;

    if (ret == NULL) {
        error = g_error_copy(why);
        g_prefix_error(&error, "attester of '%s' at '%s': ", e->record->id, e->record->address);
        node_over(e, NULL, error);
        return;
    }
    if (!check_node_info(e, ret, &error)) {
        node_over(e, NULL, error);
        return;
    }
    fore_ask_free(e->ask);
    e->ask =
        fore_pam_ask(e->pam, e->record->address, e->record->pin, "attester-activate",
                     json_pack("{s:o, s:o}", "credential-blob", fore_json_bytes(e->credential.blob),
                               "encrypted-secret", fore_json_bytes(e->credential.encrypted)),
                     on_node_activated, e);
}

/* The host agent that a node or VM belongs to; optional. */
static bool read_agent(const json_t *arguments, const char **ret, GError **error)
{
    *ret = "";
    if (json_object_get(arguments, "agent") == NULL) {
        return true;
    }
    if (!fore_json_get_string(arguments, "agent", ret, error)) {
        return false;
    }
    if (!fore_keyfile_pin_is_valid(*ret)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "agent must be the 64 hex digits that 'foreseed --print-pin' shows");
        return false;
    }
    return true;
}

static ForeRecord *read_node_request(const json_t *arguments, GError **error)
{
    const char *id, *role_name, *address, *pin, *agent;
    ForeRole role;
    ForeRecord *record;

    if (!fore_json_get_string(arguments, "id", &id, error) ||
        !fore_json_get_string(arguments, "role", &role_name, error) ||
        !fore_json_get_string(arguments, "address", &address, error) ||
        !fore_json_get_string(arguments, "pin", &pin, error) ||
        !read_agent(arguments, &agent, error)) {
        return NULL;
    }
    role = fore_role_from_name(role_name);
    if (!fore_name_is_valid(id) || fore_uuid_is_valid(id) || strcmp(id, "guest") == 0 ||
        role == FORE_ROLE_GUEST || role == FORE_ROLE_N || strlen(address) > 255 ||
        !fore_keyfile_pin_is_valid(pin)) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_INVALID,
            "want id (a name), role (hypervisor, switch, storage), address (tcp:HOST:PORT or "
            "unix:PATH) and pin (what 'foresee-attester --print-pin' shows)");
        return NULL;
    }
    record = fore_record_new(FORE_SUBJECT_NODE, id);
    record->role = role;
    record->address = g_strdup(address);
    record->pin = g_strdup(pin);
    g_strlcpy(record->owner, agent, sizeof(record->owner));
    record->enrolled_s = g_get_real_time() / G_USEC_PER_SEC;
    return record;
}

void fore_pam_enroll_node(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    GError *error = NULL;
    g_autoptr(ForeRecord) record = read_node_request(fore_call_arguments(call), &error);
    NodeEnrolment *e;

    if (record == NULL) {
        fore_pam_fail_with(call, error);
        return;
    }
    if (g_hash_table_contains(pam->node_enrolments, record->id) ||
        g_hash_table_size(pam->node_enrolments) >= MAX_ENROLLING) {
        fore_pam_fail(call, FORE_ERROR_EXISTS, "'%s' is being enrolled just now", record->id);
        return;
    }
    e = g_new0(NodeEnrolment, 1);
    e->pam = pam;
    e->call = call;
    g_strlcpy(e->peer_pin, peer->pin, sizeof(e->peer_pin));
    e->record = g_steal_pointer(&record);
    g_strlcpy(e->id, e->record->id, sizeof(e->id));
    g_hash_table_insert(pam->node_enrolments, e->id, e);
    e->ask = fore_pam_ask(pam, e->record->address, e->record->pin, "attester-info", NULL,
                          on_node_info, e);
}

/* --- VMs: foreseed carries the credential to the SEA and the secret back --- */

/* A pathway names enrolled nodes, each once, and at least the hypervisor that runs the VM. */
static bool read_pathway(ForePam *pam, const json_t *arguments, ForeRecord *record, GError **error)
{
    json_t *pathway;
    bool has_hypervisor = false;

    if (!fore_json_get_array(arguments, "pathway", FORE_PATHWAY_MAX, &pathway, error)) {
        return false;
    }
    record->pathway = g_new0(char *, json_array_size(pathway) + 1);
    for (size_t i = 0; i < json_array_size(pathway); i++) {
        const char *id = json_string_value(json_array_get(pathway, i));
        const ForeRecord *node = id != NULL ? fore_inventory_find(pam->inventory, id) : NULL;

        if (node == NULL || node->subject != FORE_SUBJECT_NODE ||
            g_strv_contains((const char *const *)record->pathway, id)) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND,
                        "pathway node '%.64s' is not enrolled, or named twice; see query-nodes",
                        id != NULL ? id : "(no text)");
            return false;
        }
        has_hypervisor = has_hypervisor || node->role == FORE_ROLE_HYPERVISOR;
        record->pathway[i] = g_strdup(id);
    }
    if (!has_hypervisor) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "the pathway names no hypervisor, so nothing would vouch for the VM's host");
        return false;
    }
    return true;
}

/* Everything but the keys. */
static ForeRecord *read_vm_request(ForePam *pam, const ForePamPeer *peer, const json_t *arguments,
                                   json_t **ret_info, GError **error)
{
    const char *id, *name, *told, *agent;
    int64_t seq;
    g_autoptr(ForeRecord) record = NULL;

    if (!fore_json_get_string(arguments, "vm", &id, error) ||
        !fore_json_get_string(arguments, "name", &name, error) ||
        !fore_json_get_object(arguments, "info", ret_info, error) ||
        !fore_json_get_string(*ret_info, "vm-uuid", &told, error) ||
        !fore_json_get_int(*ret_info, "seq", 0, INT64_MAX / 2, &seq, error) ||
        !read_agent(arguments, &agent, error)) {
        return NULL;
    }
    if (!fore_uuid_is_valid(id) || !fore_name_is_valid(name) || strcmp(id, told) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "want vm (lower-case UUID, the same in info) and name; got '%.40s', '%.64s'",
                    id, name);
        return NULL;
    }
    record = fore_record_new(FORE_SUBJECT_VM, id);
    g_strlcpy(record->name, name, sizeof(record->name));
    g_strlcpy(record->owner, peer->is_operator ? agent : peer->pin, sizeof(record->owner));
    record->role = FORE_ROLE_GUEST;
    record->seq = (uint64_t)seq;
    record->software_tpm = true;
    record->enrolled_s = g_get_real_time() / G_USEC_PER_SEC;
    return read_pathway(pam, arguments, record, error) ? g_steal_pointer(&record) : NULL;
}

/* Another enrolment of the same VM is open: one of this peer gives way, another peer's stays. */
static bool make_way(ForePam *pam, const char *vm, const char *pin, GError **error)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, pam->enrolments);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        VmEnrolment *other = value;

        if (strcmp(other->record->id, vm) != 0) {
            continue;
        }
        if (strcmp(other->peer_pin, pin) != 0) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS, "'%s' is being enrolled just now",
                        vm);
            return false;
        }
        g_hash_table_iter_remove(&iter);
    }
    return true;
}

/* An agent enrols VMs of its own host only, and keeps to the pathway that stands: where a VM's
 * growth passes through is the operator's to change. */
static bool agent_may_enroll(ForePam *pam, const ForePamPeer *peer, const ForeRecord *fresh,
                             GError **error)
{
    const ForeRecord *old = fore_inventory_find(pam->inventory, fresh->id);

    if (peer->is_operator) {
        return true;
    }
    for (unsigned i = 0; fresh->pathway[i] != NULL; i++) {
        const ForeRecord *node = fore_inventory_find(pam->inventory, fresh->pathway[i]);

        if (node->owner[0] != '\0' && strcmp(node->owner, peer->pin) != 0) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                        "node '%s' belongs to host agent %.16s, so %.16s enrols no VM on it",
                        node->id, node->owner, peer->pin);
            return false;
        }
    }
    if (old == NULL) {
        return true;
    }
    if (!fore_pam_owns(peer, old, error)) {
        return false;
    }
    if (!g_strv_equal((const char *const *)old->pathway, (const char *const *)fresh->pathway)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "VM '%s' is enrolled with another pathway; only an operator may change it",
                    fresh->id);
        return false;
    }
    return true;
}

static gboolean on_enrolment_expiry(gpointer data)
{
    VmEnrolment *e = data;

    g_hash_table_remove(e->pam->enrolments, e->id);
    return G_SOURCE_REMOVE;
}

static VmEnrolment *vm_enrolment_new(ForePam *pam, const ForePamPeer *peer, ForeRecord *record,
                                     GError **error)
{
    VmEnrolment *e = g_new0(VmEnrolment, 1);

    e->pam = pam;
    e->record = record;
    e->is_operator = peer->is_operator;
    g_strlcpy(e->peer_pin, peer->pin, sizeof(e->peer_pin));
    if (!fore_pam_session_id(e->id, error) ||
        !fore_pam_credential_init(&e->credential, record->ek_public, record->ak_name, error)) {
        vm_enrolment_free(e);
        return NULL;
    }
    e->expiry = g_timeout_source_new(pam->config->session_ms);
    g_source_set_callback(e->expiry, on_enrolment_expiry, e, NULL);
    g_source_attach(e->expiry, pam->context);
    return e;
}

void fore_pam_enroll_vm(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    GError *error = NULL;
    ForeRecord *record = NULL;
    VmEnrolment *e;
    json_t *info;

    if (g_hash_table_size(pam->enrolments) >= MAX_ENROLLING) {
        fore_pam_fail(call, FORE_ERROR_LIMIT, "%d VMs are being enrolled already", MAX_ENROLLING);
        return;
    }
    record = read_vm_request(pam, peer, fore_call_arguments(call), &info, &error);
    if (record != NULL &&
        (!make_way(pam, record->id, peer->pin, &error) ||
         !agent_may_enroll(pam, peer, record, &error) || !take_keys(pam, record, info, &error))) {
        g_clear_pointer(&record, fore_record_free);
    }
    e = record != NULL ? vm_enrolment_new(pam, peer, record, &error) : NULL;
    if (e == NULL) {
        g_message("VM was not enrolled: %s", error->message);
        fore_pam_fail_with(call, error);
        return;
    }
    g_hash_table_insert(pam->enrolments, e->id, e);
    fore_call_return(call, json_pack("{s:s, s:o, s:o}", "session", e->id, "credential-blob",
                                     fore_json_bytes(e->credential.blob), "encrypted-secret",
                                     fore_json_bytes(e->credential.encrypted)));
}

static bool conclude_vm(VmEnrolment *e, const json_t *arguments, char **ret_ak_name, GError **error)
{
    g_autoptr(GBytes) secret = NULL;

    if (!fore_json_get_bytes(arguments, "secret", 64, &secret, error)) {
        return false;
    }
    if (!fore_pam_credential_matches(&e->credential, secret)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "the vTPM of VM '%s' does not hold both its EK and its AK", e->record->id);
        return false;
    }
    if (!identity_is_free(e->pam, e->record, error)) {
        return false;
    }
    *ret_ak_name = g_strdup(e->record->ak_name_hex);
    return store(e->pam, g_steal_pointer(&e->record), e->peer_pin, e->is_operator, error);
}

void fore_pam_activate_vm(ForePam *pam, const ForePamPeer *peer, ForeCall *call)
{
    GError *error = NULL;
    const char *id;
    VmEnrolment *e;
    g_autofree char *ak_name = NULL;

    if (!fore_json_get_string(fore_call_arguments(call), "session", &id, &error)) {
        fore_pam_fail_with(call, error);
        return;
    }
    e = g_hash_table_lookup(pam->enrolments, id);
    if (e == NULL || strcmp(e->peer_pin, peer->pin) != 0) {
        fore_pam_fail(call, FORE_ERROR_NOT_FOUND,
                      "no enrolment of that name is open: it failed, has expired, or is another "
                      "peer's; enroll-vm again");
        return;
    }
    g_hash_table_steal(pam->enrolments, e->id); /* one try, whatever comes of it */
    if (conclude_vm(e, fore_call_arguments(call), &ak_name, &error)) {
        fore_call_return(call, json_pack("{s:s}", "ak-name", ak_name));
    } else {
        g_message("VM was not enrolled: %s", error->message);
        fore_pam_fail_with(call, error);
    }
    vm_enrolment_free(e);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM may be removed while an answer is under way, so the exchange looks it up by name at each
 * step.  An answer of the guest never comes then: whoever waits for one is on the VM's list.
 */
#include "qmp-agent/fore-enrol.h"

#include "common/fore-error.h"

#define STEP_MS 15000 /* a guest's TPM makes its keys on the first use: seconds under TCG */

typedef struct {
    ForeAgent *agent;
    char *name;
    char *session;
    json_t *pathway;
    ForeCall *call;
} Enrol;

static void enrol_free(Enrol *e)
{
    json_decref(e->pathway);
    g_free(e->name);
    g_free(e->session);
    g_free(e);
}

static void ask_guest(Enrol *e, ForeVm *vm, const char *command, json_t *arguments,
                      ForeWireReply reply)
{
    vm->enrols = g_slist_prepend(vm->enrols, e);
    fore_link_execute(vm->sea, command, arguments, STEP_MS, reply, e);
}

static void heard_guest(Enrol *e)
{
    ForeVm *vm = fore_agent_find(e->agent, e->name, NULL);

    if (vm != NULL) {
        vm->enrols = g_slist_remove(vm->enrols, e);
    }
}

static void fail(Enrol *e, const char *step, const GError *error)
{
    g_autoptr(GError) why =
        g_error_new(FORE_ERROR, error->domain == FORE_ERROR ? error->code : FORE_ERROR_FAILED,
                    "cannot enrol '%s': %s: %s", e->name, step, error->message);

    fore_call_fail(e->call, why);
    enrol_free(e);
}

/* The VM of the exchange, or NULL when it was removed (then the exchange has ended). */
static ForeVm *vm_of(Enrol *e)
{
    g_autoptr(GError) gone = NULL;
    ForeVm *vm = fore_agent_find(e->agent, e->name, &gone);

    if (vm == NULL) {
        fail(e, "look-up", gone);
    }
    return vm;
}

static void on_enrolled(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    Enrol *e = data;
    g_autoptr(GError) why = NULL;
    ForeVm *vm;
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    json_t *item;
    size_t i;

    if (ret == NULL) {
        fail(e, "the PAM refused the activation", error);
        return;
    }
    vm = vm_of(e);
    if (vm == NULL) {
        return;
    }
    json_array_foreach (e->pathway, i, item) {
        g_ptr_array_add(nodes, g_strdup(json_string_value(item)));
    }
    g_ptr_array_add(nodes, NULL);
    g_strfreev(vm->pathway);
    vm->pathway = (char **)g_ptr_array_free(g_steal_pointer(&nodes), FALSE);
    if (!fore_agent_save(e->agent, vm, &why)) {
        fail(e, "saving", why);
        return;
    }
    fore_call_return(e->call, json_deep_copy(ret));
    enrol_free(e);
}

static void on_activated(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    Enrol *e = data;
    const char *secret = json_string_value(json_object_get(ret, "secret"));

    heard_guest(e);
    if (ret == NULL || secret == NULL) {
        g_autoptr(GError) none =
            g_error_new(FORE_ERROR, FORE_ERROR_INVALID, "no secret in the answer");
        fail(e, "the guest's TPM did not activate the credential", error != NULL ? error : none);
        return;
    }
    fore_link_execute(fore_agent_pam(e->agent), "activate-vm",
                      json_pack("{s:s,s:s}", "session", e->session, "secret", secret), STEP_MS,
                      on_enrolled, e);
}

static void on_challenged(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    Enrol *e = data;
    g_autoptr(GError) why = NULL;
    const char *session = NULL, *blob = NULL, *secret = NULL;
    ForeVm *vm;

    if (ret == NULL) {
        fail(e, "the PAM refused", error);
        return;
    }
    if (!fore_json_get_string(ret, "session", &session, &why) ||
        !fore_json_get_string(ret, "credential-blob", &blob, &why) ||
        !fore_json_get_string(ret, "encrypted-secret", &secret, &why)) {
        fail(e, "the PAM's answer", why);
        return;
    }
    e->session = g_strdup(session);
    vm = vm_of(e);
    if (vm != NULL) {
        ask_guest(e, vm, "sea-activate",
                  json_pack("{s:s,s:s}", "credential-blob", blob, "encrypted-secret", secret),
                  on_activated);
    }
}

static void on_info(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    Enrol *e = data;
    ForeVm *vm;

    heard_guest(e);
    if (ret == NULL) {
        fail(e, "the SEA did not answer", error);
        return;
    }
    vm = vm_of(e);
    if (vm != NULL) {
        fore_link_execute(fore_agent_pam(e->agent), "enroll-vm",
                          json_pack("{s:s,s:s,s:O,s:o}", "vm", vm->uuid, "name", vm->name,
                                    "pathway", e->pathway, "info", json_deep_copy(ret)),
                          STEP_MS, on_challenged, e);
    }
}

void fore_enrol_start(ForeVm *vm, const json_t *pathway, ForeCall *call, GError **error)
{
    Enrol *e;
    json_t *item;
    size_t i;

    if (fore_agent_pam(vm->agent) == NULL) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
            "pam-address is not set in foreseed's configuration: there is no attestation manager");
        return;
    }
    if (!json_is_array(pathway) || json_array_size(pathway) == 0 || json_array_size(pathway) > 16) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "'pathway' must name 1..16 enrolled nodes, the hypervisor among them");
        return;
    }
    json_array_foreach ((json_t *)pathway, i, item) {
        if (!fore_name_is_valid(json_string_value(item))) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "'pathway' entry %zu is no node id",
                        i);
            return;
        }
    }
    e = g_new0(Enrol, 1);
    e->agent = vm->agent;
    e->name = g_strdup(vm->name);
    e->pathway = json_deep_copy(pathway);
    e->call = call;
    ask_guest(e, vm, "sea-info", NULL, on_info);
}

void fore_enrol_forget_vm(ForeVm *vm)
{
    g_autoptr(GSList) all = g_steal_pointer(&vm->enrols);

    for (GSList *l = all; l != NULL; l = l->next) {
        g_autoptr(GError) gone =
            g_error_new(FORE_ERROR, FORE_ERROR_NOT_FOUND, "the VM was removed meanwhile");
        fail(l->data, "look-up", gone);
    }
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp-agent/fore-control.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "qmp-agent/fore-anomaly-view.h"
#include "qmp-agent/fore-attest.h"
#include "qmp-agent/fore-enrol.h"
#include "qmp-agent/fore-plot-view.h"
#include "qmp-agent/fore-reattest.h"
#include "qmp-agent/fore-store-view.h"
#include "qmp-agent/fore-view.h"

#define MAX_CLIENTS 128

struct ForeControl {
    ForeAgent *agent;
    int fd;
    GSource *source;
    GPtrArray *clients; /* ForeWire */
    ForeStoreView *store_view;
    char *path; /* socket file to remove at the end, or NULL */
};

typedef void (*Handler)(ForeControl *control, ForeCall *call, const json_t *args, GError **error);

/* Each handler answers the call, or sets @error and leaves the call to the dispatcher. */

static ForeVm *named_vm(ForeControl *control, const json_t *args, GError **error)
{
    const char *name = NULL;

    if (!fore_json_get_string(args, "name", &name, error)) {
        return NULL;
    }
    return fore_agent_find(control->agent, name, error);
}

static void do_vm_add(ForeControl *control, ForeCall *call, const json_t *args, GError **error)
{
    if (fore_agent_add(control->agent, args, error) != NULL) {
        fore_call_return(call, NULL);
    }
}

static void do_vm_remove(ForeControl *control, ForeCall *call, const json_t *args, GError **error)
{
    const char *name = NULL;

    if (fore_json_get_string(args, "name", &name, error) &&
        fore_agent_remove(control->agent, name, error)) {
        fore_call_return(call, NULL);
    }
}

static void do_vm_set(ForeControl *control, ForeCall *call, const json_t *args, GError **error)
{
    ForeVm *vm = named_vm(control, args, error);

    if (vm != NULL && fore_vm_set_policy(vm, json_object_get(args, "policy"), error) &&
        fore_agent_save(control->agent, vm, error)) {
        fore_call_return(call, NULL);
    }
}

static void do_query_vms(ForeControl *control, ForeCall *call, const json_t *args, GError **error)
{
    g_autoptr(GList) vms = NULL;
    json_t *list;

    if (json_object_get(args, "name") != NULL) {
        ForeVm *vm = named_vm(control, args, error);
        if (vm != NULL) {
            fore_call_return(call, json_pack("{s:[o]}", "vms", fore_view_vm(vm)));
        }
        return;
    }
    list = json_array();
    vms = fore_agent_vms(control->agent);
    for (GList *l = vms; l != NULL; l = l->next) {
        json_array_append_new(list, fore_view_vm(l->data));
    }
    fore_call_return(call, json_pack("{s:o}", "vms", list));
}

static void do_query_forecast(ForeControl *control, ForeCall *call, const json_t *args,
                              GError **error)
{
    ForeVm *vm = named_vm(control, args, error);

    if (vm != NULL) {
        fore_call_return(call, fore_view_forecast(vm));
    }
}

static void do_explain(ForeControl *control, ForeCall *call, const json_t *args, GError **error)
{
    ForeVm *vm = named_vm(control, args, error);

    if (vm != NULL) {
        fore_call_return(call, fore_view_explain(vm));
    }
}

static void do_query_ledger(ForeControl *control, ForeCall *call, const json_t *args,
                            GError **error)
{
    ForeVm *vm = json_object_get(args, "name") != NULL ? named_vm(control, args, error) : NULL;

    if (error != NULL && *error != NULL) {
        return;
    }
    fore_call_return(call, fore_view_ledger(control->agent, vm != NULL ? vm->name : NULL));
}

static void do_query_attestation(ForeControl *control, ForeCall *call, const json_t *args,
                                 GError **error)
{
    ForeVm *vm = named_vm(control, args, error);

    if (vm != NULL) {
        fore_call_return(call, fore_view_attestation(vm));
    }
}

static void on_attested(ForeVm *vm, const ForeGrantRef *ref, const json_t *answer, gpointer data)
{
    ForeCall *call = data;

    if (vm != NULL) {
        fore_reattest_judge(vm, ref, answer);
    }
    if (vm != NULL && answer != NULL) {
        fore_call_return(call, fore_view_attestation(vm));
    } else {
        g_autoptr(GError) why =
            g_error_new(FORE_ERROR, FORE_ERROR_UNAVAILABLE, "no verdict on '%s': %s",
                        vm != NULL ? vm->name : "a VM removed meanwhile", ref->reason);
        fore_call_fail(call, why);
    }
}

static void do_attest(ForeControl *control, ForeCall *call, const json_t *args, GError **error)
{
    ForeVm *vm = named_vm(control, args, error);
    ForePlan plan = {0}; /* nothing is asked for: a verdict, no grant */

    if (vm == NULL) {
        return;
    }
    if (fore_agent_pam(control->agent) == NULL) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
            "pam-address is not set in foreseed's configuration: there is no attestation manager");
        return;
    }
    fore_attest_start(vm, &plan, on_attested, call);
}

static void do_vm_enroll(ForeControl *control, ForeCall *call, const json_t *args, GError **error)
{
    ForeVm *vm = named_vm(control, args, error);

    if (vm != NULL) {
        fore_enrol_start(vm, json_object_get(args, "pathway"), call, error);
    }
}

static void do_train(ForeControl *control, ForeCall *call, const json_t *args, GError **error)
{
    ForeTrainConfig config = {.seed = 1};
    int64_t n = 0;
    const char *name = NULL;
    bool resume = false;

    if (json_object_get(args, "epochs") != NULL) {
        if (!fore_json_get_int(args, "epochs", 1, 100000, &n, error)) {
            return;
        }
        config.max_epochs = (unsigned)n;
    }
    if (json_object_get(args, "seed") != NULL) {
        if (!fore_json_get_int(args, "seed", 0, INT64_MAX, &n, error)) {
            return;
        }
        config.seed = (uint64_t)n;
    }
    if (json_object_get(args, "name") != NULL &&
        !fore_json_get_string(args, "name", &name, error)) {
        return;
    }
    if (json_object_get(args, "resume") != NULL &&
        !fore_json_get_bool(args, "resume", &resume, error)) {
        return;
    }
    if (resume && (name != NULL || json_object_size(args) > 1)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "'resume' goes on as the training began; give nothing beside it");
        return;
    }
    if (fore_agent_train(control->agent, name, &config, resume, error)) {
        fore_call_return(call, NULL);
    }
}

static void add_event(int64_t id, int64_t wall_ms, const char *vm, const char *text, gpointer data)
{
    json_t *object = fore_json_parse(text, strlen(text), &fore_json_limits_peer, NULL);

    if (object != NULL) {
        json_object_set_new(object, "id", json_integer(id));
        json_object_set_new(object, "time", json_real((double)wall_ms / 1000));
        json_array_append_new(data, object);
    }
}

static void do_query_events(ForeControl *control, ForeCall *call, const json_t *args,
                            GError **error)
{
    int64_t after = 0, limit = 500;
    json_t *events;

    if ((json_object_get(args, "after-id") != NULL &&
         !fore_json_get_int(args, "after-id", 0, INT64_MAX, &after, error)) ||
        (json_object_get(args, "limit") != NULL &&
         !fore_json_get_int(args, "limit", 1, 1000, &limit, error))) {
        return;
    }
    events = json_array();
    if (!fore_store_each_event(fore_agent_store(control->agent), after, (unsigned)limit, add_event,
                               events, error)) {
        json_decref(events);
        return;
    }
    fore_call_return(call, json_pack("{s:o}", "events", events));
}

static void do_query_anomalies(ForeControl *control, ForeCall *call, const json_t *args,
                               GError **error)
{
    json_t *answer = fore_view_anomalies(control->agent, args, error);

    if (answer != NULL) {
        fore_call_return(call, answer);
    }
}

static void do_query_history(ForeControl *control, ForeCall *call, const json_t *args,
                             GError **error)
{
    json_t *answer = fore_view_history(control->agent, args, error);

    if (answer != NULL) {
        fore_call_return(call, answer);
    }
}

static void do_query_status(ForeControl *control, ForeCall *call, const json_t *args,
                            GError **error)
{
    fore_call_return(call, fore_view_status(control->agent));
}

static const struct {
    const char *name;
    Handler handler;
} commands[] = {
    {"vm-add", do_vm_add},
    {"vm-remove", do_vm_remove},
    {"vm-set", do_vm_set},
    {"vm-enroll", do_vm_enroll},
    {"query-vms", do_query_vms},
    {"query-forecast", do_query_forecast},
    {"query-ledger", do_query_ledger},
    {"query-attestation", do_query_attestation},
    {"query-status", do_query_status},
    {"query-anomalies", do_query_anomalies},
    {"query-events", do_query_events},
    {"query-history", do_query_history},
    {"attest", do_attest},
    {"explain", do_explain},
    {"train", do_train},
};

static void on_command(ForeWire *wire, ForeCall *call, gpointer data)
{
    g_autoptr(GError) error = NULL;
    ForeControl *control = data;

    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, fore_call_command(call)) == 0) {
            commands[i].handler(data, call, fore_call_arguments(call), &error);
            if (error != NULL) {
                fore_call_fail(call, error);
            }
            return;
        }
    }
    if (!fore_store_view_call(control->store_view, call, &error)) {
        error = g_error_new(FORE_ERROR, FORE_ERROR_NOT_FOUND, "no command '%s'",
                            fore_call_command(call));
    }
    if (error != NULL) {
        fore_call_fail(call, error);
    }
}

static void on_closed(ForeWire *wire, const GError *why, gpointer data)
{
    ForeControl *control = data;

    g_ptr_array_remove_fast(control->clients, wire);
}

static gboolean on_connection(gint fd, GIOCondition condition, gpointer data)
{
    static const ForeWireOps ops = {NULL, on_command, NULL, on_closed};
    ForeWireConfig config = {.json = fore_json_limits_peer};
    ForeControl *control = data;
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (client < 0) {
        return G_SOURCE_CONTINUE;
    }
    if (control->clients->len >= MAX_CLIENTS) {
        close(client);
        return G_SOURCE_CONTINUE;
    }
    g_ptr_array_add(control->clients,
                    fore_wire_new(fore_agent_context(control->agent), client, NULL,
                                  FORE_WIRE_SERVER, &config, &ops, control));
    return G_SOURCE_CONTINUE;
}

static void broadcast(const char *event, const json_t *ev_data, gpointer data)
{
    ForeControl *control = data;

    for (guint i = 0; i < control->clients->len; i++) {
        fore_wire_event(control->clients->pdata[i], event, json_incref((json_t *)ev_data));
    }
}

ForeControl *fore_control_new(ForeAgent *agent, GError **error)
{
    const char *address = fore_agent_config(agent)->control;
    ForeControl *control;
    int fd = fore_listen(address, error);

    if (fd < 0) {
        return NULL;
    }
    control = g_new0(ForeControl, 1);
    control->agent = agent;
    control->fd = fd;
    control->store_view = fore_store_view_new(fore_agent_context(agent), fore_agent_store(agent),
                                              fore_agent_config(agent), false);
    control->path = g_str_has_prefix(address, "unix:") ? g_strdup(address + 5) : NULL;
    control->clients = g_ptr_array_new_with_free_func((GDestroyNotify)fore_wire_free);
    control->source = g_unix_fd_source_new(fd, G_IO_IN);
    g_source_set_callback(control->source, G_SOURCE_FUNC(on_connection), control, NULL);
    g_source_attach(control->source, fore_agent_context(agent));
    fore_agent_listen(agent, broadcast, control);
    return control;
}

void fore_control_free(ForeControl *control)
{
    if (control == NULL) {
        return;
    }
    fore_agent_listen(control->agent, NULL, NULL);
    g_source_destroy(control->source);
    g_source_unref(control->source);
    g_ptr_array_unref(control->clients);
    fore_store_view_free(control->store_view);
    close(control->fd);
    if (control->path != NULL) {
        unlink(control->path);
    }
    g_free(control->path);
    g_free(control);
}

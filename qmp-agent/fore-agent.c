/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp-agent/fore-agent.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "common/fore-signed.h"
#include "qmp-agent/fore-attest.h"
#include "qmp-agent/fore-store-key.h"
#include "qmp-agent/fore-train-job.h"
#include "qmp-agent/fore-vm.h"

#define MAX_VMS 4096

struct ForeAgent {
    GMainContext *context;
    ForeConfig *config;
    ForeIdentity *identity;
    ForeStore *store;
    ForeLedger *ledger;
    ForeModel *model;
    ForeTrainJob *training;
    GPtrArray *stale; /* keys of ledger records to delete, while starting */
    ForeLink *pam;
    GHashTable *attests; /* set of ForeAttest under way */
    GHashTable *vms;     /* name -> ForeVm */
    GSource *tick;
    ForeAgentEvent listener;
    gpointer listener_data;
    uint64_t started_ns;
    int lock_fd;
};

static uint64_t now_ns(void)
{
    return (uint64_t)g_get_monotonic_time() * 1000;
}

GMainContext *fore_agent_context(ForeAgent *agent)
{
    return agent->context;
}

const ForeConfig *fore_agent_config(const ForeAgent *agent)
{
    return agent->config;
}

ForeIdentity *fore_agent_identity(ForeAgent *agent)
{
    return agent->identity;
}

ForeStore *fore_agent_store(ForeAgent *agent)
{
    return agent->store;
}

ForeLedger *fore_agent_ledger(ForeAgent *agent)
{
    return agent->ledger;
}

GHashTable *fore_agent_attests(ForeAgent *agent)
{
    return agent->attests;
}

ForeLink *fore_agent_pam(ForeAgent *agent)
{
    return agent->pam;
}

ForeModel *fore_agent_model(ForeAgent *agent)
{
    return agent->model;
}

uint64_t fore_agent_started_ns(const ForeAgent *agent)
{
    return agent->started_ns;
}

void fore_agent_listen(ForeAgent *agent, ForeAgentEvent fn, gpointer data)
{
    agent->listener = fn;
    agent->listener_data = data;
}

void fore_agent_emit(ForeAgent *agent, ForeVm *vm, const char *event, json_t *ev_data, bool log)
{
    if (ev_data == NULL) {
        ev_data = json_object(); /* a number or text that JSON cannot carry: tell the rest */
    }
    if (vm != NULL) {
        json_object_set_new(ev_data, "name", json_string(vm->name));
    }
    if (log) {
        g_autoptr(json_t) record = json_pack("{s:s,s:O}", "event", event, "data", ev_data);
        g_autofree char *text = fore_json_dump_line(record);
        /* The log is best effort: a full disk is told by the store's health, not by each event. */
        fore_store_event(agent->store, g_get_real_time() / 1000, vm != NULL ? vm->name : "", text,
                         NULL);
    }
    if (agent->listener != NULL) {
        agent->listener(event, ev_data, agent->listener_data);
    }
    json_decref(ev_data);
}

/* --- model --- */

/* model.fore, and train.checkpoint beside it; both are signed by the key of this host. */
static char *model_path(const ForeAgent *agent)
{
    return g_build_filename(agent->config->state_dir, "model.fore", NULL);
}

static char *checkpoint_path(const ForeAgent *agent)
{
    return g_build_filename(agent->config->state_dir, "train.checkpoint", NULL);
}

static void use_model(ForeAgent *agent, ForeModel *model)
{
    GHashTableIter iter;
    gpointer vm;

    fore_model_unref(agent->model);
    agent->model = model;
    g_hash_table_iter_init(&iter, agent->vms);
    while (g_hash_table_iter_next(&iter, NULL, &vm)) {
        fore_vm_set_model(vm, model);
    }
}

static ForeModel *open_model(ForeAgent *agent, const char *data, gsize size, GError **error)
{
    g_autoptr(GBytes) inside =
        fore_signed_open(fore_identity_key(agent->identity), "weights", data, size, error);

    return inside == NULL
               ? NULL
               : fore_model_decode(g_bytes_get_data(inside, NULL), g_bytes_get_size(inside), error);
}

static void load_model(ForeAgent *agent)
{
    g_autofree char *path = model_path(agent), *checkpoint = checkpoint_path(agent), *data = NULL;
    g_autoptr(GError) why = NULL;
    gsize size = 0;
    ForeModel *model;

    if (g_file_test(checkpoint, G_FILE_TEST_EXISTS)) {
        g_message("a training was interrupted; 'foresee train --resume' goes on with it");
    }
    if (!g_file_get_contents(path, &data, &size, &why)) {
        return; /* none was trained yet: the reactive rule alone, as query-status says */
    }
    model = open_model(agent, data, size, &why);
    if (model == NULL) {
        g_warning("model '%s' is not used: %s", path, why->message);
        return;
    }
    use_model(agent, model);
}

static bool save_model(ForeAgent *agent, const ForeModel *model, GError **error)
{
    g_autofree char *path = model_path(agent);
    g_autoptr(GBytes) bytes = fore_model_encode(model);
    g_autoptr(GBytes) file =
        fore_signed_wrap(fore_identity_key(agent->identity), "weights",
                         g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), error);

    return file != NULL &&
           g_file_set_contents_full(
               path, g_bytes_get_data(file, NULL), (gssize)g_bytes_get_size(file),
               G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600, error);
}

static void on_progress(const ForeTrainProgress *p, gpointer data)
{
    fore_agent_emit(data, NULL, "TRAIN",
                    json_pack("{s:i,s:i,s:f,s:f,s:f,s:f,s:f}", "epoch", (int)p->epoch, "max-epochs",
                              (int)p->max_epochs, "loss", p->loss, "validation-loss",
                              p->validation_loss, "best", p->best_validation_loss, "naive",
                              p->naive_validation_loss, "eta-s", p->eta_s),
                    false);
}

static void on_trained(ForeModel *model, const GError *error, gpointer data)
{
    ForeAgent *agent = data;
    g_autoptr(GError) why = NULL;

    if (model != NULL) {
        if (!save_model(agent, model, &why)) {
            error = why;
        }
        use_model(agent, fore_model_ref(model));
    }
    {
        g_autofree char *facts = model != NULL ? fore_model_describe(model) : g_strdup("");
        fore_agent_emit(agent, NULL, "MODEL",
                        json_pack("{s:b,s:s,s:s}", "ok", error == NULL, "reason",
                                  error != NULL ? error->message : "", "model", facts),
                        true);
    }
    g_clear_pointer(&agent->training, fore_train_job_free);
}

bool fore_agent_train(ForeAgent *agent, const char *name, const ForeTrainConfig *config,
                      bool resume, GError **error)
{
    g_autofree char *checkpoint = checkpoint_path(agent);
    ForeTrainOrder order = {.name = name,
                            .config = *config,
                            .resume = resume,
                            .checkpoint = checkpoint,
                            .key = fore_identity_key(agent->identity)};

    if (agent->training != NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS,
                    "training is under way; wait for its MODEL event");
        return false;
    }
    if (name != NULL && fore_agent_find(agent, name, error) == NULL) {
        return false;
    }
    agent->training = fore_train_job_new(agent->context, agent->store, &order, on_progress,
                                         on_trained, agent, error);
    return agent->training != NULL;
}

bool fore_agent_is_training(const ForeAgent *agent)
{
    return agent->training != NULL;
}

/* --- VMs --- */

ForeVm *fore_agent_find(ForeAgent *agent, const char *name, GError **error)
{
    ForeVm *vm = g_hash_table_lookup(agent->vms, name);

    if (vm == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND,
                    "no VM named '%s'; 'foresee vm list' shows the known ones", name);
    }
    return vm;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(((const ForeVm *)a)->name, ((const ForeVm *)b)->name);
}

GList *fore_agent_vms(ForeAgent *agent)
{
    return g_list_sort(g_hash_table_get_values(agent->vms), by_name);
}

bool fore_agent_save(ForeAgent *agent, ForeVm *vm, GError **error)
{
    g_autoptr(json_t) record = fore_vm_record(vm);
    g_autofree char *text = fore_json_dump_line(record);

    return fore_store_put(agent->store, "vm", vm->name, text, error);
}

static bool is_free(ForeAgent *agent, const ForeVm *vm, GError **error)
{
    GHashTableIter iter;
    gpointer p;

    if (g_hash_table_size(agent->vms) >= MAX_VMS) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT, "there are %d VMs already", MAX_VMS);
        return false;
    }
    g_hash_table_iter_init(&iter, agent->vms);
    while (g_hash_table_iter_next(&iter, NULL, &p)) {
        const ForeVm *other = p;
        if (strcmp(other->name, vm->name) == 0 || strcmp(other->uuid, vm->uuid) == 0 ||
            strcmp(other->qmp_path, vm->qmp_path) == 0 ||
            strcmp(other->sea_path, vm->sea_path) == 0) {
            g_set_error(
                error, FORE_ERROR, FORE_ERROR_EXISTS,
                "VM '%s' has the same name, UUID or socket; remove it first: foresee vm remove %s",
                other->name, other->name);
            return false;
        }
    }
    return true;
}

ForeVm *fore_agent_add(ForeAgent *agent, const json_t *record, GError **error)
{
    ForeVm *vm = fore_vm_new(agent, record, error);

    if (vm == NULL) {
        return NULL;
    }
    if (!is_free(agent, vm, error) || !fore_agent_save(agent, vm, error)) {
        fore_vm_free(vm);
        return NULL;
    }
    g_hash_table_insert(agent->vms, vm->name, vm);
    return vm;
}

bool fore_agent_remove(ForeAgent *agent, const char *name, GError **error)
{
    ForeVm *vm = fore_agent_find(agent, name, error);

    if (vm == NULL || !fore_store_delete(agent->store, "vm", name, error)) {
        return false;
    }
    fore_ledger_remove_vm(agent->ledger, vm->name);
    fore_agent_emit(agent, vm, "REMOVED", json_object(), true);
    g_hash_table_remove(agent->vms, name);
    return true;
}

static void restore_vm(const char *key, const char *text, gpointer data)
{
    ForeAgent *agent = data;
    g_autoptr(GError) why = NULL;
    g_autoptr(json_t) record = fore_json_parse(text, strlen(text), &fore_json_limits_peer, &why);
    ForeVm *vm = record != NULL ? fore_vm_new(agent, record, &why) : NULL;

    if (vm == NULL) {
        g_warning("stored VM '%s' is left out: %s", key, why->message);
        return;
    }
    g_hash_table_insert(agent->vms, vm->name, vm);
}

static int index_of(const char *name, const char *const *names, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (g_strcmp0(name, names[i]) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static void restore_entry(const char *key, const char *text, gpointer data)
{
    ForeAgent *agent = data;
    g_autoptr(GError) why = NULL;
    g_autoptr(json_t) r = fore_json_parse(text, strlen(text), &fore_json_limits_peer, &why);
    const char *vm = NULL, *resource = NULL, *state = NULL, *reason = "";
    int64_t id = 0, plan = 0;
    ForeLedgerEntry e = {0};
    int res, st;

    if (r == NULL || !fore_json_get_int(r, "id", 1, INT64_MAX, &id, &why) ||
        !fore_json_get_int(r, "plan", 0, INT64_MAX, &plan, &why) ||
        !fore_json_get_string(r, "vm", &vm, &why) ||
        !fore_json_get_string(r, "resource", &resource, &why) ||
        !fore_json_get_string(r, "state", &state, &why) ||
        !fore_json_get_string(r, "reason", &reason, &why) ||
        !fore_json_get_real(r, "from", 0, 1e18, &e.from, &why) ||
        !fore_json_get_real(r, "to", 0, 1e18, &e.to, &why)) {
        g_warning("ledger record '%s' is left out: %s", key, why->message);
        return;
    }
    if (!g_hash_table_contains(agent->vms, vm)) {
        g_ptr_array_add(agent->stale, g_strdup(key)); /* promised to a VM that was removed */
        return;
    }
    res = index_of(resource, fore_resource_names, FORE_RES_N);
    st = index_of(state, fore_ledger_state_names, FORE_LEDGER_N);
    if (res < 0 || st < 0) {
        g_warning("ledger record '%s' is left out: resource '%s', state '%s'", key, resource,
                  state);
        return;
    }
    e.id = (uint64_t)id;
    e.plan_id = (uint64_t)plan;
    e.resource = (ForeResource)res;
    e.state = (ForeLedgerState)st;
    e.since_mono_ns = (int64_t)now_ns();
    g_strlcpy(e.vm, vm, sizeof e.vm);
    g_strlcpy(e.reason, reason, sizeof e.reason);
    if (!fore_ledger_restore(agent->ledger, &e, &why)) {
        g_warning("ledger record '%s' is left out: %s", key, why->message);
    }
}

/* VMs first: what was promised to one that was removed since is no promise any more. */
static bool restore(ForeAgent *agent, GError **error)
{
    bool ok = true;

    agent->stale = g_ptr_array_new_with_free_func(g_free);
    ok = fore_store_each(agent->store, "vm", restore_vm, agent, error) &&
         fore_store_each(agent->store, "ledger", restore_entry, agent, error);
    for (guint i = 0; ok && i < agent->stale->len; i++) {
        ok = fore_store_delete(agent->store, "ledger", agent->stale->pdata[i], error);
    }
    g_clear_pointer(&agent->stale, g_ptr_array_unref);
    return ok;
}

/* All VMs see, then all are forecast as one, then all decide. */
static gboolean on_tick(gpointer data)
{
    ForeAgent *agent = data;
    guint n = 0;
    g_autofree gpointer *vms = g_hash_table_get_keys_as_array(agent->vms, &n);
    g_autofree ForeForecaster **forecasters = g_new(ForeForecaster *, n);
    g_autofree const ForeSample **samples = g_new(const ForeSample *, n);
    g_autofree ForeForecast **forecasts = g_new(ForeForecast *, n);
    uint64_t now = now_ns();

    for (guint i = 0; i < n; i++) {
        ForeVm *vm = vms[i] = g_hash_table_lookup(agent->vms, vms[i]);

        fore_vm_observe(vm, now);
        forecasters[i] = vm->forecaster;
        samples[i] = &vm->sample;
        forecasts[i] = &vm->forecast;
    }
    fore_forecaster_step_many(forecasters, samples, forecasts, n);
    for (guint i = 0; i < n; i++) {
        fore_vm_decide(vms[i]);
    }
    return G_SOURCE_CONTINUE;
}

/* --- PAM --- */

static void on_pam_up(ForeLink *link, gpointer data)
{
    fore_agent_emit(data, NULL, "SOURCE",
                    json_pack("{s:s,s:b,s:s}", "source", "pam", "ok", 1, "reason", ""), true);
}

static void on_pam_down(ForeLink *link, const GError *why, gpointer data)
{
    fore_agent_emit(
        data, NULL, "SOURCE",
        json_pack("{s:s,s:b,s:s}", "source", "pam", "ok", 0, "reason", fore_link_reason(link)),
        false);
}

/* The PAM says that it grants nothing before somebody has looked after it. */
static void on_pam_event(ForeLink *link, const char *event, const json_t *ev_data, gpointer data)
{
    const char *what = json_string_value(json_object_get(ev_data, "what"));
    const char *why = json_string_value(json_object_get(ev_data, "why"));

    if (strcmp(event, "ALARM") == 0 && what != NULL && why != NULL) {
        fore_agent_emit(data, NULL, "ALARM",
                        json_pack("{s:s,s:s,s:s}", "source", "pam", "what", what, "why", why),
                        true);
    }
}

static void connect_pam(ForeAgent *agent)
{
    static const ForeLinkOps ops = {on_pam_up, on_pam_down, on_pam_event};
    const char *pins[] = {agent->config->pam_pin, NULL};
    ForeChannelConfig channel = {
        .mode = FORE_CHANNEL_TLS_CLIENT, .identity = agent->identity, .pins = pins};
    ForeWireConfig wire = {.json = fore_json_limits_peer};

    if (agent->config->pam_address[0] != '\0') {
        agent->pam =
            fore_link_new(agent->context, agent->config->pam_address, &channel, &wire, &ops, agent);
    }
}

/* --- life --- */

/* Two masters on one host would plug twice: the state directory is ours alone. */
static bool lock_state(ForeAgent *agent, GError **error)
{
    g_autofree char *path = g_build_filename(agent->config->state_dir, "lock", NULL);

    if (g_mkdir_with_parents(agent->config->state_dir, 0700) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot make state-dir '%s': %s",
                    agent->config->state_dir, g_strerror(errno));
        return false;
    }
    agent->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (agent->lock_fd < 0 || flock(agent->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        g_set_error(error, FORE_ERROR,
                    errno == EWOULDBLOCK ? FORE_ERROR_EXISTS : FORE_ERROR_UNAVAILABLE,
                    errno == EWOULDBLOCK ? "foreseed is already running with state-dir '%s'"
                                         : "cannot lock state-dir '%s'",
                    agent->config->state_dir);
        return false;
    }
    return true;
}

static ForeLedger *host_ledger(const ForeConfig *config)
{
    double cpus =
        (double)sysconf(_SC_NPROCESSORS_ONLN) * config->overcommit - config->reserve_vcpus;
    double mem = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGE_SIZE);

    return fore_ledger_new(MAX(cpus, 0), MAX(mem - (double)config->reserve_mem_bytes, 0));
}

static bool open_store(ForeAgent *agent, GError **error)
{
    g_autofree char *path = g_build_filename(agent->config->state_dir, "store.db", NULL);
    ForeStoreTiers tiers;

    agent->store = fore_store_key_open(agent->config, path, error);
    if (agent->store == NULL || !fore_store_tiers_parse(agent->config->tiers, &tiers, error)) {
        return false;
    }
    fore_store_set_tiers(agent->store, &tiers);
    return true;
}

ForeAgent *fore_agent_new(GMainContext *context, ForeConfig *config, GError **error)
{
    ForeAgent *agent = g_new0(ForeAgent, 1);
    g_autofree char *identity = NULL;

    agent->context = g_main_context_ref(context);
    agent->config = config;
    agent->lock_fd = -1;
    agent->started_ns = now_ns();
    agent->attests = g_hash_table_new(NULL, NULL);
    agent->vms = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)fore_vm_free);
    agent->ledger = host_ledger(config);
    identity = g_build_filename(config->state_dir, "identity.pem", NULL);
    if (!lock_state(agent, error) || !open_store(agent, error) ||
        (agent->identity = fore_identity_load_or_create(identity, "foreseed", error)) == NULL) {
        fore_agent_free(agent);
        return NULL;
    }
    load_model(agent);
    connect_pam(agent);
    if (!restore(agent, error)) {
        fore_agent_free(agent);
        return NULL;
    }
    agent->tick = g_timeout_source_new(1000);
    g_source_set_callback(agent->tick, on_tick, agent, NULL);
    g_source_attach(agent->tick, agent->context);
    return agent;
}

void fore_agent_free(ForeAgent *agent)
{
    if (agent == NULL) {
        return;
    }
    if (agent->tick != NULL) {
        g_source_destroy(agent->tick);
        g_source_unref(agent->tick);
    }
    agent->listener = NULL;
    fore_train_job_free(agent->training);
    g_hash_table_unref(agent->vms);
    fore_link_free(agent->pam);
    fore_attest_end_all(agent->attests);
    g_hash_table_unref(agent->attests);
    fore_store_close(agent->store);
    fore_model_unref(agent->model);
    fore_ledger_free(agent->ledger);
    fore_identity_free(agent->identity);
    if (agent->lock_fd >= 0) {
        close(agent->lock_fd);
    }
    fore_config_free(agent->config);
    g_main_context_unref(agent->context);
    g_free(agent);
}

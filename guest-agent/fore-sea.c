/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works: the port brings a host whose key is the pinned one; while it is there, a tick every
 * fifth of the interval looks at the run queue and every fifth tick sends USAGE.  Commands that
 * need the vTPM go to one worker, changes of CPUs and memory to the gate's own, so a slow TPM never
 * delays a CPU, and neither delays a report.
 */
#include "guest-agent/fore-sea.h"

#include <sys/stat.h>

#include "common/fore-error.h"
#include "guest-agent/fore-sea-priv.h"

#define LOOK_EVERY_S 2 /* at the PCRs */

static void drop_source(GSource **source)
{
    if (*source) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

static void send_report(ForeSea *sea)
{
    const ForeSeaCapacity *capacity = fore_sea_gate_capacity(sea->gate);
    ForeSeaReport report;

    fore_sea_usage_online(sea->usage, capacity->vcpus_online);
    fore_sea_usage_report(sea->usage, g_get_monotonic_time(), &report);
    fore_sea_port_event(sea->port, "USAGE",
                        fore_sea_report_json(&report, ++sea->seq, capacity->vcpus_online));
}

static gboolean on_tick(gpointer data)
{
    ForeSea *sea = data;

    fore_sea_usage_look(sea->usage);
    if (++sea->looks == FORE_SEA_USAGE_SAMPLES) {
        sea->looks = 0;
        send_report(sea);
    }
    return G_SOURCE_CONTINUE;
}

void fore_sea_set_interval(ForeSea *sea, unsigned ms)
{
    ForeSeaReport unfinished;

    drop_source(&sea->tick);
    sea->interval_ms = ms;
    sea->looks = 0;
    fore_sea_usage_report(sea->usage, g_get_monotonic_time(), &unfinished);
    sea->tick = g_timeout_source_new(ms / FORE_SEA_USAGE_SAMPLES);
    g_source_set_callback(sea->tick, on_tick, sea, NULL);
    g_source_attach(sea->tick, sea->context);
}

static gboolean on_second(gpointer data)
{
    ForeSea *sea = data;

    fore_sea_gate_check(sea->gate);
    if (++sea->seconds % LOOK_EVERY_S == 0 && sea->tick) { /* a host is there */
        fore_sea_look_for_change(sea);
    }
    return G_SOURCE_CONTINUE;
}

static void on_port_ready(ForeSeaPort *port, gpointer data)
{
    ForeSea *sea = data;

    g_message("host connected");
    fore_sea_set_interval(sea, sea->config->milliseconds);
    fore_sea_port_event(port, "CAPACITY", fore_sea_gate_json(sea->gate, true));
}

static void on_port_command(ForeSeaPort *port, ForeCall *call, gpointer data)
{
    fore_sea_command(data, call);
}

static void on_port_closed(ForeSeaPort *port, const GError *why, gpointer data)
{
    ForeSea *sea = data;

    drop_source(&sea->tick);
    g_message("host connection ended: %s", why ? why->message : "closed by the host");
}

static const ForeSeaPortOps port_ops = {on_port_ready, on_port_command, on_port_closed};

static void on_gate_change(ForeSeaGate *gate, gpointer data)
{
    ForeSea *sea = data;

    fore_sea_port_event(sea->port, "CAPACITY", fore_sea_gate_json(gate, true));
}

static void on_gate_trouble(ForeSeaGate *gate, const GError *error, gpointer data)
{
    g_warning("%s", error->message);
}

static const ForeSeaGateOps gate_ops = {on_gate_change, on_gate_trouble};

/* The key is kept where that is possible, so that the pin survives a restart; an initramfs has
 * nowhere to keep it, and then the quote that binds the pin is what counts. */
static ForeIdentity *open_identity(const ForeSeaConfig *config, GError **error)
{
    g_autofree char *path = g_build_filename(config->state_dir, "channel.pem", NULL);
    g_autoptr(GError) err = NULL;
    ForeIdentity *identity;

    g_mkdir_with_parents(config->state_dir, 0700);
    identity = fore_identity_load_or_create(path, "foresee-sea", &err);
    if (identity) {
        return identity;
    }
    if (!g_error_matches(err, FORE_ERROR, FORE_ERROR_UNAVAILABLE)) {
        g_propagate_error(error, g_steal_pointer(&err));
        return NULL;
    }
    g_message("channel key is not kept: %s", err->message);
    return fore_identity_new("foresee-sea", error);
}

static bool start(ForeSea *sea, GError **error)
{
    const ForeSeaConfig *config = sea->config;
    EVP_PKEY *pam_key;

    sea->identity = open_identity(config, error);
    pam_key = sea->identity ? fore_key_load_public(config->pam_key, error) : NULL;
    if (!pam_key) {
        return false;
    }
    sea->keys = fore_sea_keys_new(pam_key, config->state_dir);
    EVP_PKEY_free(pam_key);
    sea->gate = fore_sea_gate_new(sea->context, config->sysfs_root, config->offline_memory,
                                  &gate_ops, sea, error);
    if (!sea->gate) {
        return false;
    }
    sea->evidence =
        fore_sea_evidence_new(config->tcti, config->vm_uuid, fore_sea_pin(sea), config->sysfs_root,
                              config->procfs_root, g_steal_pointer(&sea->keys));
    sea->worker = fore_sea_worker_new(sea->context);
    sea->usage = fore_sea_usage_new(config->procfs_root);
    sea->port = fore_sea_port_new(sea->context, config->port, config->sysfs_root, sea->identity,
                                  config->host_pin, &port_ops, sea, error);
    if (!sea->port) {
        return false;
    }
    fore_sea_look_for_change(sea);
    return true;
}

ForeSea *fore_sea_new(GMainContext *context, const ForeSeaConfig *config, GError **error)
{
    g_autoptr(ForeSea) sea = g_new0(ForeSea, 1);

    sea->context =
        context ? g_main_context_ref(context) : g_main_context_ref(g_main_context_default());
    sea->config = config;
    sea->interval_ms = config->milliseconds;
    if (!start(sea, error)) {
        return NULL;
    }
    sea->second = g_timeout_source_new_seconds(1);
    g_source_set_callback(sea->second, on_second, sea, NULL);
    g_source_attach(sea->second, sea->context);
    return g_steal_pointer(&sea);
}

void fore_sea_free(ForeSea *sea)
{
    if (!sea) {
        return;
    }
    drop_source(&sea->tick);
    drop_source(&sea->second);
    fore_sea_worker_free(sea->worker); /* both answer their calls, so before the port */
    fore_sea_gate_free(sea->gate);
    fore_sea_port_free(sea->port);
    fore_sea_evidence_free(sea->evidence);
    fore_sea_usage_free(sea->usage);
    fore_identity_free(sea->identity);
    fore_sea_keys_free(sea->keys);
    g_main_context_unref(sea->context);
    g_free(sea);
}

const char *fore_sea_pin(const ForeSea *sea)
{
    return fore_identity_pin(sea->identity);
}

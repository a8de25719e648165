/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp-agent/fore-stats.h"

#include <string.h>

#include "common/fore-error.h"
#include "common/fore-flow.h"

#define MAX_VCPUS  1024
#define MAX_VALUES 512
#define ANSWER_MS  2000

/* KVM's name, and ours in the view. */
static const struct {
    const char *kvm, *shown;
    bool is_time; /* nanoseconds: shown as a share */
} fields[FORE_STATS_N] = {
    [FORE_STATS_EXITS] = {"exits", "exits-per-s", false},
    [FORE_STATS_IO_EXITS] = {"io_exits", "io-exits-per-s", false},
    [FORE_STATS_MMIO_EXITS] = {"mmio_exits", "mmio-exits-per-s", false},
    [FORE_STATS_HALT_EXITS] = {"halt_exits", "halt-exits-per-s", false},
    [FORE_STATS_IRQ_EXITS] = {"irq_exits", "irq-exits-per-s", false},
    [FORE_STATS_SIGNAL_EXITS] = {"signal_exits", "signal-exits-per-s", false},
    [FORE_STATS_EMULATIONS] = {"insn_emulation", "emulations-per-s", false},
    [FORE_STATS_FAULTS] = {"pf_taken", "faults-per-s", false},
    [FORE_STATS_HALT_WAIT_NS] = {"halt_wait_ns", "halt-wait-vcpus", true},
    [FORE_STATS_POLL_OK_NS] = {"halt_poll_success_ns", "halt-poll-hit-vcpus", true},
    [FORE_STATS_POLL_FAIL_NS] = {"halt_poll_fail_ns", "halt-poll-miss-vcpus", true},
};

static int field_of(const char *name)
{
    for (int i = 0; i < FORE_STATS_N; i++) {
        if (strcmp(name, fields[i].kvm) == 0) {
            return i;
        }
    }
    return -1;
}

static bool refuse(GError **error, const char *what)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "query-stats: %s", what);
    return false;
}

/* Adds one vCPU's values; @has: which of them it told. */
static bool add_values(const json_t *values, ForeStatsTotals *to, uint32_t *has, GError **error)
{
    json_t *item;
    size_t i;

    json_array_foreach ((json_t *)values, i, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        const json_t *value = json_object_get(item, "value");
        int field = name != NULL ? field_of(name) : -1;

        if (name == NULL || value == NULL) {
            return refuse(error, "a value has no name or no number");
        }
        if (field < 0) {
            continue;
        }
        if (!json_is_integer(value) || json_integer_value(value) < 0) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "query-stats: '%s' is no counter",
                        fields[field].kvm);
            return false;
        }
        if (*has & 1u << field ||
            to->value[field] > UINT64_MAX - (uint64_t)json_integer_value(value)) {
            return refuse(error, "a value comes twice, or is too large");
        }
        *has |= 1u << field;
        to->value[field] += (uint64_t)json_integer_value(value);
    }
    return true;
}

bool fore_stats_parse(const json_t *list, ForeStatsTotals *ret, GError **error)
{
    ForeStatsTotals totals = {.has = (1u << FORE_STATS_N) - 1};
    json_t *entry;
    size_t i;

    if (!json_is_array(list) || json_array_size(list) > MAX_VCPUS) {
        return refuse(error, "not a list of at most 1024 vCPUs");
    }
    json_array_foreach ((json_t *)list, i, entry) {
        const char *provider = json_string_value(json_object_get(entry, "provider"));
        const json_t *values = json_object_get(entry, "stats");
        uint32_t has = 0;

        if (provider == NULL || !json_is_array(values) || json_array_size(values) > MAX_VALUES) {
            return refuse(error, "an entry has no provider, or no list of at most 512 values");
        }
        if (strcmp(provider, "kvm") != 0) {
            continue;
        }
        if (!add_values(values, &totals, &has, error)) {
            return false;
        }
        totals.has &= has;
        totals.vcpus++;
    }
    if (totals.vcpus == 0) {
        totals.has = 0;
    }
    *ret = totals;
    return true;
}

void fore_stats_reset(ForeStats *stats)
{
    bool asking = stats->asking;

    /* An answer that is still due comes, as an error at least, and ends this. */
    *stats = (ForeStats){.asking = asking};
}

static void on_stats(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    ForeStats *stats = data;
    ForeStatsTotals totals;

    stats->asking = false;
    if (stats->state != FORE_STATS_KVM) {
        return; /* asked before the connection was lost */
    }
    if (ret == NULL || !fore_stats_parse(ret, &totals, NULL)) {
        stats->at_ns = stats->prev_ns = 0; /* rates resume with two good answers */
        return;
    }
    stats->prev = stats->now;
    stats->prev_ns = stats->at_ns;
    stats->now = totals;
    stats->at_ns = (uint64_t)g_get_monotonic_time() * 1000;
}

static void on_kvm(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    ForeStats *stats = data;
    bool enabled = false;

    stats->asking = false;
    if (ret != NULL && fore_json_get_bool(ret, "enabled", &enabled, NULL) && enabled) {
        stats->state = FORE_STATS_KVM;
        stats->asked_ns = 0;
    } else if (!g_error_matches(error, FORE_ERROR, FORE_ERROR_TIMEOUT) &&
               !g_error_matches(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE)) {
        stats->state = FORE_STATS_ABSENT;
    }
}

/* Only what is shown: all 47 values of a large VM are half a megabyte. */
static json_t *arguments(void)
{
    json_t *names = json_array();

    for (int i = 0; i < FORE_STATS_N; i++) {
        json_array_append_new(names, json_string(fields[i].kvm));
    }
    return json_pack("{s:s,s:[{s:s,s:o}]}", "target", "vcpu", "providers", "provider", "kvm",
                     "names", names);
}

void fore_stats_poll(ForeStats *stats, ForeLink *link, uint64_t now_ns)
{
    if (stats->asking || stats->state == FORE_STATS_ABSENT ||
        (stats->asked_ns != 0 && now_ns < stats->asked_ns + FORE_STATS_EVERY_NS)) {
        return;
    }
    stats->asking = true;
    stats->asked_ns = now_ns;
    if (stats->state == FORE_STATS_UNKNOWN) {
        fore_link_execute(link, "query-kvm", NULL, ANSWER_MS, on_kvm, stats);
    } else {
        fore_link_execute(link, "query-stats", arguments(), ANSWER_MS, on_stats, stats);
    }
}

json_t *fore_stats_view(const ForeStats *stats)
{
    double seconds = (double)(stats->at_ns - stats->prev_ns) / (double)FORE_NS_PER_S;
    uint32_t has = stats->now.has & stats->prev.has;

    /* A vCPU that came or went takes its counters with it: no rates over that. */
    if (stats->prev_ns == 0 || seconds <= 0 || has == 0 || stats->now.vcpus != stats->prev.vcpus) {
        return NULL;
    }
    json_t *view = json_pack("{s:i}", "vcpus", (int)stats->now.vcpus);
    for (int i = 0; i < FORE_STATS_N; i++) {
        if (has & 1u << i && stats->now.value[i] >= stats->prev.value[i]) {
            double grown = (double)(stats->now.value[i] - stats->prev.value[i]);
            double rate = grown / seconds / (fields[i].is_time ? (double)FORE_NS_PER_S : 1.0);
            json_object_set_new(view, fields[i].shown, json_real(rate));
        }
    }
    return view;
}

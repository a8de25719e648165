/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The gate between what the host plugs and what the guest uses: a new CPU or memory block stays
 * offline until a grant allows it, then it is brought online, also when it appears only later while
 * that grant lasts.  Writes to sysfs run in a worker thread; all callbacks in the context.
 */
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "guest-agent/fore-sea-grant.h"
#include "guest-agent/fore-sea-hotplug.h"

typedef struct ForeSeaGate ForeSeaGate;

typedef struct {
    void (*on_change)(ForeSeaGate *gate, gpointer data); /* what fore_sea_gate_json() says is new */
    /* A device would not come online, or sysfs is unreadable: once for each spell of trouble. */
    void (*on_trouble)(ForeSeaGate *gate, const GError *error, gpointer data);
} ForeSeaGateOps;

/**
 * fore_sea_gate_new: looks at what is online, which is what is allowed without a grant
 * @sysfs_root: "/sys"; with another one devices are found by polling, not by uevents
 * @offline_memory: whether a release takes memory blocks offline itself.  Off for virtio-mem, whose
 *                  driver does that when the host asks for less; on for DIMMs
 * Errors: as fore_sea_hotplug_scan(); trouble with automatic onlining arrives in on_trouble
 */
ForeSeaGate *fore_sea_gate_new(GMainContext *context, const char *sysfs_root, bool offline_memory,
                               const ForeSeaGateOps *ops, gpointer data, GError **error);
void fore_sea_gate_free(ForeSeaGate *gate); /* NULL allowed; calls back releases under way */

const ForeSeaCapacity *fore_sea_gate_capacity(const ForeSeaGate *gate);
const ForeSeaAllowed *fore_sea_gate_allowed(const ForeSeaGate *gate);
/** fore_sea_gate_json: the data of event CAPACITY; @ungranted: with that member (transfer full) */
json_t *fore_sea_gate_json(const ForeSeaGate *gate, bool ungranted);

/** fore_sea_gate_grant: open the gate up to the totals of an accepted grant */
void fore_sea_gate_grant(ForeSeaGate *gate, const ForeGrant *grant);

/** Called once; fore_sea_gate_capacity() is the truth after the effort.  @error: what resisted;
 *  FORE_ERROR_CLOSED: the gate was freed before */
typedef void (*ForeSeaReleased)(ForeSeaGate *gate, const GError *error, gpointer data);
/** fore_sea_gate_release: lower the totals and take CPUs (and memory, see above) offline
 *  Errors: FORE_ERROR_LIMIT: too many releases wait; @done is then not called */
bool fore_sea_gate_release(ForeSeaGate *gate, unsigned vcpus, uint64_t mem_bytes,
                           ForeSeaReleased done, gpointer data, GError **error);

/** fore_sea_gate_check: once a second: ends a grant whose time is over, and notices what no uevent
 *  told */
void fore_sea_gate_check(ForeSeaGate *gate);

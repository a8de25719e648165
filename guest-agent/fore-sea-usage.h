/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What the guest uses, from its own /proc: one report an interval, as the event USAGE carries it
 * (docs/wire-format.md).  Counters become rates; what the kernel does not offer is absent, not
 * zero.
 */
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_SEA_USAGE_SAMPLES 5 /* looks at the run queue in an interval */

typedef struct ForeSeaUsage ForeSeaUsage;

typedef enum {
    FORE_SEA_USAGE_CPU_BUSY,      /* vCPUs not idle, 0..; ticks lost to the host count as use */
    FORE_SEA_USAGE_RUNNABLE,      /* tasks, mean over the looks, the agent itself not counted */
    FORE_SEA_USAGE_PSI_CPU,       /* share of the interval, 0..1 */
    FORE_SEA_USAGE_PSI_MEM,       /* share of the interval, 0..1 */
    FORE_SEA_USAGE_MEM_TOTAL,     /* bytes */
    FORE_SEA_USAGE_MEM_AVAILABLE, /* bytes */
    FORE_SEA_USAGE_MEM_USED,      /* bytes: total - available */
    FORE_SEA_USAGE_SWAP_OUT,      /* pages per second */
    FORE_SEA_USAGE_N
} ForeSeaUsageField;

typedef struct {
    uint64_t interval_us; /* that the rates cover; 0: the first report, rates absent */
    uint32_t valid;       /* bit FORE_SEA_USAGE_x */
    double value[FORE_SEA_USAGE_N];
} ForeSeaReport;

/** fore_sea_usage_new: @procfs_root: "/proc", or a tree that looks like it */
ForeSeaUsage *fore_sea_usage_new(const char *procfs_root);
void fore_sea_usage_free(ForeSeaUsage *usage); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeSeaUsage, fore_sea_usage_free)

/** fore_sea_usage_look: one look at the run queue; call FORE_SEA_USAGE_SAMPLES times an interval */
void fore_sea_usage_look(ForeSeaUsage *usage);

/** fore_sea_usage_online: how many vCPUs are online, before a report; 0 = unknown */
void fore_sea_usage_online(ForeSeaUsage *usage, unsigned vcpus);
/**
 * fore_sea_usage_report: close the interval that began with the previous call
 * @now_us: CLOCK_MONOTONIC, microseconds
 */
void fore_sea_usage_report(ForeSeaUsage *usage, int64_t now_us, ForeSeaReport *ret);

/** fore_sea_report_json: the data of event USAGE; @seq: grows by one a report (transfer full) */
json_t *fore_sea_report_json(const ForeSeaReport *report, uint64_t seq, unsigned vcpus_online);

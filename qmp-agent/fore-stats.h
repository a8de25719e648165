/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * KVM's statistics of one VM over QMP: query-kvm once a connection, then query-stats every few
 * seconds, and only while the guest runs under KVM.  Under TCG the list is empty, and there is
 * nothing to show.
 */
#include "qmp-agent/fore-link.h"

#define FORE_STATS_EVERY_NS (5 * G_GUINT64_CONSTANT(1000000000))

/* Summed over vCPUs. */
typedef enum {
    FORE_STATS_EXITS,
    FORE_STATS_IO_EXITS,
    FORE_STATS_MMIO_EXITS,
    FORE_STATS_HALT_EXITS,
    FORE_STATS_IRQ_EXITS,
    FORE_STATS_SIGNAL_EXITS,
    FORE_STATS_EMULATIONS,
    FORE_STATS_FAULTS,
    FORE_STATS_HALT_WAIT_NS, /* asleep for want of work */
    FORE_STATS_POLL_OK_NS,   /* busy-waiting for work, that then came */
    FORE_STATS_POLL_FAIL_NS, /* and that did not */
    FORE_STATS_N
} ForeStatsField;

typedef struct {
    uint32_t has; /* bit FORE_STATS_x: every vCPU told it */
    unsigned vcpus;
    uint64_t value[FORE_STATS_N]; /* counters since each vCPU was made */
} ForeStatsTotals;

typedef enum {
    FORE_STATS_UNKNOWN, /* not connected, or not asked yet */
    FORE_STATS_ABSENT,  /* no KVM, or a QEMU without query-stats */
    FORE_STATS_KVM
} ForeStatsState;

typedef struct {
    ForeStatsState state;
    bool asking;
    uint64_t asked_ns;       /* when the newest query went out, CLOCK_MONOTONIC */
    uint64_t at_ns, prev_ns; /* of @now and @prev; 0: there is none */
    ForeStatsTotals now, prev;
} ForeStats;

/**
 * fore_stats_parse: what query-stats returned for target vcpu, provider kvm
 * @ret: written on success only; an empty list gives 0 vCPUs
 * Errors: FORE_ERROR_INVALID naming what is wrong; more than 1024 vCPUs or 512 values of one are
 */
bool fore_stats_parse(const json_t *list, ForeStatsTotals *ret, GError **error);

/** fore_stats_reset: the connection was lost or is new */
void fore_stats_reset(ForeStats *stats);
/**
 * fore_stats_poll: ask, if it is time; call it each second while @link is up
 * @stats: must live until @link is freed or fell, for the answer
 */
void fore_stats_poll(ForeStats *stats, ForeLink *link, uint64_t now_ns);
/**
 * fore_stats_view: rates between the two newest answers, for people and programs (transfer full):
 * NULL when there are none
 */
json_t *fore_stats_view(const ForeStats *stats);

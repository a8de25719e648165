/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Rolls the samples of a group of series (all of one clock: the fields of a VM, or one series) up
 * into tiers, as they come, and keeps running statistics of each.  Pure memory.  Finished blocks
 * wait until the store has written them; what is not in a finished block is made again from the
 * samples after a restart, from the sequence number that the block before ended with.
 */
#include "profile/fore-tier.h"

#define FORE_ROLLUP_TIERS 2

/* Of all samples of a series so far. */
typedef struct {
    uint64_t n;
    double min, max, mean, m2, last; /* m2: sum of squared distances from the mean */
    int64_t first_ms, last_ms;       /* of the first and the latest to come */
} ForeRunning;

void fore_running_add(ForeRunning *running, int64_t t_ms, double value);
/** fore_running_merge: as if the samples of @from came after those of @into */
void fore_running_merge(ForeRunning *into, const ForeRunning *from);
/** fore_running_sd: standard deviation of the population; 0 when n is 0 */
double fore_running_sd(const ForeRunning *running);
/** fore_running_pack: [n] of them (transfer full) */
GByteArray *fore_running_pack(const ForeRunning *running, size_t n);
/** fore_running_unpack: inverse, untrusted bytes; fewer were packed: the rest is empty
 * @ret: (out caller-allocates): [n]   Returns: false: not what pack wrote, @ret is empty */
bool fore_running_unpack(const void *data, size_t size, ForeRunning *ret, size_t n);

/* Blocks of one tier, ready to be written. */
typedef struct {
    unsigned tier;
    uint64_t end_seq;      /* samples of lower numbers are in these blocks or in earlier ones */
    ForeTierBlock **block; /* [columns]; NULL: nothing of that column */
    ForeRunning *running;  /* [columns] after those samples; tier 0 only, else NULL */
} ForeRollupReady;

typedef struct ForeRollup ForeRollup;

/**
 * fore_rollup_new
 * @columns: series in the group, 1..   @width_ms: [FORE_ROLLUP_TIERS], each > 0
 * @points: closed points of a tier that make a block, [FORE_ROLLUP_TIERS], 1..FORE_TIER_BLOCK
 * @from_seq: [FORE_ROLLUP_TIERS] samples of lower numbers are written already
 * @running: [columns] statistics of the samples below from_seq[0], or NULL
 */
ForeRollup *fore_rollup_new(unsigned columns, const int64_t *width_ms, const unsigned *points,
                            const uint64_t *from_seq, const ForeRunning *running);
void fore_rollup_free(ForeRollup *rollup);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeRollup, fore_rollup_free)

/**
 * fore_rollup_add: one sample of the group
 * @seq: rising; @v: [columns], not finite: absent
 * A sample of another interval closes the open one, also when the clock went back: two points of
 * one interval are merged when they are read.
 */
void fore_rollup_add(ForeRollup *rollup, uint64_t seq, int64_t t_ms, const double *v);
/** fore_rollup_skip: tiers (bit k) that the samples to come are too far apart for */
void fore_rollup_skip(ForeRollup *rollup, unsigned tiers);
/** fore_rollup_checkpoint: tiers that are skipped have nothing of the samples below @end_seq to
 * come; so their position, and the statistics, can move on */
void fore_rollup_checkpoint(ForeRollup *rollup, uint64_t end_seq);
/** fore_rollup_finish: close what is open and make it ready; @end_seq: after the last sample */
void fore_rollup_finish(ForeRollup *rollup, uint64_t end_seq);

/** fore_rollup_ready: the @i-th of what is ready, oldest first; NULL: no more */
const ForeRollupReady *fore_rollup_ready(const ForeRollup *rollup, guint i);
/** fore_rollup_written: forget the first @n of them */
void fore_rollup_written(ForeRollup *rollup, guint n);
/** fore_rollup_lost: blocks dropped because nobody wrote them for a day */
uint64_t fore_rollup_lost(const ForeRollup *rollup);

const ForeRunning *fore_rollup_running(const ForeRollup *rollup, unsigned column);
typedef void (*ForeRollupPoint)(const ForeTierPoint *point, gpointer data);
/** fore_rollup_each: the points of one column that are not written, the open one too */
void fore_rollup_each(const ForeRollup *rollup, unsigned tier, unsigned column, ForeRollupPoint fn,
                      gpointer data);

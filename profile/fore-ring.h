/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The newest samples of one VM in memory.  Every sample pushed has a sequence number, counted from
 * 0 and never reused, by which the store knows what is on disk already.
 */
#include "common/fore-flow.h"

#define FORE_RING_SAMPLES 900 /* 15 minutes at 1 s */

typedef struct ForeRing ForeRing;

/** fore_ring_new: room for @capacity samples (at least 1); memory grows up to it as samples come */
ForeRing *fore_ring_new(size_t capacity);
void fore_ring_free(ForeRing *ring);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeRing, fore_ring_free)

/** fore_ring_push: append a copy; the oldest goes when the ring is full */
void fore_ring_push(ForeRing *ring, const ForeSample *sample);
/** fore_ring_first: sequence number of the oldest sample still held (== fore_ring_next() when
 * empty) */
uint64_t fore_ring_first(const ForeRing *ring);
/** fore_ring_next: sequence number that the next sample will get */
uint64_t fore_ring_next(const ForeRing *ring);
/** fore_ring_at: borrowed until the next push; NULL when @seq is not held */
const ForeSample *fore_ring_at(const ForeRing *ring, uint64_t seq);

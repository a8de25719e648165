/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Downsampling: what is left of the samples of a series within one interval (10 s, 5 min), and how
 * a row of such points is written.  Pure; the unpacker takes hostile bytes.
 */
#include <glib.h>

#include "profile/fore-sketch.h"

#define FORE_TIER_BUCKETS 24 /* of a point's sketch; error 1 % within a range of 1.6, 8 % of 47 */
#define FORE_TIER_BLOCK   60 /* points in a block, at most */

/* One interval.  Caller's storage. */
typedef struct {
    int64_t t_ms;          /* its beginning, UTC, a multiple of the width */
    uint64_t n;            /* samples; 0: none yet, and nothing below holds */
    double min, max, mean; /* of them; from a block the mean has 24 significant bits */
    ForeSketch sketch;     /* of them */
} ForeTierPoint;

/** fore_tier_start: the beginning of the interval of @width_ms (> 0) that @t_ms lies in */
int64_t fore_tier_start(int64_t t_ms, int64_t width_ms);
/** fore_tier_point_init: an empty one at @t_ms */
void fore_tier_point_init(ForeTierPoint *point, int64_t t_ms);
/** fore_tier_point_add: one sample; @value: finite */
void fore_tier_point_add(ForeTierPoint *point, double value);
/** fore_tier_point_merge: as if the samples of both were in @into; @into keeps its time */
void fore_tier_point_merge(ForeTierPoint *into, const ForeTierPoint *from);
/** fore_tier_point_quantile: of the samples, within min..max; error: fore_sketch_error(&sketch) */
double fore_tier_point_quantile(const ForeTierPoint *point, double q);

/* Points on their way to a block: a few numbers each, the sketches packed. */
typedef struct ForeTierBlock ForeTierBlock;
ForeTierBlock *fore_tier_block_new(void);
void fore_tier_block_free(ForeTierBlock *block);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeTierBlock, fore_tier_block_free)
size_t fore_tier_block_n(const ForeTierBlock *block); /* 0..FORE_TIER_BLOCK */
/** fore_tier_block_add: copy of @point (n > 0); room must be left */
void fore_tier_block_add(ForeTierBlock *block, const ForeTierPoint *point);
/** fore_tier_block_span: earliest and latest beginning; the block is not empty */
void fore_tier_block_span(const ForeTierBlock *block, int64_t *ret_t0_ms, int64_t *ret_t1_ms);
/** fore_tier_block_pack: the bytes (transfer full); the block is not empty */
GByteArray *fore_tier_block_pack(const ForeTierBlock *block);

/**
 * fore_tier_unpack: inverse
 * @data: [size] untrusted
 * @ret: (out caller-allocates): [FORE_TIER_BLOCK]   @ret_n: points written
 * Errors: FORE_ERROR_INVALID
 */
bool fore_tier_unpack(const void *data, size_t size, ForeTierPoint *ret, size_t *ret_n,
                      GError **error);

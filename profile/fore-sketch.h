/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Quantiles of a stream in bounded memory, mergeable, with a relative error that the sketch itself
 * states: DDSketch (Masson and others, VLDB 2019) whose buckets are merged in pairs when there are
 * too many (uniform collapse: Epicoco and others, UDDSketch, IEEE Access 2020).  Values of either
 * sign; what is nearer to 0 than the smallest normal double counts as 0.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "profile/fore-bits.h"

#define FORE_SKETCH_ROOM  64   /* buckets at most */
#define FORE_SKETCH_LEAST 8    /* and at least: as many as the coarsest level can need */
#define FORE_SKETCH_ERROR 0.01 /* relative error before the first collapse */
#define FORE_SKETCH_LEVEL 17   /* collapses at most: then every double has a bucket of its sign */

typedef struct {
    int32_t key;    /* order of the bucket among all buckets of the level */
    uint32_t count; /* > 0; saturates */
} ForeSketchBucket;

/* Caller's storage; treat as opaque. */
typedef struct {
    uint8_t limit; /* buckets, FORE_SKETCH_LEAST..FORE_SKETCH_ROOM */
    uint8_t level; /* collapses so far */
    uint16_t used;
    uint64_t n;                                /* sum of the counts */
    ForeSketchBucket bucket[FORE_SKETCH_ROOM]; /* [used], rising keys */
} ForeSketch;

/** fore_sketch_init: empty; @limit: buckets, FORE_SKETCH_LEAST..FORE_SKETCH_ROOM */
void fore_sketch_init(ForeSketch *sketch, unsigned limit);
/** fore_sketch_add: @value: finite */
void fore_sketch_add(ForeSketch *sketch, double value);
/** fore_sketch_merge: as if all values of @from had been added to @into (level: the coarser) */
void fore_sketch_merge(ForeSketch *into, const ForeSketch *from);

/**
 * fore_sketch_quantile: a value within fore_sketch_error() of the one of rank q (n - 1)
 * @q: 0..1   Returns: NAN when empty
 */
double fore_sketch_quantile(const ForeSketch *sketch, double q);
/** fore_sketch_error: relative error of every quantile, FORE_SKETCH_ERROR..1 */
double fore_sketch_error(const ForeSketch *sketch);

/** fore_sketch_write: append it to a bit stream; about a byte a bucket */
void fore_sketch_write(const ForeSketch *sketch, ForeBitWriter *w);
/**
 * fore_sketch_read: inverse, of untrusted bits
 * @limit: that of the sketch that was written
 * Returns: false when no sketch was ever written so, or the bits ran out
 */
bool fore_sketch_read(ForeSketch *ret, unsigned limit, ForeBitReader *r);

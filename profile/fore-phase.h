/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Which phase a VM is in, told from its execution signature alone: how the instructions of an
 * interval spread over 64 buckets of code.  Intervals that run the same code have the same spread,
 * whatever their speed.  Pure and bounded: no clock, no allocation.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FORE_PHASE_BUCKETS 64
#define FORE_PHASE_MAX     16 /* phases remembered at a time */
#define FORE_PHASE_NONE    0  /* no phase: too little ran, or nothing is known yet */

/* How far two signatures lie apart is the sum of the differences of their shares, 0..2. */
typedef struct {
    double same;       /* nearer than this to a phase's centre: of that phase */
    double merge;      /* two phases whose centres are nearer than this become one */
    double min_insns;  /* with fewer instructions an interval says nothing */
    unsigned memory;   /* intervals that a centre averages over */
    unsigned patience; /* intervals unseen after which a phase may give way to a new one */
} ForePhaseConfig;
extern const ForePhaseConfig fore_phase_default;

typedef struct {
    uint32_t id;   /* 0: this place is free */
    uint64_t n;    /* intervals that were of it */
    uint64_t seen; /* step of the last of them */
    double centre[FORE_PHASE_BUCKETS];
} ForePhaseCluster;

typedef struct {
    ForePhaseConfig config;
    ForePhaseCluster clusters[FORE_PHASE_MAX];
    uint32_t last_id; /* ids given so far; none is used twice */
    uint32_t current; /* phase of the newest interval that said something */
    uint64_t steps;
    bool has_candidate; /* the interval before was of no phase */
    double candidate[FORE_PHASE_BUCKETS];
} ForePhase;

/** fore_phase_init: @config: NULL for fore_phase_default */
void fore_phase_init(ForePhase *phase, const ForePhaseConfig *config);

/**
 * fore_phase_step: the phase of one interval
 * @insns: [FORE_PHASE_BUCKETS], instructions of the interval by bucket
 * Returns: id of the phase, from 1 on; FORE_PHASE_NONE when too little ran.  A phase that was seen
 * before is told at once, with its old id; a new one with its second interval, the first counts as
 * a transition and gets the phase before.
 */
uint32_t fore_phase_step(ForePhase *phase, const uint64_t *insns);

/** fore_phase_count: phases remembered now, 0..FORE_PHASE_MAX */
unsigned fore_phase_count(const ForePhase *phase);

/**
 * fore_phase_agreement: adjusted Rand index of two labellings (Hubert and Arabie 1985, formula 5):
 * 1 when they partition alike, about 0 by chance
 * @a, @b: [@n], any label numbers, at most 256 different ones each
 * Returns: NAN when there are more labels, or n < 2
 */
double fore_phase_agreement(const uint32_t *a, const uint32_t *b, size_t n);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * How rare is a value this large?  The upper tail of a quantity's recent past, in constant memory:
 * no I/O, no clock.
 */
#include <stdint.h>

#define FORE_TAIL_TOP 48  /* largest values kept of an epoch */
#define FORE_TAIL_MAX 7.0 /* decades: fore_tail_rarity() never exceeds it */

/* Caller's storage; all zero is the empty one.  [0] is the running epoch, [1] the one before. */
typedef struct {
    float top[2][FORE_TAIL_TOP]; /* falling */
    uint32_t n[2];               /* values of the epoch */
    uint32_t kept[2];            /* of @top */
    double sum[2];
} ForeTail;

/**
 * fore_tail_rarity: decades of how seldom a value at least as large was seen
 * @value: finite, in the quantity's unit
 * @grain: differences below it mean nothing, same unit; >= 0
 * Returns: 0 (usual, or too little is known) .. FORE_TAIL_MAX: log10 of one over the share of past
 * values that were as large; past the largest so far also how far past it
 */
double fore_tail_rarity(const ForeTail *tail, float value, double grain);

/** fore_tail_add: learn @value (finite); values two epochs old are forgotten */
void fore_tail_add(ForeTail *tail, float value);

/** fore_tail_count: values that the tail stands on */
static inline uint32_t fore_tail_count(const ForeTail *tail)
{
    return tail->n[0] + tail->n[1];
}

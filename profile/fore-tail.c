/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works
 *
 * Only the largest values of an epoch are kept, so a rank among them is exact and anything below
 * is "usual": rarity 0.  Two epochs overlap, so what is known never shrinks below one epoch and
 * grows to two; the share is over both.  Past the largest value a rank says nothing more; there
 * the distance past it, in units of the span from the mean to it, adds decades on a log scale.
 */
#include "profile/fore-tail.h"

#include <glib.h>
#include <math.h>
#include <string.h>

#define EPOCH      4032 /* two weeks of 5-minute values */
#define LEAST      60   /* values before a rank is worth anything */
#define PAST_SCALE 10.0 /* how many times the span's distance counts, on the log scale */
#define PAST_MAX   3.0  /* most decades from the distance */

G_STATIC_ASSERT(FORE_TAIL_TOP < EPOCH);

static unsigned at_least(const ForeTail *tail, unsigned epoch, float value)
{
    unsigned n = 0;

    while (n < tail->kept[epoch] && tail->top[epoch][n] >= value) {
        n++;
    }
    return n;
}

double fore_tail_rarity(const ForeTail *tail, float value, double grain)
{
    double n = (double)fore_tail_count(tail), largest, decades, span;
    unsigned rank;

    if (n < LEAST) {
        return 0;
    }
    rank = at_least(tail, 0, value) + at_least(tail, 1, value);
    if (rank >= FORE_TAIL_TOP) {
        return 0;
    }
    decades = log10((n + 1) / (rank + 1));
    largest = tail->kept[0] > 0 ? tail->top[0][0] : -INFINITY;
    if (tail->kept[1] > 0) {
        largest = fmax(largest, tail->top[1][0]);
    }
    if (value > largest) {
        span = largest - (tail->sum[0] + tail->sum[1]) / n + grain;
        decades +=
            span > 0 ? fmin(log10(1 + PAST_SCALE * (value - largest) / span), PAST_MAX) : PAST_MAX;
    }
    return fmin(decades, FORE_TAIL_MAX);
}

void fore_tail_add(ForeTail *tail, float value)
{
    unsigned i;

    if (tail->n[0] >= EPOCH) {
        memcpy(tail->top[1], tail->top[0], sizeof tail->top[0]);
        tail->n[1] = tail->n[0];
        tail->kept[1] = tail->kept[0];
        tail->sum[1] = tail->sum[0];
        tail->n[0] = tail->kept[0] = 0;
        tail->sum[0] = 0;
    }
    tail->n[0]++;
    tail->sum[0] += value;
    if (tail->kept[0] == FORE_TAIL_TOP && value <= tail->top[0][FORE_TAIL_TOP - 1]) {
        return;
    }
    i = tail->kept[0] < FORE_TAIL_TOP ? tail->kept[0]++ : FORE_TAIL_TOP - 1;
    for (; i > 0 && tail->top[0][i - 1] < value; i--) {
        tail->top[0][i] = tail->top[0][i - 1];
    }
    tail->top[0][i] = value;
}

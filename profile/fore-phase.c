/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "profile/fore-phase.h"

#include <math.h>
#include <string.h>

/*
 * How it works
 *
 * Leader clustering with moving centres: an interval joins the nearest phase, if that is near
 * enough, and moves its centre a little; else it may found a phase.  Signatures and distance are
 * those of SimPoint (Sherwood et al., "Automatically characterizing large scale program behavior",
 * ASPLOS 2002, section 3), which clusters a whole run afterwards; here each interval is told when
 * it ends, and a VM runs for ever, so places are bounded and reused.
 *
 * An interval in which the program changed is a mixture of two phases, far from both.  So an
 * interval of no phase is only a candidate; a phase is founded when the next one is near to it.
 *
 * Centres drift together when a phase was founded on an odd interval: then the two become one, and
 * the older keeps its id.  When all places are taken, the phase that was unseen longest gives way,
 * if it was unseen for @patience intervals; else the interval joins the nearest one.
 */

/* same: in a recorded run of seven programs (tests/data/phase-run.csv) an interval lies 0.06 to 0.4
 * from the mean of its program, and two programs lie 0.59 to 1.4 apart; 0.3 to 0.55 do equally
 * well. */
const ForePhaseConfig fore_phase_default = {
    .same = 0.5, .merge = 0.25, .min_insns = 100000, .memory = 32, .patience = 600};

#define MAX_LABELS 256

void fore_phase_init(ForePhase *phase, const ForePhaseConfig *config)
{
    memset(phase, 0, sizeof(*phase));
    phase->config = config != NULL ? *config : fore_phase_default;
}

static double distance(const double *a, const double *b)
{
    double sum = 0;

    for (unsigned i = 0; i < FORE_PHASE_BUCKETS; i++) {
        sum += fabs(a[i] - b[i]);
    }
    return sum;
}

/* @insns as shares of their sum; false when there are too few. */
static bool normalise(const uint64_t *insns, double min_insns, double *ret_shares)
{
    double sum = 0;

    for (unsigned i = 0; i < FORE_PHASE_BUCKETS; i++) {
        sum += (double)insns[i];
    }
    if (sum < min_insns || sum <= 0) {
        return false;
    }
    for (unsigned i = 0; i < FORE_PHASE_BUCKETS; i++) {
        ret_shares[i] = (double)insns[i] / sum;
    }
    return true;
}

/* The phase nearest to @shares, but for the one with id @except; NULL when there is none. */
static ForePhaseCluster *nearest(ForePhase *p, const double *shares, uint32_t except,
                                 double *ret_distance)
{
    ForePhaseCluster *best = NULL;

    for (unsigned i = 0; i < FORE_PHASE_MAX; i++) {
        ForePhaseCluster *c = &p->clusters[i];
        if (c->id == FORE_PHASE_NONE || c->id == except) {
            continue;
        }
        double d = distance(c->centre, shares);
        if (best == NULL || d < *ret_distance) {
            best = c;
            *ret_distance = d;
        }
    }
    return best;
}

/* @c drifted: if it came too near to another, the younger of the two goes. */
static ForePhaseCluster *merge(ForePhase *p, ForePhaseCluster *c)
{
    double d = 0;
    ForePhaseCluster *other = nearest(p, c->centre, c->id, &d);

    if (other == NULL || d >= p->config.merge) {
        return c;
    }
    ForePhaseCluster *stays = c->id < other->id ? c : other, *goes = stays == c ? other : c;
    double share = (double)goes->n / (double)(goes->n + stays->n);
    for (unsigned i = 0; i < FORE_PHASE_BUCKETS; i++) {
        stays->centre[i] += share * (goes->centre[i] - stays->centre[i]);
    }
    stays->n += goes->n;
    stays->seen = p->steps;
    memset(goes, 0, sizeof(*goes));
    return stays;
}

static uint32_t join(ForePhase *p, ForePhaseCluster *c, const double *shares)
{
    double weight = c->n < p->config.memory ? (double)c->n + 1 : (double)p->config.memory;

    for (unsigned i = 0; i < FORE_PHASE_BUCKETS; i++) {
        c->centre[i] += (shares[i] - c->centre[i]) / weight;
    }
    c->n++;
    c->seen = p->steps;
    p->has_candidate = false;
    p->current = merge(p, c)->id;
    return p->current;
}

/* A place for a new phase; NULL when all phases are in use. */
static ForePhaseCluster *free_place(ForePhase *p)
{
    ForePhaseCluster *oldest = NULL;

    for (unsigned i = 0; i < FORE_PHASE_MAX; i++) {
        ForePhaseCluster *c = &p->clusters[i];
        if (c->id == FORE_PHASE_NONE) {
            return c;
        }
        if (oldest == NULL || c->seen < oldest->seen) {
            oldest = c;
        }
    }
    return p->steps - oldest->seen > p->config.patience ? oldest : NULL;
}

static uint32_t found_phase(ForePhase *p, ForePhaseCluster *place, const double *shares)
{
    memset(place, 0, sizeof(*place));
    memcpy(place->centre, p->candidate, sizeof(place->centre));
    place->id = ++p->last_id;
    place->n = 1;
    return join(p, place, shares);
}

uint32_t fore_phase_step(ForePhase *p, const uint64_t *insns)
{
    double shares[FORE_PHASE_BUCKETS], d = 0;

    p->steps++;
    if (!normalise(insns, p->config.min_insns, shares)) {
        return FORE_PHASE_NONE;
    }
    ForePhaseCluster *best = nearest(p, shares, FORE_PHASE_NONE, &d);
    if (best != NULL && d < p->config.same) {
        return join(p, best, shares);
    }
    if (p->has_candidate && distance(p->candidate, shares) < p->config.same) {
        ForePhaseCluster *place = free_place(p);
        return place != NULL ? found_phase(p, place, shares) : join(p, best, shares);
    }
    memcpy(p->candidate, shares, sizeof(shares));
    p->has_candidate = true;
    return p->current;
}

unsigned fore_phase_count(const ForePhase *p)
{
    unsigned n = 0;

    for (unsigned i = 0; i < FORE_PHASE_MAX; i++) {
        n += p->clusters[i].id != FORE_PHASE_NONE ? 1 : 0;
    }
    return n;
}

/* --- agreement --- */

/* Place of @label in @seen, which grows; MAX_LABELS when it is full. */
static unsigned place_of(uint32_t *seen, unsigned *n, uint32_t label)
{
    for (unsigned i = 0; i < *n; i++) {
        if (seen[i] == label) {
            return i;
        }
    }
    if (*n == MAX_LABELS) {
        return MAX_LABELS;
    }
    seen[*n] = label;
    return (*n)++;
}

static double pairs(double n)
{
    return n * (n - 1) / 2;
}

/* Pairs that @a and @b both hold together, less what chance would give, as a share of the most. */
static double adjusted(const size_t *rows, const size_t *columns, double both, size_t n)
{
    double in_a = 0, in_b = 0;

    for (unsigned i = 0; i < MAX_LABELS; i++) {
        in_a += pairs((double)rows[i]);
        in_b += pairs((double)columns[i]);
    }
    double chance = in_a * in_b / pairs((double)n), most = (in_a + in_b) / 2;
    return most == chance ? 1 : (both - chance) / (most - chance);
}

double fore_phase_agreement(const uint32_t *a, const uint32_t *b, size_t n)
{
    uint32_t seen_a[MAX_LABELS], seen_b[MAX_LABELS];
    size_t rows[MAX_LABELS] = {0}, columns[MAX_LABELS] = {0};
    unsigned n_a = 0, n_b = 0;
    double both = 0;

    for (size_t i = 0; i < n; i++) {
        unsigned row = place_of(seen_a, &n_a, a[i]), column = place_of(seen_b, &n_b, b[i]);
        if (row == MAX_LABELS || column == MAX_LABELS) {
            return NAN;
        }
        rows[row]++;
        columns[column]++;
    }
    /* Cell by cell, so that no table of all label pairs is needed. */
    for (unsigned row = 0; row < n_a; row++) {
        size_t cell[MAX_LABELS] = {0};
        for (size_t i = 0; i < n; i++) {
            if (a[i] == seen_a[row]) {
                cell[place_of(seen_b, &n_b, b[i])]++;
            }
        }
        for (unsigned column = 0; column < n_b; column++) {
            both += pairs((double)cell[column]);
        }
    }
    return n < 2 ? (double)NAN : adjusted(rows, columns, both, n);
}

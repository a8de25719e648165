/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Phases from signatures: synthetic ones here, a recorded run in tests/data/phase-run.csv. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "profile/fore-phase.h"

/* Signature of program @which: three hot buckets of its own, a kernel that all share, and noise. */
static void signature(uint64_t *to, unsigned which, GRand *rand)
{
    memset(to, 0, FORE_PHASE_BUCKETS * sizeof(*to));
    for (unsigned i = 0; i < 3; i++) {
        to[(which * 3 + i) % 60] = 1000000 * (i + 1) + (uint64_t)g_rand_int_range(rand, 0, 300000);
    }
    to[61] = 500000;
    to[63] = (uint64_t)g_rand_int_range(rand, 0, 200000);
}

static void test_phases(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    uint64_t insns[FORE_PHASE_BUCKETS];
    uint32_t truth[600], found[600], first_id[5] = {0};
    ForePhase phase;

    fore_phase_init(&phase, NULL);
    for (unsigned i = 0; i < 600; i++) {
        truth[i] = i / 20 % 5;
        signature(insns, truth[i], rand);
        found[i] = fore_phase_step(&phase, insns);
        if (i >= 100 && i % 20 == 0) { /* known by now: told at once, and by its old id */
            g_assert_cmpuint(found[i], ==, first_id[truth[i]]);
        }
        first_id[truth[i]] = found[i];
    }
    g_assert_cmpuint(fore_phase_count(&phase), ==, 5);
    g_assert_cmpfloat(fore_phase_agreement(truth, found, 600), >, 0.97);
}

static void test_mixture(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    uint64_t insns[FORE_PHASE_BUCKETS], other[FORE_PHASE_BUCKETS];
    ForePhase phase;

    fore_phase_init(&phase, NULL);
    for (unsigned i = 0; i < 40; i++) {
        signature(insns, i / 10 % 2, rand);
        if (i % 10 == 0) { /* the program changes in mid-interval */
            signature(other, 1 - i / 10 % 2, rand);
            for (unsigned b = 0; b < FORE_PHASE_BUCKETS; b++) {
                insns[b] += other[b];
            }
        }
        fore_phase_step(&phase, insns);
    }
    g_assert_cmpuint(fore_phase_count(&phase), ==, 2);
}

static void test_little(void)
{
    uint64_t insns[FORE_PHASE_BUCKETS] = {10, 10, 10};
    ForePhase phase;

    fore_phase_init(&phase, NULL);
    g_assert_cmpuint(fore_phase_step(&phase, insns), ==, FORE_PHASE_NONE);
    memset(insns, 0, sizeof(insns));
    g_assert_cmpuint(fore_phase_step(&phase, insns), ==, FORE_PHASE_NONE);
    memset(insns, 0xff, sizeof(insns)); /* whatever a page may claim */
    fore_phase_step(&phase, insns);
    g_assert_cmpuint(fore_phase_step(&phase, insns), ==, 1);
}

static void test_bounded(void)
{
    uint64_t insns[FORE_PHASE_BUCKETS];
    uint32_t id = 0;
    ForePhase phase;

    fore_phase_init(&phase, NULL);
    for (unsigned i = 0; i < 40 * 2; i++) { /* forty programs, each never to be seen again */
        memset(insns, 0, sizeof(insns));
        insns[i / 2] = 1000000;
        id = fore_phase_step(&phase, insns);
        g_assert_cmpuint(fore_phase_count(&phase), <=, FORE_PHASE_MAX);
    }
    g_assert_cmpuint(id, <=, FORE_PHASE_MAX);
    memset(insns, 0, sizeof(insns));
    insns[50] = 1000000;
    for (unsigned i = 0; i < fore_phase_default.patience + 2; i++) {
        id = fore_phase_step(&phase, insns);
    }
    /* The others were unseen for long: one gave way, and its id is not used again. */
    memset(insns, 0, sizeof(insns));
    insns[51] = 1000000;
    fore_phase_step(&phase, insns);
    id = fore_phase_step(&phase, insns);
    g_assert_cmpuint(id, ==, FORE_PHASE_MAX + 1);
}

static void test_agreement(void)
{
    static const uint32_t a[] = {1, 1, 1, 2, 2, 2}, same[] = {9, 9, 9, 4, 4, 4},
                          one[] = {1, 1, 1, 1, 1, 1}, b[] = {1, 1, 2, 2, 3, 3};
    uint32_t many[300];

    g_assert_cmpfloat(fore_phase_agreement(a, same, 6), ==, 1);
    g_assert_cmpfloat(fore_phase_agreement(a, one, 6), ==, 0);
    /* by hand: both 2, a 6, b 3 of 15 pairs: (2 - 1.2) / (4.5 - 1.2) */
    g_assert_cmpfloat_with_epsilon(fore_phase_agreement(a, b, 6), 0.8 / 3.3, 1e-12);
    g_assert_true(isnan(fore_phase_agreement(a, b, 1)));
    for (unsigned i = 0; i < G_N_ELEMENTS(many); i++) {
        many[i] = i;
    }
    g_assert_true(isnan(fore_phase_agreement(many, many, G_N_ELEMENTS(many))));
}

/* Seven real programs, three times in turn, as tools/bench phase recorded them: their number, and
 * the signature of each quarter of a second in parts per 10000. */
static void test_recorded(void)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    uint32_t truth[1000], found[1000];
    size_t n = 0;
    ForePhaseConfig config = fore_phase_default;
    ForePhase phase;

    g_assert_true(g_file_get_contents(FORE_TEST_DATA "/phase-run.csv", &text, NULL, &error));
    g_assert_no_error(error);
    config.min_insns = 1; /* the shares sum to 10000 */
    fore_phase_init(&phase, &config);
    for (char *at = text; *at != '\0' && n < G_N_ELEMENTS(truth); at++, n++) {
        uint64_t insns[FORE_PHASE_BUCKETS];
        truth[n] = (uint32_t)g_ascii_strtoull(at, &at, 10);
        for (unsigned b = 0; b < FORE_PHASE_BUCKETS; b++) {
            g_assert_cmpint(*at, ==, ',');
            insns[b] = g_ascii_strtoull(at + 1, &at, 10);
        }
        g_assert_cmpint(*at, ==, '\n');
        found[n] = fore_phase_step(&phase, insns);
    }
    double agreement = fore_phase_agreement(truth, found, n);
    g_test_message("%zu intervals, %u phases, adjusted Rand index %.3f", n,
                   fore_phase_count(&phase), agreement);
    g_assert_cmpuint(n, >, 200);
    /* 0.82 when it was recorded; the thresholds beside the chosen one give 0.80 to 0.83. */
    g_assert_cmpfloat(agreement, >, 0.78);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/profile/phase/programs-in-turn-are-told-apart", test_phases);
    g_test_add_func("/profile/phase/mixed-interval-founds-no-phase", test_mixture);
    g_test_add_func("/profile/phase/too-little-says-nothing", test_little);
    g_test_add_func("/profile/phase/number-of-phases-is-bounded", test_bounded);
    g_test_add_func("/profile/phase/agreement-is-the-adjusted-rand-index", test_agreement);
    g_test_add_func("/profile/phase/recorded-programs-are-told-apart", test_recorded);
    return g_test_run();
}

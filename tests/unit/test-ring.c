/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "profile/fore-ring.h"

static ForeSample numbered(uint64_t i)
{
    return (ForeSample){.mono_ns = i, .wall_ms = (int64_t)i, .valid = 1, .value = {(double)i}};
}

static void test_order(void)
{
    static const size_t capacities[] = {1, 2, 15, 16, 17, 100, FORE_RING_SAMPLES};

    for (size_t c = 0; c < G_N_ELEMENTS(capacities); c++) {
        g_autoptr(ForeRing) ring = fore_ring_new(capacities[c]);

        g_assert_null(fore_ring_at(ring, 0));
        for (uint64_t i = 0; i < 2000; i++) {
            ForeSample s = numbered(i);
            uint64_t first = i + 1 > capacities[c] ? i + 1 - capacities[c] : 0;

            fore_ring_push(ring, &s);
            g_assert_cmpuint(fore_ring_first(ring), ==, first);
            g_assert_cmpuint(fore_ring_next(ring), ==, i + 1);
            g_assert_cmpuint(fore_ring_at(ring, first)->mono_ns, ==, first);
            g_assert_cmpuint(fore_ring_at(ring, i)->mono_ns, ==, i);
            g_assert_null(fore_ring_at(ring, i + 1));
            g_assert_true(first == 0 || fore_ring_at(ring, first - 1) == NULL);
        }
    }
}

static void test_bound(void)
{
    g_autoptr(ForeRing) ring = fore_ring_new(FORE_RING_SAMPLES);

    for (uint64_t i = 0; i < 3 * FORE_RING_SAMPLES; i++) {
        ForeSample s = numbered(i);
        fore_ring_push(ring, &s);
    }
    for (uint64_t seq = fore_ring_first(ring); seq < fore_ring_next(ring); seq++) {
        g_assert_cmpuint(fore_ring_at(ring, seq)->mono_ns, ==, seq);
    }
    g_assert_cmpuint(fore_ring_next(ring) - fore_ring_first(ring), ==, FORE_RING_SAMPLES);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/profile/ring/sequence-numbers-follow-the-samples", test_order);
    g_test_add_func("/profile/ring/holds-fifteen-minutes-and-no-more", test_bound);
    return g_test_run();
}

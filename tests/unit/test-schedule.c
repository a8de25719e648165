/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>
#include <string.h>

#include "guest-image/fore-schedule.h"

#define S   UINT64_C(1000000000)
#define MIB (UINT64_C(1) << 20)

static void test_same_seed(void)
{
    ForeSchedule a, b;

    g_assert_true(fore_schedule_init(&a, 42, 50, 480 * MIB));
    g_assert_true(fore_schedule_init(&b, 42, 9, 480 * MIB));
    for (uint32_t i = 0; i < 9; i++) {
        ForeCycle x, y;

        /* The number of cycles is not part of what a cycle is. */
        fore_schedule_cycle(&a, i, &x);
        fore_schedule_cycle(&b, i, &y);
        g_assert_cmpuint(x.idle_ns, ==, y.idle_ns);
        g_assert_cmpuint(x.prepare_ns, ==, y.prepare_ns);
        g_assert_cmpuint(x.burst_ns, ==, y.burst_ns);
        g_assert_cmpuint(x.load_permille, ==, y.load_permille);
        g_assert_cmpuint(x.arena_bytes, ==, y.arena_bytes);
    }
}

static void test_other_seed(void)
{
    ForeSchedule a, b;
    ForeCycle x, y;

    g_assert_true(fore_schedule_init(&a, 1, 1, 480 * MIB));
    g_assert_true(fore_schedule_init(&b, 2, 1, 480 * MIB));
    fore_schedule_cycle(&a, 0, &x);
    fore_schedule_cycle(&b, 0, &y);
    g_assert_cmpuint(x.idle_ns + x.prepare_ns + x.burst_ns, !=,
                     y.idle_ns + y.prepare_ns + y.burst_ns);
}

static void test_ranges(void)
{
    ForeSchedule schedule;

    g_assert_true(fore_schedule_init(&schedule, 3, FORE_SCHEDULE_MAX_CYCLES, 480 * MIB));
    for (uint32_t i = 0; i < FORE_SCHEDULE_MAX_CYCLES; i++) {
        ForeCycle c;

        fore_schedule_cycle(&schedule, i, &c);
        g_assert_true(c.idle_ns >= 13 * S && c.idle_ns <= 19 * S);
        g_assert_true(c.prepare_ns >= 9 * S / 2 && c.prepare_ns <= 15 * S / 2);
        g_assert_true(c.burst_ns >= 7 * S && c.burst_ns <= 9 * S);
        g_assert_true(c.load_permille >= 2500 && c.load_permille <= 2700);
        g_assert_true(c.arena_bytes >= 456 * MIB && c.arena_bytes <= 504 * MIB);
        g_assert_cmpuint(c.arena_bytes % MIB, ==, 0);
    }
}

static void test_refuses(void)
{
    ForeSchedule schedule, before;

    memset(&schedule, 0xa5, sizeof schedule);
    before = schedule;
    g_assert_false(fore_schedule_init(&schedule, 1, 0, MIB));
    g_assert_false(fore_schedule_init(&schedule, 1, FORE_SCHEDULE_MAX_CYCLES + 1, MIB));
    g_assert_cmpmem(&schedule, sizeof schedule, &before, sizeof before);
}

/* Each border of each cycle: the last nanosecond before it and the first after it. */
static void test_borders(void)
{
    ForeSchedule schedule;
    ForeMoment m;
    uint64_t at = 0;

    g_assert_true(fore_schedule_init(&schedule, 7, 3, 480 * MIB));
    for (uint32_t i = 0; i < 3; i++) {
        ForeCycle c;

        fore_schedule_cycle(&schedule, i, &c);
        fore_schedule_at(&schedule, at, &m);
        g_assert_cmpint(m.phase, ==, FORE_PHASE_IDLE);
        g_assert_cmpuint(m.cycle, ==, i);
        fore_schedule_at(&schedule, at + c.idle_ns - 1, &m);
        g_assert_cmpint(m.phase, ==, FORE_PHASE_IDLE);
        fore_schedule_at(&schedule, at + c.idle_ns, &m);
        g_assert_cmpint(m.phase, ==, FORE_PHASE_PREPARE);
        g_assert_cmpuint(m.arena_bytes, ==, 0);
        g_assert_cmpuint(m.load_permille, ==, FORE_SCHEDULE_BASE_PERMILLE);
        at += c.idle_ns + c.prepare_ns;
        fore_schedule_at(&schedule, at, &m);
        g_assert_cmpint(m.phase, ==, FORE_PHASE_BURST);
        g_assert_cmpuint(m.arena_bytes, ==, c.arena_bytes);
        g_assert_cmpuint(m.load_permille, ==, c.load_permille);
        at += c.burst_ns;
        fore_schedule_at(&schedule, at - 1, &m);
        g_assert_cmpint(m.phase, ==, FORE_PHASE_BURST);
    }
    fore_schedule_at(&schedule, at, &m);
    g_assert_cmpint(m.phase, ==, FORE_PHASE_DONE);
    g_assert_cmpuint(m.cycle, ==, 3);
    g_assert_cmpuint(m.arena_bytes, ==, 0);
}

static void test_stopped(void)
{
    ForeSchedule schedule = {0};
    ForeMoment m;

    fore_schedule_at(&schedule, 1000 * S, &m);
    g_assert_cmpint(m.phase, ==, FORE_PHASE_STOPPED);
    g_assert_cmpuint(m.load_permille, ==, FORE_SCHEDULE_BASE_PERMILLE);
    g_assert_cmpstr(fore_phase_name(m.phase), ==, "stopped");
    g_assert_cmpstr(fore_phase_name(FORE_PHASE_DONE), ==, "done");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guest-image/schedule/same-seed-same-cycles", test_same_seed);
    g_test_add_func("/guest-image/schedule/other-seed-other-cycles", test_other_seed);
    g_test_add_func("/guest-image/schedule/lengths-and-sizes-stay-in-range", test_ranges);
    g_test_add_func("/guest-image/schedule/no-cycles-or-too-many-change-nothing", test_refuses);
    g_test_add_func("/guest-image/schedule/phases-change-at-their-borders", test_borders);
    g_test_add_func("/guest-image/schedule/zeros-are-a-stopped-schedule", test_stopped);
    return g_test_run();
}

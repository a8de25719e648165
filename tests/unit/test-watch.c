/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "profile/fore-watch.h"

#define NS_PER_S G_GUINT64_CONSTANT(1000000000)
#define START_MS (G_GINT64_CONSTANT(1700000000) * 1000)

typedef struct {
    GPtrArray *opened; /* "source metric: reason" */
    unsigned open, ended;
    int64_t next_id;
} Seen;

static void on_episode(ForeWatchEpisode *e, gpointer data)
{
    Seen *seen = data;

    g_assert_cmpint(e->from_ms, <=, e->to_ms);
    g_assert_cmpfloat(e->score, >, 0);
    g_assert_cmpfloat(e->score, <=, 1);
    g_assert_cmpuint(strlen(e->reason), >, 0);
    if (e->open) {
        g_assert_cmpint(e->id, ==, 0);
        e->id = ++seen->next_id;
        seen->open++;
        g_ptr_array_add(seen->opened,
                        g_strdup_printf("%s %s: %s", e->source, e->metric, e->reason));
        g_test_message("%s", (char *)seen->opened->pdata[seen->opened->len - 1]);
    } else {
        g_assert_cmpint(e->id, !=, 0); /* it is told whose end this is */
        seen->ended++;
    }
}

static Seen seen_new(void)
{
    return (Seen){.opened = g_ptr_array_new_with_free_func(g_free)};
}

static bool saw(const Seen *seen, const char *prefix)
{
    for (guint i = 0; i < seen->opened->len; i++) {
        if (g_str_has_prefix(seen->opened->pdata[i], prefix)) {
            return true;
        }
    }
    return false;
}

static void set(ForeSample *s, ForeField f, double value)
{
    s->value[f] = value;
    s->valid |= 1u << f;
}

/* A server whose load wanders; @mined vCPUs of arithmetic on top */
static void step(ForeWatch *w, GRand *rand, int second, double mined, Seen *seen)
{
    double load = 100 * (1.5 + sin(second / 900.0)) * g_rand_double_range(rand, 0.8, 1.2);
    double vcpu = load * 0.008 * g_rand_double_range(rand, 0.9, 1.1) + mined;
    ForeSample s = {.mono_ns = (uint64_t)(second + 5) * NS_PER_S,
                    .wall_ms = START_MS + second * G_GINT64_CONSTANT(1000)};

    set(&s, FORE_FIELD_DEMAND_VCPU, vcpu);
    set(&s, FORE_FIELD_DEMAND_MEM, 1e9 * g_rand_double_range(rand, 0.99, 1.01));
    set(&s, FORE_FIELD_SYSCALLS, load * 50 * g_rand_double_range(rand, 0.9, 1.1));
    set(&s, FORE_FIELD_INSNS, vcpu * 2e9);
    set(&s, FORE_FIELD_LOADS, (vcpu - mined) * 6e8 + mined * 2e8);
    set(&s, FORE_FIELD_STORES, (vcpu - mined) * 3e8 + mined * 1e8);
    fore_watch_step(w, &s, NULL, on_episode, seen);
}

static void test_miner(void)
{
    g_autoptr(ForeWatch) w = fore_watch_new();
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    Seen seen = seen_new();
    unsigned before;
    int i;

    for (i = 0; i < 4 * 3600; i++) {
        step(w, rand, i, 0, &seen);
    }
    g_assert_false(saw(&seen, "pattern"));
    before = seen.open;
    for (; i < 4 * 3600 + 60; i++) {
        step(w, rand, i, 2.5, &seen);
    }
    g_assert_cmpuint(seen.open, >, before);
    g_assert_true(saw(&seen, "pattern : vcpu is "));
    g_assert_true(saw(&seen, "second demand_vcpu: "));
    g_assert_true(fore_watch_is_odd(w));
    fore_watch_flush(w, on_episode, &seen);
    g_assert_false(fore_watch_is_odd(w));
    g_assert_cmpuint(seen.open, ==, seen.ended);
    g_ptr_array_unref(seen.opened);
}

/* A guest that provokes alarms each second gets few episodes. */
static void test_flood(void)
{
    g_autoptr(ForeWatch) w = fore_watch_new();
    g_autoptr(GRand) rand = g_rand_new_with_seed(2);
    Seen seen = seen_new();
    const int hours = 4;

    for (int i = 0; i < hours * 3600; i++) {
        step(w, rand, i, i > 600 && g_rand_boolean(rand) ? ldexp(1, i % 40) : 0, &seen);
    }
    fore_watch_flush(w, on_episode, &seen);
    /* seven kinds, each at most once in five minutes */
    g_assert_cmpuint(seen.open, <=, 7 * hours * 12);
    g_assert_cmpuint(seen.open, ==, seen.ended);
    g_ptr_array_unref(seen.opened);
}

static void test_nothing_measured(void)
{
    g_autoptr(ForeWatch) w = fore_watch_new();
    Seen seen = seen_new();

    for (int i = 0; i < 7200; i++) {
        ForeSample s = {.mono_ns = (uint64_t)i * NS_PER_S, .wall_ms = START_MS + 1000 * i};
        memset(s.value, 0xff, sizeof s.value); /* not to be looked at */
        fore_watch_step(w, &s, NULL, on_episode, &seen);
    }
    g_assert_cmpuint(seen.open, ==, 0);
    g_ptr_array_unref(seen.opened);
}

/* An episode is not left open by a clock that goes back. */
static void test_clock(void)
{
    g_autoptr(ForeWatch) w = fore_watch_new();
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);
    Seen seen = seen_new();
    ForeSample s = {.mono_ns = 2000 * NS_PER_S, .wall_ms = START_MS - 86400000};

    for (int i = 0; i < 900; i++) {
        step(w, rand, i, i < 880 ? 0 : 30, &seen);
    }
    g_assert_true(fore_watch_is_odd(w));
    fore_watch_step(w, &s, NULL, on_episode, &seen);
    g_assert_false(fore_watch_is_odd(w));
    g_ptr_array_unref(seen.opened);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/profile/watch/miner-is-told-with-its-reason", test_miner);
    g_test_add_func("/profile/watch/flood-becomes-few-episodes", test_flood);
    g_test_add_func("/profile/watch/what-is-not-measured-is-not-judged", test_nothing_measured);
    g_test_add_func("/profile/watch/clock-set-back-ends-what-is-open", test_clock);
    return g_test_run();
}

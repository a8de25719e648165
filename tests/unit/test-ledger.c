/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ledger of promises: every pair of states, what is charged when, and the invariant under
 * random use. */
#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "control/fore-ledger.h"

#define MIB 1048576.0
#define GIB (1024 * MIB)

static const ForeResource V = FORE_RES_VCPU, M = FORE_RES_MEM;

/* Written down a second time on purpose: for each state, the names of those it may go to. */
static const char *const expected[FORE_LEDGER_N] = {
    "attesting granted releasing failed", /* planned */
    "granted failed",                     /* attesting */
    "reserved failed",                    /* granted */
    "plugging failed",                    /* reserved */
    "plugged failed",                     /* plugging */
    "onlining failed",                    /* plugged */
    "online failed",                      /* onlining */
    "",                                   /* online */
    "released failed",                    /* releasing */
    "",                                   /* released */
    "",                                   /* failed */
};

static void test_pairs(void)
{
    for (int a = 0; a < FORE_LEDGER_N; a++) {
        g_auto(GStrv) to = g_strsplit(expected[a], " ", -1);
        for (int b = 0; b < FORE_LEDGER_N; b++) {
            bool want = g_strv_contains((const char *const *)to, fore_ledger_state_names[b]);
            g_test_message("%s -> %s", fore_ledger_state_names[a], fore_ledger_state_names[b]);
            g_assert_cmpint(fore_ledger_transition_allowed(a, b), ==, want);
        }
        g_assert_cmpint(fore_ledger_state_is_final(a), ==, expected[a][0] == 0);
    }
}

static ForeLedger *two_vms(void)
{
    ForeLedger *ledger = fore_ledger_new(8, 8 * GIB);

    g_assert_true(fore_ledger_set_base(ledger, "a", 1, GIB, NULL));
    g_assert_true(fore_ledger_set_base(ledger, "b", 2, 2 * GIB, NULL));
    return ledger;
}

static uint64_t plan(ForeLedger *ledger, const char *vm, ForeResource r, double from, double to)
{
    ForeLedgerEntry entry;
    g_autoptr(GError) error = NULL;

    fore_ledger_plan(ledger, vm, r, fore_ledger_next_id(ledger), from, to, 1, &entry, &error);
    g_assert_no_error(error);
    return entry.id;
}

static void walk(ForeLedger *ledger, uint64_t id, ForeLedgerState first, ForeLedgerState last)
{
    for (int s = first; s <= (int)last; s++) {
        g_assert_true(fore_ledger_move(ledger, id, s, NULL, 2, NULL));
    }
}

/* Not only the table: move() itself, for every pair, on a real entry brought to the first state. */
static void test_moves(void)
{
    for (int a = 0; a < FORE_LEDGER_N; a++) {
        for (int b = 0; b < FORE_LEDGER_N; b++) {
            g_autoptr(ForeLedger) ledger = two_vms();
            bool release = a == FORE_LEDGER_RELEASING || a == FORE_LEDGER_RELEASED;
            ForeLedgerEntry e = {.id = 5, .vm = "a", .from = 2, .to = release ? 1 : 3, .state = a};
            ForeLedgerEntry after, before;
            bool allowed = fore_ledger_transition_allowed(a, b);
            g_assert_true(fore_ledger_restore(ledger, &e, NULL));
            g_assert_true(fore_ledger_get(ledger, 5, &before));
            if (b == FORE_LEDGER_RELEASING) {
                allowed = false; /* a growth is never released; that is an entry of its own */
            }
            g_assert_cmpint(fore_ledger_move(ledger, 5, b, "why", 9, NULL), ==, allowed);
            g_assert_true(fore_ledger_get(ledger, 5, &after));
            g_assert_cmpint(after.state, ==, allowed ? b : a);
            if (!allowed) {
                g_assert_cmpmem(&after, sizeof after, &before, sizeof before);
            } else {
                g_assert_cmpstr(after.reason, ==, "why");
                g_assert_cmpint(after.since_mono_ns, ==, 9);
            }
        }
    }
}

static void test_growth(void)
{
    g_autoptr(ForeLedger) ledger = two_vms();
    uint64_t id;

    g_assert_cmpfloat(fore_ledger_promised(ledger, V), ==, 3);
    id = plan(ledger, "a", V, 1, 4);
    g_assert_cmpfloat(fore_ledger_promised(ledger, V), ==,
                      6); /* at once, before anybody is asked */
    walk(ledger, id, FORE_LEDGER_ATTESTING, FORE_LEDGER_ONLINE);
    g_assert_cmpfloat(fore_ledger_promised(ledger, V), ==, 6);
    g_assert_cmpfloat(fore_ledger_charge(ledger, "a", V), ==, 4);
    g_assert_cmpfloat(fore_ledger_room(ledger, "a", V), ==, 6);
    g_assert_cmpfloat(fore_ledger_promised(ledger, M), ==, 3 * GIB);
}

static void test_limit(void)
{
    g_autoptr(ForeLedger) ledger = two_vms();
    g_autoptr(GError) error = NULL;

    g_assert_false(fore_ledger_plan(ledger, "a", V, 1, 1, 7, 1, NULL, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_LIMIT);
    g_assert_cmpfloat(fore_ledger_promised(ledger, V), ==, 3);
    plan(ledger, "a", V, 1, 6);
    g_assert_cmpfloat(fore_ledger_room(ledger, "b", V), ==, 2);
    g_clear_error(&error);
    g_assert_false(fore_ledger_plan(ledger, "b", V, 1, 2, 3, 1, NULL, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_LIMIT);
    g_clear_error(&error);
    g_assert_false(fore_ledger_set_base(ledger, "c", 1, 0, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_LIMIT);
    g_assert_cmpfloat(fore_ledger_room(ledger, "c", V), ==, 0);
}

static void test_refusals(void)
{
    g_autoptr(ForeLedger) ledger = two_vms();
    const double bad[] = {NAN, INFINITY, -1, 1e300};
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_clear_error(&error);
        g_assert_false(fore_ledger_plan(ledger, "a", V, 1, 1, bad[i], 1, NULL, &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
        g_assert_false(fore_ledger_set_base(ledger, "x", bad[i], 1, NULL));
        fore_ledger_sync(ledger, "a", V, bad[i]);
        g_assert_cmpfloat(fore_ledger_charge(ledger, "a", V), ==, 1);
    }
    g_clear_error(&error);
    g_assert_false(fore_ledger_plan(ledger, "nobody", V, 1, 1, 2, 1, NULL, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND);
    plan(ledger, "a", V, 1, 2);
    g_clear_error(&error);
    g_assert_false(fore_ledger_plan(ledger, "a", V, 1, 1, 3, 1, NULL, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_EXISTS);
    g_assert_false(fore_ledger_set_base(ledger, "../x", 1, 1, NULL));
    g_assert_false(fore_ledger_move(ledger, 999, FORE_LEDGER_FAILED, NULL, 1, NULL));
}

static void test_failures(void)
{
    g_autoptr(ForeLedger) ledger = two_vms();
    uint64_t id = plan(ledger, "a", V, 1, 4);

    /* Before QEMU was told, a failure frees the reservation at once. */
    walk(ledger, id, FORE_LEDGER_ATTESTING, FORE_LEDGER_RESERVED);
    fore_ledger_move(ledger, id, FORE_LEDGER_FAILED, "x", 3, NULL);
    g_assert_cmpfloat(fore_ledger_charge(ledger, "a", V), ==, 1);
    /* After it was told, only truth does. */
    id = plan(ledger, "a", V, 1, 4);
    walk(ledger, id, FORE_LEDGER_ATTESTING, FORE_LEDGER_PLUGGING);
    fore_ledger_move(ledger, id, FORE_LEDGER_FAILED, "x", 3, NULL);
    g_assert_cmpfloat(fore_ledger_charge(ledger, "a", V), ==, 4);
    fore_ledger_sync(ledger, "a", V, 2);
    g_assert_cmpfloat(fore_ledger_charge(ledger, "a", V), ==, 2);
}

static void test_release(void)
{
    g_autoptr(ForeLedger) ledger = two_vms();
    ForeLedgerEntry entry;
    uint64_t id = plan(ledger, "a", M, GIB, 4 * GIB);

    walk(ledger, id, FORE_LEDGER_ATTESTING, FORE_LEDGER_ONLINE);
    id = plan(ledger, "a", M, 4 * GIB, GIB);
    g_assert_false(fore_ledger_move(ledger, id, FORE_LEDGER_ATTESTING, NULL, 3, NULL));
    walk(ledger, id, FORE_LEDGER_RELEASING, FORE_LEDGER_RELEASING);
    g_assert_cmpfloat(fore_ledger_charge(ledger, "a", M), ==, 4 * GIB); /* until it is confirmed */
    g_assert_false(fore_ledger_settle(ledger, id, FORE_LEDGER_ONLINE, 1, 1, NULL, 4, NULL));
    g_assert_true(fore_ledger_settle(ledger, id, FORE_LEDGER_RELEASED, 2 * GIB, 2 * GIB, "partly",
                                     4, &entry));
    g_assert_cmpfloat(entry.to, ==, 2 * GIB);
    g_assert_cmpfloat(fore_ledger_charge(ledger, "a", M), ==, 2 * GIB);
    g_assert_false(fore_ledger_settle(ledger, id, FORE_LEDGER_RELEASED, 0, 0, NULL, 5, NULL));
}

/* Two ledgers, one restored from what the other journalled, in any order, agree. */
static void test_restore(void)
{
    g_autoptr(ForeLedger) ledger = two_vms();
    g_autoptr(ForeLedger) again = fore_ledger_new(8, 8 * GIB);
    g_autoptr(GArray) list = NULL;
    g_autoptr(GArray) copy = NULL;
    uint64_t id;

    id = plan(ledger, "a", V, 1, 3);
    walk(ledger, id, FORE_LEDGER_ATTESTING, FORE_LEDGER_ONLINE);
    id = plan(ledger, "a", V, 3, 2);
    walk(ledger, id, FORE_LEDGER_RELEASING, FORE_LEDGER_RELEASED);
    id = plan(ledger, "b", V, 2, 5);
    walk(ledger, id, FORE_LEDGER_ATTESTING, FORE_LEDGER_PLUGGING);
    id = plan(ledger, "b", M, 2 * GIB, 3 * GIB);

    list = fore_ledger_list(ledger, NULL, 100);
    g_assert_cmpuint(list->len, ==, 4);
    for (guint i = list->len; i > 0; i--) {
        g_autoptr(GError) error = NULL;
        fore_ledger_restore(again, &g_array_index(list, ForeLedgerEntry, i - 1), &error);
        g_assert_no_error(error);
    }
    g_assert_true(fore_ledger_set_base(again, "a", 1, GIB, NULL));
    g_assert_true(fore_ledger_set_base(again, "b", 2, 2 * GIB, NULL));
    copy = fore_ledger_list(again, NULL, 100);
    g_assert_cmpmem(copy->data, copy->len * sizeof(ForeLedgerEntry), list->data,
                    list->len * sizeof(ForeLedgerEntry));
    for (int r = 0; r < FORE_RES_N; r++) {
        g_assert_cmpfloat(fore_ledger_promised(again, r), ==, fore_ledger_promised(ledger, r));
    }
    g_assert_cmpuint(fore_ledger_next_id(again), >, id);
}

static void test_restore_refuses(void)
{
    g_autoptr(ForeLedger) ledger = two_vms();
    ForeLedgerEntry good = {.id = 3, .vm = "a", .from = 1, .to = 2}, bad;

    bad = good, bad.id = 0;
    g_assert_false(fore_ledger_restore(ledger, &bad, NULL));
    bad = good, bad.state = FORE_LEDGER_N;
    g_assert_false(fore_ledger_restore(ledger, &bad, NULL));
    bad = good, bad.resource = 77;
    g_assert_false(fore_ledger_restore(ledger, &bad, NULL));
    bad = good, bad.to = NAN;
    g_assert_false(fore_ledger_restore(ledger, &bad, NULL));
    bad = good, memset(bad.vm, 'a', sizeof bad.vm);
    g_assert_false(fore_ledger_restore(ledger, &bad, NULL));
    bad = good, memset(bad.reason, 'a', sizeof bad.reason);
    g_assert_false(fore_ledger_restore(ledger, &bad, NULL));
    g_assert_true(fore_ledger_restore(ledger, &good, NULL));
    g_assert_false(fore_ledger_restore(ledger, &good, NULL)); /* the same id */
    bad = good, bad.id = 4;
    g_assert_false(fore_ledger_restore(ledger, &bad, NULL)); /* a second open one */
}

static void test_list(void)
{
    g_autoptr(ForeLedger) ledger = two_vms();
    g_autoptr(GArray) list = NULL;
    uint64_t last = 0;

    for (int i = 0; i < 5000; i++) {
        last = plan(ledger, "a", V, 1, 2);
        fore_ledger_move(ledger, last, FORE_LEDGER_FAILED, NULL, 1, NULL);
    }
    last = plan(ledger, "a", V, 1, 2);
    list = fore_ledger_list(ledger, "a", 3);
    g_assert_cmpuint(list->len, ==, 4);
    g_assert_cmpuint(g_array_index(list, ForeLedgerEntry, 3).id, ==, last);
    g_clear_pointer(&list, g_array_unref);
    list = fore_ledger_list(ledger, NULL, 100000);
    g_assert_cmpuint(list->len, <=, 1024); /* old history is forgotten, memory is bounded */
    g_clear_pointer(&list, g_array_unref);
    list = fore_ledger_list(ledger, "b", 3);
    g_assert_cmpuint(list->len, ==, 0);
}

static void test_remove(void)
{
    g_autoptr(ForeLedger) ledger = two_vms();

    plan(ledger, "a", V, 1, 4);
    fore_ledger_remove_vm(ledger, "a");
    fore_ledger_remove_vm(ledger, "nobody");
    g_assert_cmpfloat(fore_ledger_promised(ledger, V), ==, 2);
    g_assert_true(fore_ledger_set_base(ledger, "a", 1, GIB, NULL));
    g_assert_cmpfloat(fore_ledger_promised(ledger, V), ==, 3);
}

/* 20,000 random calls on 5 VMs: plans and moves alone never take the promise past capacity. */
static void test_invariant(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(42);
    g_autoptr(ForeLedger) ledger = fore_ledger_new(12, 12 * GIB);
    static const char *const vms[] = {"v0", "v1", "v2", "v3", "v4"};
    unsigned refused = 0, planned = 0, online = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(vms); i++) {
        g_assert_true(fore_ledger_set_base(ledger, vms[i], 1, GIB, NULL));
    }
    for (int n = 0; n < 20000; n++) {
        const char *vm = vms[g_rand_int_range(rand, 0, G_N_ELEMENTS(vms))];
        ForeResource r = g_rand_int_range(rand, 0, FORE_RES_N);
        double unit = r == V ? 1 : GIB;
        if (g_rand_int_range(rand, 0, 3) == 0) {
            double held = fore_ledger_charge(ledger, vm, r);
            double to = unit * g_rand_int_range(rand, 1, 9);
            if (fore_ledger_plan(ledger, vm, r, 1, held, to, n, NULL, NULL)) {
                planned++;
            } else {
                refused++;
            }
        } else {
            g_autoptr(GArray) open = fore_ledger_list(ledger, NULL, 2);
            if (open->len > 0) {
                const ForeLedgerEntry *e = &g_array_index(
                    open, ForeLedgerEntry, g_rand_int_range(rand, 0, (int)open->len));
                ForeLedgerState to = g_rand_int_range(rand, 0, FORE_LEDGER_N);
                if (to == FORE_LEDGER_FAILED && g_rand_boolean(rand)) {
                    continue;
                }
                if (fore_ledger_move(ledger, e->id, to, "r", n, NULL)) {
                    online += to == FORE_LEDGER_ONLINE;
                }
            }
        }
        for (int q = 0; q < FORE_RES_N; q++) {
            g_assert_cmpfloat(fore_ledger_promised(ledger, q), <=,
                              fore_ledger_capacity(ledger, q) + 1e-3);
        }
    }
    g_assert_cmpuint(planned, >, 500); /* the walk did reach what it is about */
    g_assert_cmpuint(refused, >, 100);
    g_assert_cmpuint(online, >, 20);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/control/ledger/every-pair-of-states-is-as-written", test_pairs);
    g_test_add_func("/control/ledger/forbidden-moves-change-nothing", test_moves);
    g_test_add_func("/control/ledger/growth-is-charged-from-the-plan-on", test_growth);
    g_test_add_func("/control/ledger/promises-stop-at-capacity", test_limit);
    g_test_add_func("/control/ledger/absurd-plans-are-refused", test_refusals);
    g_test_add_func("/control/ledger/failed-plug-stays-charged-until-truth", test_failures);
    g_test_add_func("/control/ledger/release-frees-only-what-came-back", test_release);
    g_test_add_func("/control/ledger/restore-in-any-order-agrees", test_restore);
    g_test_add_func("/control/ledger/malformed-records-are-left-out", test_restore_refuses);
    g_test_add_func("/control/ledger/history-is-bounded", test_list);
    g_test_add_func("/control/ledger/removed-vm-frees-its-promise", test_remove);
    g_test_add_func("/control/ledger/random-use-never-passes-capacity", test_invariant);
    return g_test_run();
}

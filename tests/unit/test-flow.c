/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "common/fore-flow.h"

#define MIB 1048576.0

static ForeSample sample(void)
{
    ForeSample s = {0};

    s.valid = 1u << FORE_FIELD_CPU_BUSY | 1u << FORE_FIELD_ONLINE_VCPUS |
              1u << FORE_FIELD_MEM_USED | 1u << FORE_FIELD_MEM_TOTAL;
    s.value[FORE_FIELD_CPU_BUSY] = 0.5;
    s.value[FORE_FIELD_ONLINE_VCPUS] = 2;
    s.value[FORE_FIELD_MEM_USED] = 400 * MIB;
    s.value[FORE_FIELD_MEM_TOTAL] = 1000 * MIB;
    return s;
}

static void put(ForeSample *s, ForeField field, double value)
{
    s->valid |= 1u << field;
    s->value[field] = value;
}

static double vcpus(const ForeSample *s)
{
    double v = -1, m = -1;

    g_assert_true(fore_usage_demand(s, &v, &m) & 1u);
    return v;
}

static double mem(const ForeSample *s)
{
    double v = -1, m = -1;

    g_assert_true(fore_usage_demand(s, &v, &m) & 2u);
    return m;
}

static void test_free_usage_is_demand(void)
{
    ForeSample s = sample();

    g_assert_cmpfloat(vcpus(&s), ==, 0.5);
    g_assert_cmpfloat(mem(&s), ==, 400 * MIB);
    put(&s, FORE_FIELD_RUNNABLE, 9); /* a moment's queue while CPUs idle is no demand */
    g_assert_cmpfloat(vcpus(&s), ==, 0.5);
}

static void test_full_cpus_count_the_queue(void)
{
    ForeSample s = sample();

    put(&s, FORE_FIELD_CPU_BUSY, 1.8);     /* 0.9 of 2: at the limit */
    g_assert_cmpfloat(vcpus(&s), ==, 1.8); /* the queue is not known */
    put(&s, FORE_FIELD_RUNNABLE, 5);
    g_assert_cmpfloat(vcpus(&s), ==, 5);
    put(&s, FORE_FIELD_RUNNABLE, 1);
    g_assert_cmpfloat(vcpus(&s), ==, 1.8); /* never less than what was used */
    put(&s, FORE_FIELD_CPU_BUSY, 1.79);
    put(&s, FORE_FIELD_RUNNABLE, 5);
    g_assert_cmpfloat(vcpus(&s), ==, 1.79);
}

static void test_short_memory_asks_for_more(void)
{
    ForeSample s = sample();

    put(&s, FORE_FIELD_MEM_USED, 850 * MIB); /* 15 % are left: enough */
    g_assert_cmpfloat(mem(&s), ==, 850 * MIB);
    put(&s, FORE_FIELD_MEM_USED, 860 * MIB);
    g_assert_cmpfloat(mem(&s), ==, 860 * MIB * 1.25);
    put(&s, FORE_FIELD_MEM_TOTAL, 100 * MIB);
    put(&s, FORE_FIELD_MEM_USED, 90 * MIB); /* a quarter more is less than one block */
    g_assert_cmpfloat(mem(&s), ==, 90 * MIB + (double)FORE_MEM_BLOCK);
}

static void test_stalls_ask_for_more(void)
{
    ForeSample s = sample();

    put(&s, FORE_FIELD_PSI_MEM, 0.05);
    g_assert_cmpfloat(mem(&s), ==, 400 * MIB);
    put(&s, FORE_FIELD_PSI_MEM, 0.06);
    g_assert_cmpfloat(mem(&s), ==, 400 * MIB + (double)FORE_MEM_BLOCK);
    s = sample();
    put(&s, FORE_FIELD_SWAP_OUT, 0.1);
    g_assert_cmpfloat(mem(&s), >, 400 * MIB);
    s.valid &= ~(1u << FORE_FIELD_SWAP_OUT); /* not measured: no meaning, whatever is there */
    g_assert_cmpfloat(mem(&s), ==, 400 * MIB);
}

static void test_missing_fields(void)
{
    static const struct {
        ForeField field;
        unsigned left;
    } lost[] = {{FORE_FIELD_CPU_BUSY, 2},
                {FORE_FIELD_ONLINE_VCPUS, 2},
                {FORE_FIELD_MEM_USED, 1},
                {FORE_FIELD_MEM_TOTAL, 1}};

    for (unsigned i = 0; i < G_N_ELEMENTS(lost); i++) {
        ForeSample s = sample();
        double v = -1, m = -1;
        s.valid &= ~(1u << lost[i].field);
        g_assert_cmpuint(fore_usage_demand(&s, &v, &m), ==, lost[i].left);
        g_assert_true((lost[i].left & 1u) != 0 || v == -1); /* untouched */
        g_assert_true((lost[i].left & 2u) != 0 || m == -1);
    }
}

static void test_names_are_complete(void)
{
    for (unsigned i = 0; i < FORE_FIELD_N; i++) {
        g_assert_nonnull(fore_field_names[i]);
        for (unsigned j = 0; j < i; j++) {
            g_assert_cmpstr(fore_field_names[i], !=, fore_field_names[j]);
        }
    }
    for (unsigned i = 1; i < FORE_N_HORIZON; i++) {
        g_assert_cmpuint(fore_horizons[i], >, fore_horizons[i - 1]);
    }
    for (unsigned i = 1; i < FORE_N_QUANTILE; i++) {
        g_assert_cmpfloat(fore_quantiles[i], >, fore_quantiles[i - 1]);
    }
    g_assert_cmpfloat(fore_quantiles[FORE_Q50], ==, 0.5);
    g_assert_cmpfloat(fore_quantiles[FORE_Q95], ==, 0.95);
}

static void test_uuid(void)
{
    static const char *const bad[] = {
        "",
        "01234567-89ab-cdef-0123-456789abcde",
        "01234567-89ab-cdef-0123-456789abcdef0",
        "01234567-89AB-cdef-0123-456789abcdef",
        "0123456789ab-cdef-0123-456789abcdef--",
        "01234567 89ab-cdef-0123-456789abcdef",
        "0123456g-89ab-cdef-0123-456789abcdef",
        "{1234567-89ab-cdef-0123-456789abcdef",
        "01234567-89ab-cdef-0123-456789abcde\n",
    };

    g_assert_true(fore_uuid_is_valid("01234567-89ab-cdef-0123-456789abcdef"));
    g_assert_false(fore_uuid_is_valid(NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("'%s'", bad[i]);
        g_assert_false(fore_uuid_is_valid(bad[i]));
    }
}

static void test_name(void)
{
    static const char *const bad[] = {"",         ".",   "..",   ".a",   "-a",
                                      "a b",      "a/b", "a\n",  "a\\b", "a'b",
                                      "\xc3\xa9", "a%s", "a;rm", "$(a)", "a\x01"};
    g_autofree char *longest = g_strnfill(FORE_NAME_MAX, 'n');
    g_autofree char *longer = g_strnfill(FORE_NAME_MAX + 1, 'n');

    g_assert_true(fore_name_is_valid("web1"));
    g_assert_true(fore_name_is_valid("A.b_c-9"));
    g_assert_true(fore_name_is_valid("9"));
    g_assert_true(fore_name_is_valid(longest));
    g_assert_false(fore_name_is_valid(longer));
    g_assert_false(fore_name_is_valid(NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("'%s'", bad[i]);
        g_assert_false(fore_name_is_valid(bad[i]));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/common/flow/usage-below-the-limit-is-demand", test_free_usage_is_demand);
    g_test_add_func("/common/flow/full-cpus-count-the-queue", test_full_cpus_count_the_queue);
    g_test_add_func("/common/flow/short-memory-asks-for-more", test_short_memory_asks_for_more);
    g_test_add_func("/common/flow/stalls-ask-for-more", test_stalls_ask_for_more);
    g_test_add_func("/common/flow/missing-fields-give-no-demand", test_missing_fields);
    g_test_add_func("/common/flow/names-and-orders-are-complete", test_names_are_complete);
    g_test_add_func("/common/flow/uuid-has-one-form", test_uuid);
    g_test_add_func("/common/flow/name-is-safe-everywhere", test_name);
    return g_test_run();
}

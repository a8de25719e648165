/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Settings as text, their limits, and the rounding of targets that they steer. */
#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "control/fore-target.h"

#define MIB (G_GUINT64_CONSTANT(1) << 20)
#define GIB (G_GUINT64_CONSTANT(1) << 30)

static void set(ForePolicy *policy, const char *key, const char *value)
{
    g_autoptr(GError) error = NULL;

    fore_policy_set(policy, key, value, &error);
    g_assert_no_error(error);
}

static void refuse(const char *key, const char *value, ForeErrorCode code)
{
    ForePolicy policy, before;
    g_autoptr(GError) error = NULL;

    fore_policy_init(&policy);
    before = policy;
    g_assert_false(fore_policy_set(&policy, key, value, &error));
    g_assert_error(error, FORE_ERROR, (gint)code);
    g_assert_nonnull(strstr(error->message, key));
    g_assert_true(memcmp(&policy, &before, sizeof policy) == 0);
}

static void test_defaults(void)
{
    ForePolicy policy;
    g_autoptr(GError) error = NULL;

    fore_policy_init(&policy);
    g_assert_true(fore_policy_check(&policy, &error));
    g_assert_no_error(error);
    g_assert_cmpint(policy.mode, ==, FORE_MODE_RECOMMEND);
    g_assert_cmpuint(policy.max_vcpus, ==, 1);
    g_assert_cmpuint(policy.max_mem_bytes, ==, 0);
    g_assert_cmpuint(policy.quantile, ==, FORE_Q95);
    g_assert_cmpuint(policy.shrink_hold_ns, ==, 60 * FORE_NS_PER_S);
}

static void test_examples(void)
{
    ForePolicy policy;

    fore_policy_init(&policy);
    set(&policy, "max-vcpus", "4");
    set(&policy, "max-memory", "2GiB");
    set(&policy, "base-memory", "512M");
    set(&policy, "mode", "enforce");
    set(&policy, "shrink-hold", "8s");
    set(&policy, "lead-min", "1500ms");
    set(&policy, "cooldown", "2min");
    set(&policy, "forecaster", "reactive");
    set(&policy, "quantile", "P90");
    set(&policy, "utilisation-vcpu", "0.75");
    set(&policy, "reattest-memory", "1.5GiB");
    set(&policy, "pid-vcpu", "0.5, 0.1, 0, 1, 0.25");
    set(&policy, "on-attest-failure", "relieve-memory");
    g_assert_cmpuint(policy.max_vcpus, ==, 4);
    g_assert_cmpuint(policy.max_mem_bytes, ==, 2 * GIB);
    g_assert_cmpuint(policy.base_mem_bytes, ==, 512 * MIB);
    g_assert_cmpint(policy.mode, ==, FORE_MODE_ENFORCE);
    g_assert_cmpuint(policy.shrink_hold_ns, ==, 8 * FORE_NS_PER_S);
    g_assert_cmpuint(policy.lead_min_ns, ==, 1500 * FORE_NS_PER_S / 1000);
    g_assert_cmpuint(policy.cooldown_ns, ==, 120 * FORE_NS_PER_S);
    g_assert_cmpint(policy.forecaster, ==, FORE_FORECASTER_REACTIVE);
    g_assert_cmpuint(policy.quantile, ==, FORE_Q90);
    g_assert_cmpfloat(policy.utilisation[FORE_RES_VCPU], ==, 0.75);
    g_assert_cmpfloat(policy.reattest_threshold[FORE_RES_MEM], ==, 1.5 * (double)GIB);
    g_assert_cmpfloat(policy.pid[FORE_RES_VCPU].gain_down, ==, 0.25);
    g_assert_true(policy.relieve_memory);
    set(&policy, "on-attest-failure", "hold");
    g_assert_false(policy.relieve_memory);
}

static void test_refusals(void)
{
    static const char *const bad[][2] = {
        {"max-vcpus", "0"},
        {"max-vcpus", "-1"},
        {"max-vcpus", "4097"},
        {"max-vcpus", "2.5"},
        {"max-vcpus", ""},
        {"max-vcpus", "4 "},
        {"max-vcpus", "0x10"},
        {"max-vcpus", "1e999"},
        {"max-vcpus", "nan"},
        {"max-memory", "-1GiB"},
        {"max-memory", "2 GiB"},
        {"max-memory", "2GB"},
        {"max-memory", "1e30GiB"},
        {"max-memory", "0.3B"},
        {"shrink-hold", "8"},
        {"shrink-hold", "s"},
        {"shrink-hold", "2days"},
        {"shrink-hold", "100h"},
        {"mode", "on"},
        {"mode", ""},
        {"quantile", "p05"},
        {"quantile", "p99"},
        {"utilisation-vcpu", "0"},
        {"utilisation-vcpu", "1.01"},
        {"denial-hold", "0s"},
        {"max-verdict-age", "0ms"},
        {"pid-vcpu", "1,2,3"},
        {"pid-vcpu", "1,2,3,4,x"},
        {"pid-vcpu", "1,2,3,4,-5"},
        {"pid-vcpu", "1,2,3,4,5,6"},
        {"on-attest-failure", "1"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        refuse(bad[i][0], bad[i][1], FORE_ERROR_INVALID);
    }
    refuse("max-cpus", "4", FORE_ERROR_NOT_FOUND);
    refuse("", "4", FORE_ERROR_NOT_FOUND);
}

static void test_unknown_key_lists_the_known(void)
{
    ForePolicy policy;
    g_autoptr(GError) error = NULL;

    fore_policy_init(&policy);
    g_assert_false(fore_policy_set(&policy, "nonsense", "1", &error));
    for (const char *const *key = fore_policy_keys(); *key; key++) {
        g_assert_nonnull(strstr(error->message, *key));
    }
}

/* What get() writes, set() reads back to the same policy, for defaults and for odd values. */
static void test_round_trip(void)
{
    static const char *const odd[][2] = {
        {"mode", "observe"},
        {"min-vcpus", "3"},
        {"max-memory", "1023B"},
        {"shrink-hold", "1234567us"},
        {"utilisation-vcpu", "0.7123456789012345"},
        {"lead-min", "0s"},
        {"deadband-memory", "0"},
        {"pid-memory", "0.1,0.3,0,1,1e-9"},
    };
    ForePolicy policy, copy;

    fore_policy_init(&policy);
    for (size_t i = 0; i <= G_N_ELEMENTS(odd); i++) {
        memset(&copy, 0xff, sizeof copy);
        fore_policy_init(&copy);
        for (const char *const *key = fore_policy_keys(); *key; key++) {
            g_autofree char *text = fore_policy_get(&policy, *key);
            set(&copy, *key, text);
        }
        for (const char *const *key = fore_policy_keys(); *key; key++) {
            g_autofree char *a = fore_policy_get(&policy, *key);
            g_autofree char *b = fore_policy_get(&copy, *key);
            g_assert_cmpstr(a, ==, b);
        }
        g_assert_cmpmem(&policy, sizeof policy, &copy, sizeof copy);
        if (i < G_N_ELEMENTS(odd)) {
            set(&policy, odd[i][0], odd[i][1]);
        }
    }
    g_assert_null(fore_policy_get(&policy, "nonsense"));
}

static void check_fails(const ForePolicy *policy, const char *a, const char *b)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(fore_policy_check(policy, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, a));
    g_assert_nonnull(strstr(error->message, b));
}

static void test_check(void)
{
    ForePolicy policy;

    fore_policy_init(&policy);
    policy.min_vcpus = 5;
    policy.max_vcpus = 4;
    check_fails(&policy, "min-vcpus", "max-vcpus");
    fore_policy_init(&policy);
    policy.min_mem_bytes = 2 * GIB;
    policy.max_mem_bytes = GIB;
    check_fails(&policy, "min-memory", "max-memory");
    fore_policy_init(&policy);
    policy.base_mem_bytes = 2 * GIB;
    policy.max_mem_bytes = GIB;
    check_fails(&policy, "base-memory", "max-memory");
}

static void test_vcpus(void)
{
    ForePolicy policy;

    fore_policy_init(&policy);
    policy.max_vcpus = 6;
    policy.min_vcpus = 2;
    policy.utilisation[FORE_RES_VCPU] = 0.8;
    g_assert_cmpuint(fore_target_vcpus(&policy, 0), ==, 2);
    g_assert_cmpuint(fore_target_vcpus(&policy, 1.6), ==, 2);
    g_assert_cmpuint(fore_target_vcpus(&policy, 1.63), ==, 2); /* 2.04: within the slack */
    g_assert_cmpuint(fore_target_vcpus(&policy, 1.7), ==, 3);
    g_assert_cmpuint(fore_target_vcpus(&policy, 3.2), ==, 4);
    g_assert_cmpuint(fore_target_vcpus(&policy, 99), ==, 6);
}

static void test_memory(void)
{
    ForePolicy policy;

    fore_policy_init(&policy);
    policy.utilisation[FORE_RES_MEM] = 1;
    policy.base_mem_bytes = 512 * MIB;
    policy.max_mem_bytes = 1000 * MIB; /* not on the grid: 896 is */
    g_assert_cmpuint(fore_target_mem(&policy, 0), ==, 512 * MIB);
    g_assert_cmpuint(fore_target_mem(&policy, 512.0 * MIB), ==, 512 * MIB);
    g_assert_cmpuint(fore_target_mem(&policy, 512.0 * MIB + 1), ==, 640 * MIB);
    g_assert_cmpuint(fore_target_mem(&policy, 700.0 * MIB), ==, 768 * MIB);
    g_assert_cmpuint(fore_target_mem(&policy, 9999.0 * MIB), ==, 896 * MIB);
    policy.max_mem_bytes = 0; /* no limit given: base alone */
    g_assert_cmpuint(fore_target_mem(&policy, 9999.0 * MIB), ==, 512 * MIB);
    policy.base_mem_bytes = 500 * MIB; /* an odd base is a base */
    policy.max_mem_bytes = GIB;
    policy.min_mem_bytes = 520 * MIB;
    g_assert_cmpuint(fore_target_mem(&policy, 0), ==, 628 * MIB);
}

static void test_horizon(void)
{
    ForeForecast f = {.mono_ns = 100 * FORE_NS_PER_S, .step_ns = FORE_NS_PER_S};
    bool covered = false;

    g_assert_cmpuint(fore_target_horizon(&f, FORE_NS_PER_S, f.mono_ns, &covered), ==, 0);
    g_assert_cmpuint(fore_target_horizon(&f, 2 * FORE_NS_PER_S, f.mono_ns, &covered), ==, 1);
    g_assert_cmpuint(fore_target_horizon(&f, 2 * FORE_NS_PER_S + 1, f.mono_ns, &covered), ==, 2);
    /* An old forecast has used up part of its reach. */
    g_assert_cmpuint(
        fore_target_horizon(&f, 2 * FORE_NS_PER_S, f.mono_ns + 2 * FORE_NS_PER_S, &covered), ==, 3);
    g_assert_true(covered);
    g_assert_cmpuint(fore_target_horizon(&f, 13 * FORE_NS_PER_S, f.mono_ns, &covered), ==,
                     FORE_N_HORIZON - 1);
    g_assert_false(covered);
}

static void test_never_below_reactive(void)
{
    g_assert_cmpfloat(fore_target_combine(1, 0, 3), ==, 3);
    g_assert_cmpfloat(fore_target_combine(3, 0.5, 1), ==, 3.5);
    g_assert_cmpfloat(fore_target_combine(3, -2, 1), ==, 3); /* a correction down takes nothing */
    g_assert_cmpfloat(fore_target_combine(0, 0, 2), ==, 2);
}

static void test_sanity(void)
{
    ForeUsage good = {.valid = true,
                      .demand = {1, 1e8},
                      .used = {1, 1e8},
                      .capacity = {1, 1, 1, 512 * MIB, 512 * MIB, 512 * MIB}};
    const double bad[] = {NAN, INFINITY, -INFINITY, -1e-9, -1, 1e300};
    ForeForecast f = {.step_ns = FORE_NS_PER_S};

    g_assert_true(fore_target_usage_is_sane(&good));
    g_assert_true(fore_target_forecast_is_sane(&f));
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        for (int r = 0; r < FORE_RES_N; r++) {
            ForeUsage u = good;
            u.demand[r] = bad[i];
            g_assert_false(fore_target_usage_is_sane(&u));
            f.point[r][5][4] = bad[i];
            g_assert_false(fore_target_forecast_is_sane(&f));
            f.point[r][5][4] = 0;
            f.peak[r][0][0] = bad[i];
            g_assert_false(fore_target_forecast_is_sane(&f));
            f.peak[r][0][0] = 0;
        }
    }
    good.capacity.vcpus_online = 0;
    g_assert_false(fore_target_usage_is_sane(&good));
    f.step_ns = 0;
    g_assert_false(fore_target_forecast_is_sane(&f));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/control/policy/defaults-are-safe", test_defaults);
    g_test_add_func("/control/policy/settings-are-taken", test_examples);
    g_test_add_func("/control/policy/bad-values-change-nothing", test_refusals);
    g_test_add_func("/control/policy/unknown-key-lists-the-known",
                    test_unknown_key_lists_the_known);
    g_test_add_func("/control/policy/text-reads-back-the-same", test_round_trip);
    g_test_add_func("/control/policy/limits-must-agree", test_check);
    g_test_add_func("/control/target/vcpus-round-up-with-slack", test_vcpus);
    g_test_add_func("/control/target/memory-keeps-to-blocks-above-base", test_memory);
    g_test_add_func("/control/target/horizon-covers-lead-and-age", test_horizon);
    g_test_add_func("/control/target/never-below-the-reactive-rule", test_never_below_reactive);
    g_test_add_func("/control/target/absurd-numbers-are-seen", test_sanity);
    return g_test_run();
}

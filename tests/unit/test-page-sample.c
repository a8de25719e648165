/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/fore-page-sample.h"

#include <string.h>

#define S FORE_NS_PER_S

/* One vCPU, a second apart: 1000 instructions of which 200 are SIMD and 100 string. */
static void two_readings(ForePageSnapshot *prev, ForePageSnapshot *cur)
{
    memset(prev, 0, sizeof(*prev));
    prev->mono_ns = 10 * S;
    prev->valid = FORE_PAGE_HAS_ALL & ~(uint64_t)(FORE_PAGE_HAS_EXITS | FORE_PAGE_HAS_HALT);
    prev->n_vcpus = 1;
    g_strlcpy(prev->target, "x86_64", sizeof(prev->target));
    prev->vcpu[0].state = FORE_PAGE_VCPU_RUNNING;
    prev->vcpu[0].plugged_ns = 1 * S;
    prev->vcpu[0].updated_ns = 10 * S;
    *cur = *prev;
    cur->mono_ns = 11 * S;
    cur->vcpu[0].updated_ns = 11 * S;
    cur->vcpu[0].insns = 1000;
    cur->vcpu[0].mix[FORE_PAGE_MIX_INTEGER] = 700;
    cur->vcpu[0].mix[FORE_PAGE_MIX_SIMD_FP] = 200;
    cur->vcpu[0].mix[FORE_PAGE_MIX_STRING] = 100;
    cur->vcpu[0].space_switches = 40;
    cur->vcpu[0].signature[0] = 1000;
    cur->vm.syscall_number[0] = 30;  /* read */
    cur->vm.syscall_number[44] = 10; /* sendto */
    cur->vm.syscall_number[39] = 60; /* getpid */
    cur->vm.window_ns = S;
    cur->vm.ws_pages = 256;
    cur->vm.n_spaces = 1;
    cur->vm.space_ns = S;
    cur->vm.spaces[0].ns = S / 4;
}

static void is(const ForeSample *s, ForeField field, double want)
{
    g_assert_true(FORE_HAS(s, field));
    g_assert_cmpfloat_with_epsilon(s->value[field], want, 1e-9);
}

static void test_all(void)
{
    g_autofree ForePageSnapshot *prev = g_new(ForePageSnapshot, 1);
    g_autofree ForePageSnapshot *cur = g_new(ForePageSnapshot, 1);
    ForeSample s = {.valid = 1u << FORE_FIELD_CPU_BUSY};

    two_readings(prev, cur);
    fore_page_sample(prev, cur, &s);
    is(&s, FORE_FIELD_MIX_SIMD, 0.2);
    is(&s, FORE_FIELD_MIX_STRING, 0.1);
    is(&s, FORE_FIELD_SPACE_SWITCHES, 40.0);
    is(&s, FORE_FIELD_SYSCALL_FILE, 0.3);
    is(&s, FORE_FIELD_SYSCALL_NET, 0.1);
    is(&s, FORE_FIELD_WORKING_SET, 1048576.0);
    is(&s, FORE_FIELD_SPACE_TOP, 0.25);
    is(&s, FORE_FIELD_SIGNATURE_A, 1.0); /* bucket 0 has sign +1 in each */
    g_assert_true(FORE_HAS(&s, FORE_FIELD_CPU_BUSY));
}

/* Other code, other folds; the same code at another speed, the same. */
static void test_folds(void)
{
    g_autofree ForePageSnapshot *prev = g_new(ForePageSnapshot, 1);
    g_autofree ForePageSnapshot *cur = g_new(ForePageSnapshot, 1);
    ForeSample slow = {0}, fast = {0}, other = {0};

    two_readings(prev, cur);
    cur->vcpu[0].signature[0] = 300;
    cur->vcpu[0].signature[1] = 100;
    fore_page_sample(prev, cur, &slow);
    cur->vcpu[0].signature[0] = 3000;
    cur->vcpu[0].signature[1] = 1000;
    fore_page_sample(prev, cur, &fast);
    cur->vcpu[0].signature[1] = 9000;
    fore_page_sample(prev, cur, &other);
    is(&slow, FORE_FIELD_SIGNATURE_A, 0.75);
    is(&fast, FORE_FIELD_SIGNATURE_A, slow.value[FORE_FIELD_SIGNATURE_A]);
    g_assert_cmpfloat(other.value[FORE_FIELD_SIGNATURE_A], <, 0.5);
}

/* What is not measured has no bit, whatever was there before. */
static void test_absent(void)
{
    g_autofree ForePageSnapshot *prev = g_new(ForePageSnapshot, 1);
    g_autofree ForePageSnapshot *cur = g_new(ForePageSnapshot, 1);
    ForeSample s = {.valid = UINT32_MAX >> (32 - FORE_FIELD_N)};

    two_readings(prev, cur);
    cur->valid = FORE_PAGE_HAS_INSNS;
    fore_page_sample(prev, cur, &s);
    for (unsigned f = FORE_FIELD_MIX_SIMD; f <= FORE_FIELD_SIGNATURE_C; f++) {
        g_assert_false(FORE_HAS(&s, f));
    }
    g_assert_true(FORE_HAS(&s, FORE_FIELD_UPTIME) && FORE_HAS(&s, FORE_FIELD_NEXT_IN));
    s.valid = UINT32_MAX >> (32 - FORE_FIELD_N);
    fore_page_sample(cur, cur, &s); /* no time passed: no rate */
    g_assert_false(FORE_HAS(&s, FORE_FIELD_WORKING_SET));
}

/* A guest of another kind has other system calls. */
static void test_target(void)
{
    g_autofree ForePageSnapshot *prev = g_new(ForePageSnapshot, 1);
    g_autofree ForePageSnapshot *cur = g_new(ForePageSnapshot, 1);
    ForeSample s = {0};

    two_readings(prev, cur);
    g_strlcpy(cur->target, "aarch64", sizeof(cur->target));
    fore_page_sample(prev, cur, &s);
    g_assert_false(FORE_HAS(&s, FORE_FIELD_SYSCALL_FILE));
    is(&s, FORE_FIELD_MIX_SIMD, 0.2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/common/page-sample/all-that-the-page-has", test_all);
    g_test_add_func("/common/page-sample/folds-tell-code-not-speed", test_folds);
    g_test_add_func("/common/page-sample/what-is-not-measured-is-masked", test_absent);
    g_test_add_func("/common/page-sample/other-targets-have-other-calls", test_target);
    return g_test_run();
}

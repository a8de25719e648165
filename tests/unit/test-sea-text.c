/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The texts of /proc and /sys, as kernels write them and as they never should. */
#include <string.h>

#include "guest-agent/fore-sea-text.h"

static bool cpus(const char *text, ForeSeaCpus *ret)
{
    return fore_sea_text_cpus(text, strlen(text), ret);
}

static void cpu_lists(void)
{
    ForeSeaCpus set;

    g_assert_true(cpus("0-3,5,8-9\n", &set));
    g_assert_cmpuint(set.n, ==, 7);
    g_assert_true(fore_sea_cpus_has(&set, 9));
    g_assert_false(fore_sea_cpus_has(&set, 4));
    g_assert_false(fore_sea_cpus_has(&set, FORE_SEA_CPUS_MAX));
    g_assert_true(cpus("\n", &set));
    g_assert_cmpuint(set.n, ==, 0);
    g_assert_true(cpus("", &set));
    g_assert_true(cpus("1-3,2", &set));
    g_assert_cmpuint(set.n, ==, 3);
    g_assert_true(cpus("0-4095", &set));
    g_assert_cmpuint(set.n, ==, FORE_SEA_CPUS_MAX);
}

static void bad_cpu_lists(void)
{
    static const char *const bad[] = {
        "3-1",     "0-4096", "99999999999999999999", "0-", ",1", "1,", "a", "1 2", "0-3x", "1--2",
        "0-3\n\n", "-1"};
    ForeSeaCpus set = {.n = 77};

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("%s", bad[i]);
        g_assert_false(cpus(bad[i], &set));
        g_assert_cmpuint(set.n, ==, 77);
    }
    g_assert_false(fore_sea_text_cpus("1\0002", 3, &set));
}

static void numbers(void)
{
    static const char stat[] = "cpu  10 1 5 1000 7 2 3 99 4 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
    static const char load[] = "0.52 0.58 0.59 3/612 12345\n";
    static const char mem[] = "MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:     600 kB\n";
    static const char psi[] = "some avg10=0.68 avg60=0.94 avg300=0.29 total=4702257\n"
                              "full avg10=0.00 avg60=0.00 avg300=0.00 total=17\n";
    uint64_t v;

    g_assert_true(fore_sea_text_busy(stat, strlen(stat), &v));
    g_assert_cmpuint(v, ==, 10 + 1 + 5 + 2 + 3);
    g_assert_true(fore_sea_text_runnable(load, strlen(load), &v));
    g_assert_cmpuint(v, ==, 3);
    g_assert_true(fore_sea_text_labelled(mem, strlen(mem), "MemAvailable:", &v));
    g_assert_cmpuint(v, ==, 600);
    g_assert_false(fore_sea_text_labelled(mem, strlen(mem), "Mem", &v));
    g_assert_false(fore_sea_text_labelled(mem, strlen(mem), "SwapFree:", &v));
    g_assert_true(fore_sea_text_stalled(psi, strlen(psi), &v));
    g_assert_cmpuint(v, ==, 4702257);
    g_assert_true(fore_sea_text_hex("8000000\n", 8, &v));
    g_assert_cmpuint(v, ==, 128u << 20);
}

static void cut_texts(void)
{
    static const char stat[] = "cpu  10 1 5 1000 7 2 3";
    static const char psi[] = "some avg10=0.68 avg60=0.94 avg300=0.29 total=";
    uint64_t v = 5;

    for (size_t n = 0; n < strlen(stat) - 1; n++) {
        g_assert_false(fore_sea_text_busy(stat, n, &v));
    }
    for (size_t n = 0; n <= strlen(psi); n++) {
        g_assert_false(fore_sea_text_stalled(psi, n, &v));
    }
    g_assert_false(fore_sea_text_runnable("0.5 0.5 3", 9, &v));
    g_assert_false(fore_sea_text_runnable("3/4", 3, &v));
    g_assert_false(fore_sea_text_hex("0\n", 2, &v));
    g_assert_false(fore_sea_text_hex("0x80\n", 5, &v));
    g_assert_false(fore_sea_text_hex("11112222333344445", 17, &v));
    g_assert_cmpuint(v, ==, 5);
}

static void uevents(void)
{
    static const char cpu[] = "add@/devices/system/cpu/cpu1\0ACTION=add";
    static const char block[] = "add@/devices/system/memory/memory40\0ACTION=add";
    static const char disk[] = "add@/devices/virtual/block/loop0\0X=@/devices/system/cpu/";

    g_assert_true(fore_sea_text_uevent(cpu, sizeof cpu));
    g_assert_true(fore_sea_text_uevent(block, sizeof block));
    g_assert_false(fore_sea_text_uevent(disk, sizeof disk));
    g_assert_false(fore_sea_text_uevent("libudev\0@/devices/system/cpu/", 29));
    g_assert_false(fore_sea_text_uevent("", 0));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guest-agent/text/cpu-lists-are-sets", cpu_lists);
    g_test_add_func("/guest-agent/text/a-bad-cpu-list-is-no-answer", bad_cpu_lists);
    g_test_add_func("/guest-agent/text/numbers-are-found", numbers);
    g_test_add_func("/guest-agent/text/a-cut-text-is-no-answer", cut_texts);
    g_test_add_func("/guest-agent/text/only-cpu-and-memory-uevents-count", uevents);
    return g_test_run();
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Usage out of a /proc of our own, and the configuration file. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "common/fore-json.h"
#include "guest-agent/fore-sea-config.h"
#include "guest-agent/fore-sea-usage.h"
#include "tests/lib/fore-test-sysfs.h"

/* As the kernel does, the contents change behind an open file; so not by rename. */
static void set_proc(ForeTestSysfs *proc, const char *name, const char *contents)
{
    g_autofree char *path = g_build_filename(proc->root, name, NULL);
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

    if (fd < 0) {
        fore_test_sysfs_set(proc, name, contents);
        return;
    }
    g_assert_cmpint(write(fd, contents, strlen(contents)), ==, (ssize_t)strlen(contents));
    close(fd);
}

#define HAS(r, f)   (((r).valid >> FORE_SEA_USAGE_##f) & 1u)
#define VALUE(r, f) ((r).value[FORE_SEA_USAGE_##f])

static void rates(void)
{
    g_autoptr(ForeTestSysfs) proc = fore_test_sysfs_new(1, 1, 0, 0);
    g_autoptr(ForeSeaUsage) usage = fore_sea_usage_new(proc->root);
    long hz = sysconf(_SC_CLK_TCK);
    g_autofree char *later = g_strdup_printf("cpu  %ld 0 10 9 9 0 0\n", 100 + 3 * hz);
    ForeSeaReport r;

    set_proc(proc, "stat", "cpu  100 0 10 5 5 0 0\n");
    set_proc(proc, "loadavg", "0.5 0.5 0.5 4/100 7\n");
    set_proc(proc, "meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\n");
    set_proc(proc, "vmstat", "pgpgin 1\npswpout 50\n");
    set_proc(proc, "pressure/cpu", "some avg10=0 total=1000000\n");
    set_proc(proc, "pressure/memory", "some avg10=0 total=0\n");
    fore_sea_usage_report(usage, 5000000, &r);
    g_assert_cmpuint(r.interval_us, ==, 0);
    g_assert_false(HAS(r, CPU_BUSY) || HAS(r, SWAP_OUT) || HAS(r, RUNNABLE));
    g_assert_cmpfloat(VALUE(r, MEM_USED), ==, 400 * 1024);

    fore_sea_usage_look(usage);
    set_proc(proc, "loadavg", "0.5 0.5 0.5 1/100 7\n");
    fore_sea_usage_look(usage);
    set_proc(proc, "stat", later);
    set_proc(proc, "vmstat", "pgpgin 1\npswpout 250\n");
    set_proc(proc, "pressure/cpu", "some avg10=0 total=1500000\n");
    set_proc(proc, "pressure/memory", "some avg10=0 total=9000000\n");
    fore_sea_usage_report(usage, 7000000, &r);
    g_assert_cmpuint(r.interval_us, ==, 2000000);
    g_assert_cmpfloat_with_epsilon(VALUE(r, CPU_BUSY), 1.5, 1e-9);
    g_assert_cmpfloat_with_epsilon(VALUE(r, RUNNABLE), 1.5, 1e-9); /* 3 and 0 without the reader */
    g_assert_cmpfloat_with_epsilon(VALUE(r, PSI_CPU), 0.25, 1e-9);
    g_assert_cmpfloat_with_epsilon(VALUE(r, PSI_MEM), 1.0, 1e-9);
    g_assert_cmpfloat_with_epsilon(VALUE(r, SWAP_OUT), 100, 1e-9);
    set_proc(proc, "meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\nSwapTotal: 0 kB\n");
    set_proc(proc, "vmstat", "pgpgin 1\npswpout 900\n");
    fore_sea_usage_report(usage, 8000000, &r);
    g_assert_cmpfloat(VALUE(r, SWAP_OUT), ==, 0); /* nowhere to swap to */
}

static void absent(void)
{
    g_autoptr(ForeTestSysfs) proc = fore_test_sysfs_new(1, 1, 0, 0);
    g_autoptr(ForeSeaUsage) usage = fore_sea_usage_new(proc->root);
    g_autoptr(json_t) json = NULL;
    ForeSeaReport r;

    set_proc(proc, "meminfo", "MemTotal: 1000 kB\n");
    fore_sea_usage_look(usage);
    fore_sea_usage_report(usage, 1, &r);
    fore_sea_usage_report(usage, 1000001, &r);
    g_assert_cmpuint(r.valid, ==, 1u << FORE_SEA_USAGE_MEM_TOTAL);
    json = fore_sea_report_json(&r, 9, 3);
    g_assert_cmpuint(json_object_size(json), ==, 4);
    g_assert_cmpint(json_integer_value(json_object_get(json, "seq")), ==, 9);
    g_assert_cmpint(json_integer_value(json_object_get(json, "vcpus-online")), ==, 3);
    g_assert_cmpint(json_integer_value(json_object_get(json, "interval-ms")), ==, 1000);
}

static void backwards(void)
{
    g_autoptr(ForeTestSysfs) proc = fore_test_sysfs_new(1, 1, 0, 0);
    g_autoptr(ForeSeaUsage) usage = fore_sea_usage_new(proc->root);
    ForeSeaReport r;

    set_proc(proc, "stat", "cpu  100 0 10 5 5 0 0\n");
    fore_sea_usage_report(usage, 1000000, &r);
    set_proc(proc, "stat", "cpu  50 0 10 5 5 0 0\n");
    fore_sea_usage_report(usage, 2000000, &r);
    g_assert_false(HAS(r, CPU_BUSY));
    fore_sea_usage_report(usage, 3000000, &r);
    g_assert_true(HAS(r, CPU_BUSY));
    g_assert_cmpfloat(VALUE(r, CPU_BUSY), ==, 0);
}

/* 2 s in which ticks saw half a vCPU of work, but only 0.2 s of idleness was measured. */
static void lost_ticks(void)
{
    g_autoptr(ForeTestSysfs) proc = fore_test_sysfs_new(1, 1, 0, 0);
    g_autoptr(ForeSeaUsage) usage = fore_sea_usage_new(proc->root);
    long hz = sysconf(_SC_CLK_TCK);
    g_autofree char *later = g_strdup_printf("cpu  %ld 0 0 %ld 0 0 0\n", 100 + hz, 100 + hz / 5);
    g_autofree char *grown =
        g_strdup_printf("cpu  %ld 0 0 %ld 0 0 0\n", 100 + 2 * hz, 100 + hz / 2);
    ForeSeaReport r;

    fore_sea_usage_online(usage, 1);
    set_proc(proc, "stat", "cpu  100 0 0 100 0 0 0\n");
    fore_sea_usage_report(usage, 1000000, &r);
    set_proc(proc, "stat", later);
    fore_sea_usage_report(usage, 3000000, &r);
    g_assert_cmpfloat_with_epsilon(VALUE(r, CPU_BUSY), 0.9, 1e-9);
    /* Three vCPUs came online just before the report: they were not there to be used. */
    set_proc(proc, "stat", grown);
    fore_sea_usage_online(usage, 4);
    fore_sea_usage_report(usage, 4000000, &r);
    g_assert_cmpfloat_with_epsilon(VALUE(r, CPU_BUSY), 1.0, 1e-9);
}

#define GOOD                                                                                       \
    "[sea]\nvm-uuid=6f2b1a54-0c3d-4e5f-8a9b-0c1d2e3f4a5b\npam-key=/x/pam.pem\nhost-pin="           \
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n"

static void config_good(void)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(ForeSeaConfig) c =
        fore_sea_config_parse(GOOD "milliseconds=250\nport=unix:/tmp/x\n",
                              strlen(GOOD "milliseconds=250\nport=unix:/tmp/x\n"), &err);

    g_assert_no_error(err);
    g_assert_cmpuint(c->milliseconds, ==, 250);
    g_assert_cmpstr(c->sysfs_root, ==, "/sys");
    g_assert_cmpstr(c->tcti, ==, "device:/dev/tpmrm0");
    g_assert_cmpstr(c->port, ==, "unix:/tmp/x");
    g_assert_false(c->offline_memory);
    g_assert_false(fore_sea_config_set_port(c, "vport0p1", NULL));
    g_assert_true(fore_sea_config_set_port(c, "/dev/vport0p1", NULL));
}

static void config_bad(void)
{
    static const struct {
        const char *text, *names;
    } bad[] = {
        {"", "[sea]"},
        {"[other]\na=b\n", "[sea]"},
        {"[sea]\nhost-pin=1\n", "pam-key"},
        {"[sea]\npam-key=/x\n", "host-pin"},
        {"[sea]\npam-key=/x\nhost-pin=zz\n", "host-pin"},
        {GOOD "nonsense=1\n", "nonsense"},
        {GOOD "milliseconds=99\n", "milliseconds=99"},
        {GOOD "milliseconds=-1\n", "milliseconds=-1"},
        {GOOD "release-memory=yes\n", "release-memory=yes"},
        {GOOD "port=vport0p1\n", "port=vport0p1"},
        {GOOD "vm-uuid=6F2B1A54-0C3D-4E5F-8A9B-0C1D2E3F4A5B\n", "vm-uuid=6F"},
        {GOOD "garbage\n", "garbage"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) err = NULL;
        g_assert_null(fore_sea_config_parse(bad[i].text, strlen(bad[i].text), &err));
        g_test_message("%s", err->message);
        g_assert_error(err, FORE_ERROR, FORE_ERROR_INVALID);
        g_assert_nonnull(strstr(err->message, bad[i].names));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guest-agent/usage/counters-become-rates", rates);
    g_test_add_func("/guest-agent/usage/what-the-kernel-lacks-is-absent", absent);
    g_test_add_func("/guest-agent/usage/a-counter-that-falls-leaves-its-rate-out", backwards);
    g_test_add_func("/guest-agent/usage/ticks-lost-to-the-host-count-as-use", lost_ticks);
    g_test_add_func("/guest-agent/config/presets-fill-what-is-left-out", config_good);
    g_test_add_func("/guest-agent/config/an-error-names-the-key", config_bad);
    return g_test_run();
}

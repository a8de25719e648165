/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CPUs and memory blocks in a fake /sys, and what a grant lets in. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "guest-agent/fore-sea-grant.h"
#include "guest-agent/fore-sea-hotplug.h"
#include "tests/lib/fore-test-sysfs.h"

#define BLOCK ((uint64_t)128 << 20)

static void assert_cpu(ForeTestSysfs *sysfs, unsigned n, const char *want)
{
    g_autofree char *is = fore_test_sysfs_cpu(sysfs, n);

    g_assert_cmpstr(is, ==, want);
}

static void assert_block(ForeTestSysfs *sysfs, unsigned n, const char *want)
{
    g_autofree char *is = fore_test_sysfs_block(sysfs, n);

    g_assert_cmpstr(is, ==, want);
}

static ForeSeaCapacity scan(ForeTestSysfs *sysfs)
{
    g_autoptr(GError) err = NULL;
    ForeSeaCapacity c = {0};

    fore_sea_hotplug_scan(sysfs->root, &c, &err);
    g_assert_no_error(err);
    return c;
}

static void counts(void)
{
    g_autoptr(ForeTestSysfs) sysfs = fore_test_sysfs_new(3, 8, 4, 2);
    ForeSeaCapacity c = scan(sysfs);

    g_assert_cmpuint(c.vcpus_possible, ==, 8);
    g_assert_cmpuint(c.vcpus_present, ==, 3);
    g_assert_cmpuint(c.vcpus_online, ==, 1);
    g_assert_cmpuint(c.blocks_present, ==, 6);
    g_assert_cmpuint(fore_sea_capacity_online_bytes(&c), ==, 4 * BLOCK);
}

static void grows_to_totals(void)
{
    g_autoptr(ForeTestSysfs) sysfs = fore_test_sysfs_new(4, 8, 4, 3);
    ForeSeaCapacity c;

    g_assert_true(fore_sea_hotplug_grow(sysfs->root, 3, 6 * BLOCK + BLOCK / 2, NULL));
    assert_cpu(sysfs, 1, "1");
    assert_cpu(sysfs, 2, "1");
    assert_cpu(sysfs, 3, "0");
    assert_block(sysfs, 4, "online_movable");
    assert_block(sysfs, 5, "online_movable");
    assert_block(sysfs, 6, "offline");
    g_assert_true(fore_sea_hotplug_grow(sysfs->root, 2, 0, NULL)); /* never shrinks */
    c = scan(sysfs);
    g_assert_cmpuint(c.vcpus_online, ==, 3);
    g_assert_cmpuint(c.blocks_online, ==, 6);
}

static void shrinks_from_the_top(void)
{
    g_autoptr(ForeTestSysfs) sysfs = fore_test_sysfs_new(4, 8, 4, 3);

    g_assert_true(fore_sea_hotplug_grow(sysfs->root, 4, 7 * BLOCK, NULL));
    g_assert_true(fore_sea_hotplug_shrink_cpus(sysfs->root, 2, NULL));
    assert_cpu(sysfs, 3, "0");
    assert_cpu(sysfs, 2, "0");
    assert_cpu(sysfs, 1, "1");
    g_assert_true(fore_sea_hotplug_shrink_cpus(sysfs->root, 0, NULL));
    g_assert_cmpuint(scan(sysfs).vcpus_online, ==, 1);
    fore_test_sysfs_set(sysfs, "devices/system/memory/memory6/removable", "0\n");
    g_assert_true(fore_sea_hotplug_shrink_memory(sysfs->root, 5 * BLOCK, 8, NULL));
    assert_block(sysfs, 6, "online_movable");
    assert_block(sysfs, 5, "offline");
    assert_block(sysfs, 4, "offline");
    assert_block(sysfs, 3, "online");
    g_assert_true(fore_sea_hotplug_shrink_memory(sysfs->root, 0, 1, NULL));
    g_assert_cmpuint(scan(sysfs).blocks_online, ==, 4); /* one try was all */
}

static void failed_write(void)
{
    g_autoptr(ForeTestSysfs) sysfs = fore_test_sysfs_new(3, 8, 1, 0);
    g_autofree char *path = g_build_filename(sysfs->root, "devices/system/cpu/cpu1/online", NULL);
    g_autoptr(GError) err = NULL;

    /* A file of procfs that refuses writes with EIO. */
    g_assert_cmpint(unlink(path), ==, 0);
    g_assert_cmpint(symlink("/proc/version", path), ==, 0);
    g_assert_false(fore_sea_hotplug_grow(sysfs->root, 3, 0, &err));
    g_assert_error(err, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    g_assert_nonnull(strstr(err->message, "cpu1/online"));
    assert_cpu(sysfs, 2, "1"); /* the next one was tried all the same */
}

static void holds_new_memory(void)
{
    g_autoptr(ForeTestSysfs) sysfs = fore_test_sysfs_new(1, 1, 1, 0);
    g_autofree char *state = NULL;

    g_assert_true(fore_sea_hotplug_hold(sysfs->root, NULL));
    state = fore_test_sysfs_get(sysfs, "devices/system/memory/auto_online_blocks");
    g_assert_cmpstr(state, ==, "offline");
}

static void broken_tree(void)
{
    g_autoptr(ForeTestSysfs) sysfs = fore_test_sysfs_new(2, 2, 1, 0);
    g_autoptr(GError) err = NULL;
    ForeSeaCapacity c;

    fore_test_sysfs_set(sysfs, "devices/system/cpu/present", "0-99999\n");
    g_assert_false(fore_sea_hotplug_scan(sysfs->root, &c, &err));
    g_assert_error(err, FORE_ERROR, FORE_ERROR_INVALID);
    g_clear_error(&err);
    g_assert_false(fore_sea_hotplug_scan("/nonexistent", &c, &err));
    g_assert_error(err, FORE_ERROR, FORE_ERROR_UNSUPPORTED);
}

static void no_memory_hotplug(void)
{
    g_autoptr(ForeTestSysfs) sysfs = fore_test_sysfs_new(2, 2, 1, 1);

    fore_test_sysfs_set(sysfs, "devices/system/memory/block_size_bytes", "zero\n");
    g_assert_cmpuint(scan(sysfs).block_bytes, ==, 0);
    g_assert_true(fore_sea_hotplug_grow(sysfs->root, 2, 9 * BLOCK, NULL));
    assert_block(sysfs, 1, "offline");
}

static void allowed_totals(void)
{
    ForeSeaCapacity c = {.vcpus_possible = 8,
                         .vcpus_present = 4,
                         .vcpus_online = 1,
                         .block_bytes = BLOCK,
                         .blocks_present = 6,
                         .blocks_online = 4};
    ForeGrant grant = {.vcpus = 3, .mem_bytes = 5 * BLOCK, .seq = 7, .expires_s = 1060};
    ForeSeaAllowed a;
    unsigned vcpus, blocks;

    fore_sea_allowed_init(&a, &c);
    g_assert_false(a.open);
    fore_sea_allowed_held(&a, &c, &vcpus, &blocks);
    g_assert_cmpuint(vcpus, ==, 3);
    g_assert_cmpuint(blocks, ==, 2);

    fore_sea_allowed_grant(&a, &grant, 0, 1000);
    fore_sea_allowed_held(&a, &c, &vcpus, &blocks);
    g_assert_true(a.open);
    g_assert_cmpuint(vcpus, ==, 1);
    g_assert_cmpuint(blocks, ==, 1);

    fore_sea_allowed_release(&a, 2, 100 * BLOCK);
    g_assert_cmpuint(a.vcpus, ==, 2);
    g_assert_cmpuint(a.mem_bytes, ==, 5 * BLOCK);
    fore_sea_allowed_release(&a, 0, 0);
    g_assert_cmpuint(a.vcpus, ==, 1);
}

static void expiry(void)
{
    ForeSeaCapacity c = {.vcpus_online = 2, .block_bytes = BLOCK, .blocks_online = 4};
    ForeGrant grant = {.vcpus = 8, .mem_bytes = 9 * BLOCK, .seq = 7, .expires_s = 1060};
    int64_t skew = FORE_GRANT_SKEW_S;
    ForeSeaAllowed a;

    fore_sea_allowed_init(&a, &c);
    fore_sea_allowed_grant(&a, &grant, 5, 1000);
    g_assert_false(fore_sea_allowed_expire(&a, &c, 6, 1000));
    c.vcpus_online = 3;
    g_assert_true(fore_sea_allowed_expire(&a, &c, 5 + (60 + skew) * G_USEC_PER_SEC, 1000));
    g_assert_cmpuint(a.vcpus, ==, 3); /* what is online stays */
    g_assert_cmpuint(a.mem_bytes, ==, 4 * BLOCK);
    g_assert_false(a.open);
    fore_sea_allowed_grant(&a, &grant, 5, 1000);
    g_assert_true(fore_sea_allowed_expire(&a, &c, 6, 1060 + skew)); /* by either clock */
    g_assert_false(fore_sea_allowed_expire(&a, &c, 6, 1060 + skew));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guest-agent/hotplug/what-is-online-is-counted", counts);
    g_test_add_func("/guest-agent/hotplug/growth-stops-at-the-totals", grows_to_totals);
    g_test_add_func("/guest-agent/hotplug/release-starts-at-the-top-and-keeps-cpu0",
                    shrinks_from_the_top);
    g_test_add_func("/guest-agent/hotplug/a-write-that-fails-is-named", failed_write);
    g_test_add_func("/guest-agent/hotplug/new-memory-is-held-offline", holds_new_memory);
    g_test_add_func("/guest-agent/hotplug/a-broken-tree-is-refused", broken_tree);
    g_test_add_func("/guest-agent/hotplug/no-block-size-means-no-memory-writes", no_memory_hotplug);
    g_test_add_func("/guest-agent/grant/totals-only-rise-by-a-grant", allowed_totals);
    g_test_add_func("/guest-agent/grant/the-end-of-a-grant-keeps-what-is-online", expiry);
    return g_test_run();
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/lib/fore-test-sysfs.h"

#include <ftw.h>
#include <stdio.h>

void fore_test_sysfs_set(ForeTestSysfs *sysfs, const char *name, const char *contents)
{
    g_autofree char *path = g_build_filename(sysfs->root, name, NULL);
    g_autofree char *dir = g_path_get_dirname(path);
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
    g_file_set_contents(path, contents, -1, &err); /* by rename: never seen half written */
    g_assert_no_error(err);
}

char *fore_test_sysfs_get(ForeTestSysfs *sysfs, const char *name)
{
    g_autofree char *path = g_build_filename(sysfs->root, name, NULL);
    g_autoptr(GError) err = NULL;
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, &err);
    g_assert_no_error(err);
    return g_strstrip(text);
}

char *fore_test_sysfs_cpu(ForeTestSysfs *sysfs, unsigned n)
{
    g_autofree char *name = g_strdup_printf("devices/system/cpu/cpu%u/online", n);

    return fore_test_sysfs_get(sysfs, name);
}

char *fore_test_sysfs_block(ForeTestSysfs *sysfs, unsigned n)
{
    g_autofree char *name = g_strdup_printf("devices/system/memory/memory%u/state", n);

    return fore_test_sysfs_get(sysfs, name);
}

void fore_test_sysfs_add_cpu(ForeTestSysfs *sysfs)
{
    g_autofree char *present = g_strdup_printf("0-%u\n", sysfs->cpus);
    g_autofree char *name = g_strdup_printf("devices/system/cpu/cpu%u/online", sysfs->cpus);

    fore_test_sysfs_set(sysfs, name, "0\n");
    fore_test_sysfs_set(sysfs, "devices/system/cpu/present", present);
    sysfs->cpus++;
}

static void add_block(ForeTestSysfs *sysfs, const char *state)
{
    g_autofree char *name = g_strdup_printf("devices/system/memory/memory%u/state", sysfs->blocks);
    g_autofree char *removable =
        g_strdup_printf("devices/system/memory/memory%u/removable", sysfs->blocks);

    fore_test_sysfs_set(sysfs, removable, "1\n");
    fore_test_sysfs_set(sysfs, name, state);
    sysfs->blocks++;
}

void fore_test_sysfs_add_block(ForeTestSysfs *sysfs)
{
    add_block(sysfs, "offline\n");
}

ForeTestSysfs *fore_test_sysfs_new(unsigned cpus, unsigned cpus_possible, unsigned blocks_online,
                                   unsigned blocks_offline)
{
    ForeTestSysfs *sysfs = g_new0(ForeTestSysfs, 1);
    g_autofree char *possible = g_strdup_printf("0-%u\n", cpus_possible - 1);
    g_autoptr(GError) err = NULL;

    sysfs->root = g_dir_make_tmp("foresee-sysfs-XXXXXX", &err);
    g_assert_no_error(err);
    fore_test_sysfs_set(sysfs, "devices/system/cpu/possible", possible);
    fore_test_sysfs_set(sysfs, "devices/system/cpu/present", "0\n");
    fore_test_sysfs_set(sysfs, "devices/system/cpu/online", "0\n");
    sysfs->cpus = 1;
    while (sysfs->cpus < cpus) {
        fore_test_sysfs_add_cpu(sysfs);
    }
    fore_test_sysfs_set(sysfs, "devices/system/memory/block_size_bytes", "8000000\n");
    fore_test_sysfs_set(sysfs, "devices/system/memory/auto_online_blocks", "online\n");
    for (unsigned i = 0; i < blocks_online + blocks_offline; i++) {
        add_block(sysfs, i < blocks_online ? "online\n" : "offline\n");
    }
    return sysfs;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

void fore_test_sysfs_free(ForeTestSysfs *sysfs)
{
    if (!sysfs) {
        return;
    }
    nftw(sysfs->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    g_free(sysfs->root);
    g_free(sysfs);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A tree that looks like /sys to the guest agent: CPU 0 online without a switch, the other present
 * CPUs offline; memory blocks of 128 MiB, the first ones online.  Nothing outside its own temporary
 * directory is touched.
 */
#include <glib.h>

typedef struct {
    char *root;
    unsigned cpus, blocks; /* present */
} ForeTestSysfs;

ForeTestSysfs *fore_test_sysfs_new(unsigned cpus, unsigned cpus_possible, unsigned blocks_online,
                                   unsigned blocks_offline);
void fore_test_sysfs_free(ForeTestSysfs *sysfs); /* removes the tree; NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeTestSysfs, fore_test_sysfs_free)

void fore_test_sysfs_add_cpu(ForeTestSysfs *sysfs);   /* hot-plug: the next number, offline */
void fore_test_sysfs_add_block(ForeTestSysfs *sysfs); /* likewise */
/** fore_test_sysfs_set: the contents of a file below the root; directories are made */
void fore_test_sysfs_set(ForeTestSysfs *sysfs, const char *name, const char *contents);
char *fore_test_sysfs_get(ForeTestSysfs *sysfs, const char *name); /* (transfer full), stripped */
char *fore_test_sysfs_cpu(ForeTestSysfs *sysfs, unsigned n);       /* its `online` */
char *fore_test_sysfs_block(ForeTestSysfs *sysfs, unsigned n);     /* its `state` */

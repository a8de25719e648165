/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * CPUs and memory blocks through the guest kernel's sysfs: what is there, what is online, and the
 * writes that change it.  Blocking (a write returns when the kernel has done it, 1 ms to seconds):
 * call from a worker thread.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_SEA_BLOCKS_MAX 65536 /* memory blocks that are looked at */

typedef struct {
    unsigned vcpus_possible, vcpus_present, vcpus_online;
    uint64_t block_bytes; /* of one memory block; 0: this kernel has no memory hot-plug */
    unsigned blocks_present, blocks_online;
} ForeSeaCapacity;

static inline uint64_t fore_sea_capacity_online_bytes(const ForeSeaCapacity *capacity)
{
    return capacity->block_bytes * capacity->blocks_online;
}

/**
 * fore_sea_hotplug_scan: what is there now
 * @sysfs_root: "/sys", or a tree that looks like it
 * Errors: FORE_ERROR_UNSUPPORTED (no CPU lists there), FORE_ERROR_INVALID (unreadable contents)
 */
bool fore_sea_hotplug_scan(const char *sysfs_root, ForeSeaCapacity *ret, GError **error);

/**
 * fore_sea_hotplug_grow: bring present devices online up to totals, lowest number first; memory as
 * movable, so that it can be taken back
 * @vcpus: CPUs online afterwards at most   @mem_bytes: bytes in online blocks afterwards at most
 * Errors: FORE_ERROR_UNAVAILABLE: at least one write failed (the rest was tried); retry later
 */
bool fore_sea_hotplug_grow(const char *sysfs_root, unsigned vcpus, uint64_t mem_bytes,
                           GError **error);

/**
 * fore_sea_hotplug_shrink_cpus: take CPUs offline, highest number first, never CPU 0 nor one that
 * cannot leave, until at most @vcpus (at least 1) are online.  Errors as above.
 */
bool fore_sea_hotplug_shrink_cpus(const char *sysfs_root, unsigned vcpus, GError **error);

/**
 * fore_sea_hotplug_shrink_memory: offline removable blocks, highest first, until at most @mem_bytes
 * are in online blocks; stops after @max_tries writes.  Errors as above.
 */
bool fore_sea_hotplug_shrink_memory(const char *sysfs_root, uint64_t mem_bytes, unsigned max_tries,
                                    GError **error);

/**
 * fore_sea_hotplug_hold: make the kernel leave new memory blocks offline
 * Errors: FORE_ERROR_UNTRUSTED: it brings them online by itself and does not let us change that
 */
bool fore_sea_hotplug_hold(const char *sysfs_root, GError **error);

/**
 * fore_sea_hotplug_lists: the CPU lists as text: when it is another one than before, scan again
 * Returns: (transfer full), never NULL
 */
char *fore_sea_hotplug_lists(const char *sysfs_root);

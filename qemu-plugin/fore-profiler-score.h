/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The per-vCPU words that translated code counts in, on a scoreboard that never moves. */
#include <glib.h>
#include <qemu-plugin.h>
#include <stdint.h>

/* One vCPU's entry.  128 bytes: whatever the alignment, two vCPUs' words share no cache line. */
typedef struct {
    uint64_t pending; /* blocks << 32 | instructions, since the vCPU's thread last took them over */
    uint64_t loads;
    uint64_t stores;
    uint64_t syscalls;
    uint64_t pad[12];
} ForeProfilerScore;
G_STATIC_ASSERT(sizeof(ForeProfilerScore) == 128);

/**
 * fore_profiler_score_new: a scoreboard of @n entries, for the life of the process
 * @n: above the highest vCPU index that can appear
 * @ret_entries: [@n], all zero; the entry of vCPU i is written by vCPU i's thread
 * Returns: the scoreboard for the inline operations, or NULL with G_FILE_ERROR when this QEMU's
 * scoreboards are not built as expected (see the .c)
 */
struct qemu_plugin_scoreboard *fore_profiler_score_new(unsigned n, ForeProfilerScore **ret_entries,
                                                       GError **error);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The per-vCPU words that translated code counts in, on a scoreboard that never moves. */
#include <glib.h>
#include <qemu-plugin.h>
#include <stdint.h>

#include "qemu-plugin/fore-profiler-slot.h"

/* One vCPU's entry: a power of two, so that QEMU finds it by a shift.  Written by the vCPU's thread
 * only, each word with one store; read by the publishing thread. */
typedef struct {
    ForePageVcpu direct;         /* what is counted one by one; only its counters are used */
    uint64_t slots[FORE_SLOT_N]; /* executions */
} ForeProfilerScore;
G_STATIC_ASSERT(sizeof(ForeProfilerScore) == 262144);

/**
 * fore_profiler_score_new: a scoreboard of @n entries, for the life of the process
 * @n: above the highest vCPU index that can appear; 1..FORE_PAGE_MAX_VCPUS
 * @ret_entries: [@n], all zero; memory is taken as it is touched
 * Returns: the scoreboard for the inline operations, or NULL with G_FILE_ERROR when there is no
 * memory, or this QEMU's scoreboards are not built as expected (see the .c)
 */
struct qemu_plugin_scoreboard *fore_profiler_score_new(unsigned n, ForeProfilerScore **ret_entries,
                                                       GError **error);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Instruments what QEMU translates: finds what a block counts, and has QEMU count it inline. */
#include <glib.h>
#include <qemu-plugin.h>
#include <stdint.h>

#include "common/fore-page.h"
#include "qemu-plugin/fore-profiler-score.h"

/**
 * fore_translate_start: once, before any block is translated
 * @target: QEMU's target name; of one that is not known only blocks, instructions and accesses are
 * counted
 * @board: over @scores, [max_vcpus]
 * Returns: the ForePageValid bits that TCG guests of this kind get at this level, without those
 * that show only when it runs
 */
uint64_t fore_translate_start(const char *target, ForePageLevel level,
                              struct qemu_plugin_scoreboard *board, ForeProfilerScore *scores);

/** fore_translate_vcpu_init: find the vCPU's registers; on its thread, before it runs
 * Returns: more ForePageValid bits, which need them */
uint64_t fore_translate_vcpu_init(unsigned index);

/** fore_translate_block: QEMU's callback for each block that it translates */
void fore_translate_block(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);

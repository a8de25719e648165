/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What one execution of a block counts, known when it is translated.  Blocks that count the same
 * share a slot: a number that names one word per vCPU, in which translated code counts executions.
 * So a block costs one addition whatever is counted, and the table is bounded by the number of
 * different sums, not of blocks: flushing QEMU's code buffer and translating anew adds nothing.
 */
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/fore-page.h"
#include "qemu-plugin/fore-profiler-insn.h"

/* With the 1 KiB of a ForePageVcpu before them they make 256 KiB a vCPU. */
#define FORE_SLOT_N 32640

/* The key of a slot.  Compared byte by byte: padding is zero. */
typedef struct {
    uint16_t insns, loads, stores;
    uint16_t mix[FORE_PAGE_MIX_N];
    uint8_t branch;   /* ForePageBranch or FORE_INSN_NO_BRANCH: only the last can be one */
    uint8_t syscalls; /* 0 or 1, for the same reason */
    uint8_t bucket;   /* of the signature, 0..63 */
    uint8_t zero;
} ForeSlot;
G_STATIC_ASSERT(sizeof(ForeSlot) == 22);

/** fore_slot_add_insn: count one more instruction of the block */
void fore_slot_add_insn(ForeSlot *slot, const ForeInsn *insn);

/**
 * fore_slot_find: the slot with the sums of @key, made when there is none
 * Returns: 0..FORE_SLOT_N-1, or -1 when the table is full.  Takes a lock: from any thread.
 */
int fore_slot_find(const ForeSlot *key);

/** fore_slot_count: slots in use; fore_slot_get() of each below is final. From any thread */
unsigned fore_slot_count(void);
const ForeSlot *fore_slot_get(unsigned index);

/** fore_slot_sum: add @times executions of @slot to @to */
void fore_slot_sum(const ForeSlot *slot, uint64_t times, ForePageVcpu *to);

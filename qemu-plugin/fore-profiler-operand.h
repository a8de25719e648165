/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Where an x86 instruction's operand in memory is, in one word that fits QEMU's callback data. */
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    FORE_OPERAND_NO_SEGMENT,
    FORE_OPERAND_FS,
    FORE_OPERAND_GS
} ForeOperandSegment; /* the bases of the others are taken as 0 */

/* Base and index are general registers 0..15. */
typedef struct {
    bool has_base, has_index, is_fixed;
    uint8_t base, index, scale_log2;
    ForeOperandSegment segment;
    int32_t displacement;
    uint64_t fixed_page; /* where is_fixed: bits 12 to 51 of the address */
} ForeOperand;

/**
 * fore_operand_x86: the explicit operand, or the stack for PUSH, POP, CALL and RET
 * @code: [@size], one whole instruction in 32 or 64 bit code, not 16
 * @vaddr: its address: what is relative to it is known when it is in the upper half
 * Returns: false when there is none, or it does not follow from base, index and displacement
 */
bool fore_operand_x86(const uint8_t *code, size_t size, uint64_t vaddr, ForeOperand *ret);

/** fore_operand_is_stack: it is found from the stack pointer */
bool fore_operand_is_stack(const ForeOperand *operand);

/** fore_operand_pack: as callback data; fore_operand_unpack() gives the same back */
void *fore_operand_pack(const ForeOperand *operand);
void fore_operand_unpack(const void *data, ForeOperand *ret);

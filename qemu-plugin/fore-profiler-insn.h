/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What one guest instruction is, from its code bytes alone: kind, class of branch, and how many
 * memory accesses QEMU makes for it. */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/fore-page.h"

#define FORE_INSN_NO_BRANCH   FORE_PAGE_BRANCH_N
#define FORE_INSN_NO_REGISTER 0xff
#define FORE_INSN_MAX_BYTES   16

typedef struct {
    uint8_t kind;           /* ForePageMix */
    uint8_t branch;         /* ForePageBranch or FORE_INSN_NO_BRANCH */
    uint8_t loads, stores;  /* of one execution, where not @dynamic */
    bool dynamic;           /* the code does not say: its accesses must be counted at run time */
    bool syscall;           /* enters the guest's kernel */
    uint8_t space_register; /* x86: the general register (0..15) that it loads CR3 from */
} ForeInsn;

/**
 * fore_insn_x86: 16, 32 and 64 bit code alike
 * @code: [@size], one whole instruction with its prefixes, as QEMU cut it; @size 1..15
 * What is ambiguous between the three is given as @dynamic.
 */
void fore_insn_x86(const uint8_t *code, size_t size, ForeInsn *ret);

/** fore_insn_aarch64: @code: the instruction, as an integer.  Accesses are always dynamic. */
void fore_insn_aarch64(uint32_t code, ForeInsn *ret);

/** fore_insn_riscv64: the same; a compressed instruction is in the low 16 bits */
void fore_insn_riscv64(uint32_t code, ForeInsn *ret);

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Instructions of fixed length: their classes are a few bits of the code.  What they do to memory
 * is counted as they run (QEMU may make one access or two of a pair). */
#include <string.h>

#include "qemu-plugin/fore-profiler-insn.h"

static void set(ForeInsn *ret, uint8_t kind, uint8_t branch)
{
    ret->kind = kind;
    ret->branch = branch;
}

/* Arm ARM (DDI 0487), C4.1.94 "Branches, exception generating and system instructions" */
static void aarch64_control(uint32_t code, ForeInsn *ret)
{
    if ((code & 0x7c000000) == 0x14000000) { /* B, BL */
        set(ret, FORE_PAGE_MIX_CONTROL, code >> 31 ? FORE_PAGE_BRANCH_CALL : FORE_PAGE_BRANCH_JUMP);
    } else if ((code & 0xfe000000) == 0x54000000 || (code & 0x7c000000) == 0x34000000) {
        set(ret, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CONDITIONAL); /* B.cond, CBZ, TBZ */
    } else if ((code & 0xfe000000) == 0xd6000000) { /* BR, BLR, RET, ERET and others */
        unsigned op = (code >> 21) & 7;             /* bit 24, pointer authentication, apart */
        set(ret, FORE_PAGE_MIX_CONTROL,
            op == 0   ? FORE_PAGE_BRANCH_INDIRECT
            : op == 1 ? FORE_PAGE_BRANCH_CALL
            : op == 2 ? FORE_PAGE_BRANCH_RETURN
                      : FORE_INSN_NO_BRANCH);
    } else if ((code & 0xff000000) == 0xd4000000) { /* SVC, HVC, SMC, BRK */
        set(ret, FORE_PAGE_MIX_CONTROL, FORE_INSN_NO_BRANCH);
        ret->syscall = (code & 0xffe0001f) == 0xd4000001;
    } else if ((code & 0xfff00000) == 0xd5000000 || (code & 0xffe00000) == 0xd5200000) {
        /* Hints and barriers are everybody's; registers and cache operations mostly the kernel's,
         * but for those of op1 == 3 (counter, thread pointer, FPCR). */
        bool hint = (code & 0xfffff000) == 0xd5032000 || (code & 0xfffff000) == 0xd5033000;
        bool user = ((code >> 16) & 7) == 3;
        set(ret, hint || user ? FORE_PAGE_MIX_INTEGER : FORE_PAGE_MIX_PRIVILEGED,
            FORE_INSN_NO_BRANCH);
    } else {
        set(ret, FORE_PAGE_MIX_PRIVILEGED, FORE_INSN_NO_BRANCH); /* MSR (register) and others */
    }
}

void fore_insn_aarch64(uint32_t code, ForeInsn *ret)
{
    unsigned op0 = (code >> 25) & 15; /* C4.1, "A64 instruction set encoding" */

    memset(ret, 0, sizeof(*ret));
    ret->space_register = FORE_INSN_NO_REGISTER;
    ret->dynamic = (op0 & 5) == 4;
    if ((op0 & 14) == 10) {
        aarch64_control(code, ret);
    } else {
        bool vector_access = (op0 & 5) == 4 && ((code >> 26) & 1) == 1;
        set(ret, (op0 & 7) == 7 || vector_access ? FORE_PAGE_MIX_SIMD_FP : FORE_PAGE_MIX_INTEGER,
            FORE_INSN_NO_BRANCH);
    }
}

/* RISC-V unprivileged ISA, chapter "RV32/64G instruction set listings" */
static void riscv_whole(uint32_t code, ForeInsn *ret)
{
    unsigned rd = (code >> 7) & 31, rs1 = (code >> 15) & 31, funct3 = (code >> 12) & 7;

    switch (code & 0x7f) {
    case 0x63:
        set(ret, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CONDITIONAL);
        break;
    case 0x6f: /* JAL, JALR: a call when they keep the return address */
        set(ret, FORE_PAGE_MIX_CONTROL, rd == 0 ? FORE_PAGE_BRANCH_JUMP : FORE_PAGE_BRANCH_CALL);
        break;
    case 0x67:
        set(ret, FORE_PAGE_MIX_CONTROL,
            rd != 0    ? FORE_PAGE_BRANCH_CALL
            : rs1 == 1 ? FORE_PAGE_BRANCH_RETURN
                       : FORE_PAGE_BRANCH_INDIRECT);
        break;
    case 0x73: /* SYSTEM: ECALL, EBREAK and returns, or control registers */
        set(ret, funct3 == 0 ? FORE_PAGE_MIX_CONTROL : FORE_PAGE_MIX_PRIVILEGED,
            FORE_INSN_NO_BRANCH);
        ret->syscall = code == 0x00000073;
        break;
    case 0x07: /* floating point and vectors */
    case 0x27:
    case 0x43:
    case 0x47:
    case 0x4b:
    case 0x4f:
    case 0x53:
    case 0x57:
        set(ret, FORE_PAGE_MIX_SIMD_FP, FORE_INSN_NO_BRANCH);
        break;
    default:
        set(ret, FORE_PAGE_MIX_INTEGER, FORE_INSN_NO_BRANCH);
        break;
    }
}

/* The same document, chapter "C extension" */
static void riscv_compressed(uint16_t code, ForeInsn *ret)
{
    unsigned quadrant = code & 3, funct3 = code >> 13, rd = (code >> 7) & 31,
             rs2 = (code >> 2) & 31;

    set(ret, FORE_PAGE_MIX_INTEGER, FORE_INSN_NO_BRANCH);
    if (quadrant == 1 && funct3 == 5) {
        set(ret, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_JUMP);
    } else if (quadrant == 1 && funct3 >= 6) {
        set(ret, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CONDITIONAL);
    } else if (quadrant == 2 && funct3 == 4 && rs2 == 0 && rd != 0) { /* C.JR, C.JALR */
        set(ret, FORE_PAGE_MIX_CONTROL,
            code & 0x1000 ? FORE_PAGE_BRANCH_CALL
            : rd == 1     ? FORE_PAGE_BRANCH_RETURN
                          : FORE_PAGE_BRANCH_INDIRECT);
    } else if (quadrant != 1 && (funct3 == 1 || funct3 == 5)) { /* C.FLD, C.FSD and by stack */
        set(ret, FORE_PAGE_MIX_SIMD_FP, FORE_INSN_NO_BRANCH);
    }
}

void fore_insn_riscv64(uint32_t code, ForeInsn *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->space_register = FORE_INSN_NO_REGISTER;
    ret->dynamic = true; /* which instructions touch memory, QEMU knows: others cost nothing */
    if ((code & 3) == 3) {
        riscv_whole(code, ret);
    } else {
        riscv_compressed((uint16_t)code, ret);
    }
}

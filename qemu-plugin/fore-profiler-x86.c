/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "qemu-plugin/fore-profiler-insn.h"

/*
 * How it works
 *
 * Goal: what an instruction does to memory, known when QEMU translates it, so that nothing need be
 * counted when it runs.  Opcodes are those of the opcode maps in the Intel SDM, volume 2, appendix
 * A. Length and operand size do not matter: QEMU says where an instruction ends, and one operand in
 * memory is one access whatever its size.
 *
 * What QEMU does in more than one step, or depending on values (far transfers, segment loads,
 * locked and repeated instructions, state saves, x87, AVX), is marked dynamic and counted as it
 * runs.  So is whatever this table does not know: it can be slow, not wrong.
 */

enum {
    M_NONE = 0,
    M_LOAD = 1,  /* an operand in memory is read */
    M_STORE = 2, /* written */
    M_BOTH = 3,
    M_PUSH = 4,    /* one store, operand or not */
    M_POP = 5,     /* one load, operand or not */
    M_DYNAMIC = 6, /* count at run time when it has an operand in memory */
    M_ALWAYS = 7,  /* count at run time */
};

/* Memory effect of the opcodes of the first map, sixteen a row, one letter each:
 * . none, l load, s store, b both, u push, o pop, d dynamic with operand, A always dynamic */
static const char map1[] = "bbll..uAbbll..u."  /* 00 add, or; 0f is the second map */
                           "bbll..uAbbll..uA"  /* 10 adc, sbb */
                           "bbll....bbll...."  /* 20 and, sub */
                           "bbll....llll...."  /* 30 xor, cmp */
                           "................"  /* 40 inc, dec or REX */
                           "uuuuuuuuoooooooo"  /* 50 push, pop */
                           "AAAl....uluLAAAA"  /* 60 movsxd, push, imul, ins, outs */
                           "................"  /* 70 jcc */
                           "bbbbllbbsslls.dP"  /* 80 groups, test, xchg, mov, lea, pop */
                           "..........A.uo.."  /* 90 xchg, pushf, popf */
                           "llssMMCC..SSLLKK"  /* a0 moffs, strings */
                           "................"  /* b0 mov immediate */
                           "bbooAAssAoAA.A.A"  /* c0 shifts, ret, les, mov, enter, leave */
                           "bbbb...ldddddddd"  /* d0 shifts, xlat, x87 */
                           "........u.A....."  /* e0 loop, in, out, call, jmp */
                           "......ll......bb"; /* f0 groups */

static uint8_t effect_of(char letter)
{
    switch (letter) {
    case '.':
        return M_NONE;
    case 'l':
    case 'L':
        return M_LOAD;
    case 's':
        return M_STORE;
    case 'b':
        return M_BOTH;
    case 'u':
        return M_PUSH;
    case 'o':
        return M_POP;
    case 'd':
        return M_DYNAMIC;
    default:
        return M_ALWAYS;
    }
}

/* One instruction, cut in parts. */
typedef struct {
    uint8_t map; /* 1, 2 (0f), 3 (0f 38), 4 (0f 3a) */
    uint8_t opcode;
    uint8_t reg;    /* of the ModRM byte, 0..7; 0 without one */
    uint8_t rm;     /* of the ModRM byte, with REX.B: 0..15 */
    bool in_memory; /* the ModRM byte says memory */
    bool has_next;  /* there was a byte after the opcode */
    uint8_t next;
    bool op16, rep, repne, lock, vex;
} Parts;

static bool take_prefix(uint8_t byte, Parts *p)
{
    switch (byte) {
    case 0x66:
        p->op16 = true;
        return true;
    case 0xf0:
        p->lock = true;
        return true;
    case 0xf2:
        p->repne = true;
        return true;
    case 0xf3:
        p->rep = true;
        return true;
    case 0x67:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x26:
    case 0x64:
    case 0x65:
        return true;
    default:
        return false;
    }
}

static void cut(const uint8_t *code, size_t size, Parts *p)
{
    size_t at = 0;
    uint8_t rex = 0;

    memset(p, 0, sizeof(*p));
    while (at + 1 < size && take_prefix(code[at], p)) {
        at++;
    }
    /* In 16 and 32 bit code 40..4f is a whole instruction, and so its last byte. */
    if (at + 1 < size && (code[at] & 0xf0) == 0x40) {
        rex = code[at++];
    }
    p->map = 1;
    if (code[at] == 0x0f && at + 1 < size) {
        at++;
        p->map = 2;
        if ((code[at] == 0x38 || code[at] == 0x3a) && at + 1 < size) {
            p->map = code[at] == 0x38 ? 3 : 4;
            at++;
        }
    }
    p->opcode = code[at];
    p->has_next = at + 1 < size;
    p->next = p->has_next ? code[at + 1] : 0;
    p->reg = (p->next >> 3) & 7;
    p->rm = (uint8_t)((p->next & 7) | ((rex & 1) << 3));
    p->in_memory = p->has_next && p->next < 0xc0;
    p->vex = p->map == 1 && (p->opcode == 0xc4 || p->opcode == 0xc5 || p->opcode == 0x62);
}

/* --- memory --- */

/* Groups whose effect hangs on the reg field. */
static uint8_t effect_group(const Parts *p)
{
    switch (p->opcode) {
    case 0x80:
    case 0x81:
    case 0x82:
    case 0x83:
        return p->reg == 7 ? M_LOAD : M_BOTH;
    case 0x8f:
        return p->in_memory ? M_BOTH : M_POP;
    case 0xf6:
    case 0xf7:
        return p->reg == 2 || p->reg == 3 ? M_BOTH : M_LOAD;
    case 0xff:
        if (p->reg == 2 || p->reg == 6) { /* call, push: a store, and a load of the operand */
            return p->in_memory ? M_BOTH : M_PUSH;
        }
        if (p->reg == 3 || p->reg == 5) {
            return M_ALWAYS;
        }
        return p->reg == 4 ? M_LOAD : M_BOTH;
    default:
        return M_ALWAYS;
    }
}

static void set_string(const Parts *p, ForeInsn *ret)
{
    /* by the low four bits: MOVS from 4, CMPS from 6, STOS from 10, LODS from 12, SCAS from 14 */
    static const uint8_t loads[] = {0, 0, 0, 0, 1, 1, 2, 2, 0, 0, 0, 0, 1, 1, 1, 1};
    static const uint8_t stores[] = {0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0};

    ret->dynamic = p->rep || p->repne;
    ret->loads = loads[p->opcode & 15];
    ret->stores = stores[p->opcode & 15];
}

static bool is_string(const Parts *p)
{
    return p->map == 1 &&
           ((p->opcode >= 0xa4 && p->opcode <= 0xa7) || (p->opcode >= 0xaa && p->opcode <= 0xaf));
}

static uint8_t effect_map1(const Parts *p)
{
    char letter = map1[p->opcode];

    /* moffs operands have no ModRM byte; PUSH and POP as such do not count as operands. */
    if (p->opcode >= 0xa0 && p->opcode <= 0xa3) {
        return p->opcode <= 0xa1 ? M_POP : M_PUSH;
    }
    if (p->opcode == 0xd7) {
        return M_POP;
    }
    if ((p->opcode >= 0x80 && p->opcode <= 0x83) || p->opcode == 0x8f || p->opcode == 0xf6 ||
        p->opcode == 0xf7 || p->opcode == 0xff) {
        return effect_group(p);
    }
    if (p->opcode == 0x8e) {
        return M_ALWAYS; /* a segment load reads its descriptor */
    }
    return effect_of(letter);
}

/* Second map, apart from its SSE parts. */
static uint8_t effect_map2_integer(const Parts *p)
{
    switch (p->opcode) {
    case 0xa0:
    case 0xa8:
        return M_PUSH;
    case 0xa3:
    case 0xaf:
    case 0xb6:
    case 0xb7:
    case 0xb8:
    case 0xbc:
    case 0xbd:
    case 0xbe:
    case 0xbf:
        return M_LOAD;
    case 0xba:
        return p->reg == 4 ? M_LOAD : M_BOTH;
    case 0xa4:
    case 0xa5:
    case 0xab:
    case 0xac:
    case 0xad:
    case 0xb3:
    case 0xbb:
    case 0xc0:
    case 0xc1:
        return M_BOTH;
    case 0xc3:
        return M_STORE;
    case 0x0d: /* prefetches and hints */
    case 0x18:
    case 0x19:
    case 0x1a:
    case 0x1b:
    case 0x1c:
    case 0x1d:
    case 0x1e:
    case 0x1f:
    case 0x05: /* SYSCALL, SYSENTER, WRMSR and others: the processor itself reads nothing */
    case 0x06:
    case 0x07:
    case 0x08:
    case 0x09:
    case 0x0b:
    case 0x20:
    case 0x21:
    case 0x22:
    case 0x23:
    case 0x30:
    case 0x31:
    case 0x32:
    case 0x33:
    case 0x34:
    case 0x35:
    case 0x77:
    case 0xa2:
        return M_NONE;
    default:
        return M_ALWAYS;
    }
}

static bool is_sse_map2(uint8_t op)
{
    return (op >= 0x10 && op <= 0x17) || (op >= 0x28 && op <= 0x2f) || (op >= 0x50 && op <= 0x7f) ||
           op == 0xc2 || (op >= 0xc4 && op <= 0xc6) || (op >= 0xd0 && op <= 0xfe);
}

static uint8_t effect_map2_sse(const Parts *p)
{
    switch (p->opcode) {
    case 0x11:
    case 0x13:
    case 0x17:
    case 0x29:
    case 0x2b:
    case 0x7f:
    case 0xd6:
    case 0xe7:
        return M_STORE;
    case 0x7e:
        return p->rep ? M_LOAD : M_STORE;
    case 0xf7: /* MASKMOVQ: to DS:rDI */
    case 0x78:
    case 0x79:
        return M_ALWAYS;
    default:
        return M_LOAD;
    }
}

static uint8_t effect_map2(const Parts *p)
{
    if (p->opcode >= 0x80 && p->opcode <= 0x8f) {
        return M_NONE;
    }
    if (p->opcode >= 0x90 && p->opcode <= 0x9f) {
        return M_STORE;
    }
    if (p->opcode >= 0x40 && p->opcode <= 0x4f) {
        return M_LOAD;
    }
    if (p->opcode >= 0xc8 && p->opcode <= 0xcf) { /* BSWAP */
        return M_NONE;
    }
    return p->opcode != 0x77 && is_sse_map2(p->opcode) ? effect_map2_sse(p)
                                                       : effect_map2_integer(p);
}

static uint8_t effect(const Parts *p)
{
    if (p->vex || p->lock) {
        return M_ALWAYS;
    }
    switch (p->map) {
    case 1:
        return effect_map1(p);
    case 2:
        return effect_map2(p);
    case 3: /* F0, F1: MOVBE or CRC32; 80..83: virtualization; f2 on: VEX only */
        return p->opcode >= 0x80 ? M_ALWAYS : M_LOAD;
    default:
        return p->opcode >= 0x14 && p->opcode <= 0x17 ? M_STORE : M_LOAD;
    }
}

static void set_memory(const Parts *p, ForeInsn *ret)
{
    uint8_t e;

    if (is_string(p)) {
        set_string(p, ret);
        return;
    }
    e = effect(p);
    ret->dynamic = e == M_ALWAYS || (e == M_DYNAMIC && p->in_memory);
    ret->stores = e == M_PUSH;
    ret->loads = e == M_POP;
    if (e <= M_BOTH && (p->in_memory || (p->opcode == 0x8f && p->map == 1))) {
        ret->loads = (e & M_LOAD) != 0;
        ret->stores = (e & M_STORE) != 0;
    }
}

/* --- kind --- */

static uint8_t branch_map1(const Parts *p)
{
    switch (p->opcode) {
    case 0xe0:
    case 0xe1:
    case 0xe2:
    case 0xe3:
        return FORE_PAGE_BRANCH_CONDITIONAL;
    case 0xe9:
    case 0xea:
    case 0xeb:
        return FORE_PAGE_BRANCH_JUMP;
    case 0xe8:
    case 0x9a:
        return FORE_PAGE_BRANCH_CALL;
    case 0xc2:
    case 0xc3:
    case 0xca:
    case 0xcb:
        return FORE_PAGE_BRANCH_RETURN;
    case 0xff:
        return p->reg == 2 || p->reg == 3   ? FORE_PAGE_BRANCH_CALL
               : p->reg == 4 || p->reg == 5 ? FORE_PAGE_BRANCH_INDIRECT
                                            : FORE_INSN_NO_BRANCH;
    default:
        return (p->opcode & 0xf0) == 0x70 ? FORE_PAGE_BRANCH_CONDITIONAL : FORE_INSN_NO_BRANCH;
    }
}

static uint8_t branch_class(const Parts *p)
{
    if (p->map == 1) {
        return branch_map1(p);
    }
    return p->map == 2 && (p->opcode & 0xf0) == 0x80 ? FORE_PAGE_BRANCH_CONDITIONAL
                                                     : FORE_INSN_NO_BRANCH;
}

static bool is_syscall(const Parts *p)
{
    return (p->map == 2 && (p->opcode == 0x05 || p->opcode == 0x34)) ||
           (p->map == 1 && p->opcode == 0xcd && p->next == 0x80);
}

static uint8_t kind_map1(const Parts *p)
{
    uint8_t op = p->opcode;

    if ((op >= 0x6c && op <= 0x6f) || (op >= 0xe4 && op <= 0xe7) || (op >= 0xec && op <= 0xef)) {
        return FORE_PAGE_MIX_IO;
    }
    if (is_string(p)) {
        return FORE_PAGE_MIX_STRING;
    }
    if (op == 0xf4 || op == 0xfa || op == 0xfb) { /* HLT, CLI, STI */
        return FORE_PAGE_MIX_PRIVILEGED;
    }
    if (op >= 0xcc && op <= 0xcf) { /* INT3, INT, INTO, IRET */
        return FORE_PAGE_MIX_CONTROL;
    }
    return op == 0x9b || (op >= 0xd8 && op <= 0xdf) || p->vex ? FORE_PAGE_MIX_SIMD_FP
                                                              : FORE_PAGE_MIX_INTEGER;
}

static uint8_t kind_map2(const Parts *p)
{
    switch (p->opcode) {
    case 0x05:
    case 0x07:
    case 0x34:
    case 0x35:
        return FORE_PAGE_MIX_CONTROL;
    case 0x00:
    case 0x01:
    case 0x06:
    case 0x08:
    case 0x09:
    case 0x20:
    case 0x21:
    case 0x22:
    case 0x23:
    case 0x30:
    case 0x32:
    case 0x33:
        return FORE_PAGE_MIX_PRIVILEGED;
    case 0xae: /* saves and fences: FXSAVE to XRSTOR have their operand in memory */
        return p->in_memory ? FORE_PAGE_MIX_SIMD_FP : FORE_PAGE_MIX_INTEGER;
    default:
        return is_sse_map2(p->opcode) ? FORE_PAGE_MIX_SIMD_FP : FORE_PAGE_MIX_INTEGER;
    }
}

static uint8_t kind(const Parts *p)
{
    switch (p->map) {
    case 1:
        return kind_map1(p);
    case 2:
        return kind_map2(p);
    case 3:
        return p->opcode >= 0xf0 ? FORE_PAGE_MIX_INTEGER : FORE_PAGE_MIX_SIMD_FP;
    default:
        return FORE_PAGE_MIX_SIMD_FP;
    }
}

void fore_insn_x86(const uint8_t *code, size_t size, ForeInsn *ret)
{
    Parts p;

    cut(code, size, &p);
    memset(ret, 0, sizeof(*ret));
    set_memory(&p, ret);
    ret->branch = branch_class(&p);
    ret->syscall = is_syscall(&p);
    ret->kind = ret->branch != FORE_INSN_NO_BRANCH ? FORE_PAGE_MIX_CONTROL : kind(&p);
    ret->space_register =
        p.map == 2 && p.opcode == 0x22 && p.reg == 3 ? p.rm : FORE_INSN_NO_REGISTER;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-plugin/fore-profiler-operand.h"

#include <string.h>

/* Intel SDM volume 2, 2.1.5 "Addressing-mode encoding" and 2.2.1 "REX prefixes" */

#define RSP          4
#define PAGE_BITS    12
#define FIXED_MASK   G_GUINT64_CONSTANT(0xffffffffff) /* 40 bits of page number */
#define LOW_CODE_END (G_GUINT64_CONSTANT(1) << 32)

/* Offset of the opcode; takes over what the prefixes say. */
static size_t skip_prefixes(const uint8_t *code, size_t size, uint8_t *rex, bool *addr32,
                            ForeOperand *ret)
{
    size_t at = 0;

    for (; at + 1 < size; at++) {
        if (code[at] == 0x64) {
            ret->segment = FORE_OPERAND_FS;
        } else if (code[at] == 0x65) {
            ret->segment = FORE_OPERAND_GS;
        } else if (code[at] == 0x67) {
            *addr32 = true;
        } else if (memchr("\x66\xf0\xf2\xf3\x2e\x36\x3e\x26", code[at], 8) == NULL) {
            break;
        }
    }
    if (at + 1 < size && (code[at] & 0xf0) == 0x40) {
        *rex = code[at++];
    }
    return at;
}

bool fore_operand_is_stack(const ForeOperand *operand)
{
    return operand->has_base && operand->base == RSP;
}

static bool is_stack(uint8_t op)
{
    return (op >= 0x50 && op <= 0x5f) || op == 0x68 || op == 0x6a || op == 0xe8 || op == 0xc3 ||
           op == 0xc2 || op == 0x9c || op == 0x9d;
}

/* One-byte opcodes with a ModRM byte. */
static bool has_modrm(uint8_t op)
{
    return (op < 0x40 && (op & 7) < 4) || op == 0x63 || op == 0x69 || op == 0x6b ||
           (op >= 0x80 && op <= 0x8f) || op == 0xc0 || op == 0xc1 || op == 0xc6 || op == 0xc7 ||
           (op >= 0xd0 && op <= 0xd3) || op == 0xf6 || op == 0xf7 || op == 0xfe || op == 0xff;
}

static bool take_displacement(const uint8_t *code, size_t size, size_t at, unsigned mod,
                              bool no_base, ForeOperand *ret)
{
    if (mod == 1) {
        ret->displacement = at < size ? (int8_t)code[at] : 0;
        return at < size;
    }
    if (mod == 2 || no_base) {
        int32_t value = 0;
        if (at + sizeof(value) > size) {
            return false;
        }
        memcpy(&value, code + at, sizeof(value));
        ret->displacement = GINT32_FROM_LE(value);
    }
    return true;
}

/* @at: of the ModRM byte */
static bool take_modrm(const uint8_t *code, size_t size, size_t at, uint8_t rex, uint64_t vaddr,
                       ForeOperand *ret)
{
    uint8_t modrm = at < size ? code[at] : 0xc0;
    unsigned mod = modrm >> 6, rm = modrm & 7;
    bool no_base = mod == 0 && rm == 5;

    if (mod == 3) {
        return false;
    }
    at++;
    ret->has_base = !no_base;
    ret->base = (uint8_t)(rm | ((rex & 1) << 3));
    if (rm == 4) {
        uint8_t sib = at < size ? code[at] : 0;
        at++;
        ret->scale_log2 = sib >> 6;
        ret->index = (uint8_t)(((sib >> 3) & 7) | ((rex & 2) << 2));
        ret->has_index = ret->index != RSP;
        ret->base = (uint8_t)((sib & 7) | ((rex & 1) << 3));
        no_base = mod == 0 && (sib & 7) == 5;
        ret->has_base = !no_base;
    }
    if (!take_displacement(code, size, at, mod, no_base, ret)) {
        return false;
    }
    if (no_base && rm == 5) { /* to the next instruction in 64 bit code, absolute in 32 bit code */
        ret->is_fixed = true;
        ret->fixed_page =
            ((vaddr + size + (uint64_t)(int64_t)ret->displacement) >> PAGE_BITS) & FIXED_MASK;
        return vaddr >= LOW_CODE_END && ret->segment == FORE_OPERAND_NO_SEGMENT;
    }
    return true;
}

bool fore_operand_x86(const uint8_t *code, size_t size, uint64_t vaddr, ForeOperand *ret)
{
    uint8_t rex = 0;
    bool addr32 = false;

    memset(ret, 0, sizeof(*ret));
    size_t at = skip_prefixes(code, size, &rex, &addr32, ret);
    if (addr32 || at >= size) {
        return false;
    }
    if (is_stack(code[at])) {
        ret->has_base = true;
        ret->base = RSP;
        return true;
    }
    if (code[at] == 0x0f) {
        at++;
        if (at < size && (code[at] == 0x38 || code[at] == 0x3a)) {
            at++;
        }
        return take_modrm(code, size, at + 1, rex, vaddr, ret);
    }
    return has_modrm(code[at]) && take_modrm(code, size, at + 1, rex, vaddr, ret);
}

/* --- packing: fixed page or displacement from bit 0, the rest from bit 40 --- */

enum { BASE = 40, INDEX = 44, SCALE = 48, SEGMENT = 50, HAS_BASE = 52, HAS_INDEX, FIXED };

void *fore_operand_pack(const ForeOperand *o)
{
    uint64_t word = o->is_fixed ? o->fixed_page : (uint32_t)o->displacement;

    word |= (uint64_t)o->base << BASE | (uint64_t)o->index << INDEX |
            (uint64_t)o->scale_log2 << SCALE | (uint64_t)o->segment << SEGMENT |
            (uint64_t)o->has_base << HAS_BASE | (uint64_t)o->has_index << HAS_INDEX |
            (uint64_t)o->is_fixed << FIXED;
    return GSIZE_TO_POINTER(word);
}

void fore_operand_unpack(const void *data, ForeOperand *ret)
{
    uint64_t word = GPOINTER_TO_SIZE(data);

    memset(ret, 0, sizeof(*ret));
    ret->base = (word >> BASE) & 15;
    ret->index = (word >> INDEX) & 15;
    ret->scale_log2 = (word >> SCALE) & 3;
    ret->segment = (ForeOperandSegment)((word >> SEGMENT) & 3);
    ret->has_base = (word >> HAS_BASE) & 1;
    ret->has_index = (word >> HAS_INDEX) & 1;
    ret->is_fixed = (word >> FIXED) & 1;
    if (ret->is_fixed) {
        ret->fixed_page = word & FIXED_MASK;
    } else {
        ret->displacement = (int32_t)(uint32_t)word;
    }
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-plugin/fore-profiler-translate.h"

#include <string.h>
#include <time.h>

#include "qemu-plugin/fore-profiler-insn.h"
#include "qemu-plugin/fore-profiler-operand.h"
#include "qemu-plugin/fore-profiler-pages.h"
#include "qemu-plugin/fore-profiler-publish.h"
#include "qemu-plugin/fore-profiler-score.h"
#include "qemu-plugin/fore-profiler-slot.h"
#include "qemu-plugin/fore-profiler-space.h"

/*
 * How it works
 *
 * A block's sums are known from its code (fore-profiler-insn.h), so it carries one addition of 1 to
 * the word of its slot (fore-profiler-slot.h), at its start.  Only what the code does not say costs
 * more: accesses of instructions that are marked dynamic (one addition each), a call of ours at
 * each system call (its number is in a register) and each load of CR3 (its value is).
 *
 * MMIO: QEMU leaves a block at an access to a device in its middle, translates that one instruction
 * alone, runs it, and goes on behind it.  So an access to a device shows in a block of one
 * instruction that does not transfer control, and only such blocks get a call of ours for their
 * accesses.
 *
 * Pages (level full, x86): a block with operands in memory adds to a clock, and one of its operands
 * has a condition on it: when the clock strikes, a call of ours finds the operand's address from
 * the registers, and winds the clock up again.
 *
 * Limits: a block that is left in its middle counts whole.  With MMIO the instructions behind the
 * access count again in the block that goes on there.  An instruction that QEMU repeats block by
 * block (REP) counts each time.
 */

enum { NUMBER_REGISTERS = 16 };

/* The clock counts up to it from below; its word is the first of the vCPU's direct counters. */
#define CLOCK_STRIKES (G_GUINT64_CONSTANT(1) << 63)
#define CLOCK_OFFSET  offsetof(ForeProfilerScore, direct)
#define CR0_PE        1u
#define EFER_LMA      (1u << 10) /* long mode: Intel SDM volume 3, 2.2.1 */

typedef void (*Decode)(const uint8_t *code, size_t size, ForeInsn *ret);

typedef struct {
    GByteArray *value; /* of the register read last */
} Vcpu;

/* Zero-initialised handles are registers that this guest does not have. */
static struct {
    struct qemu_plugin_scoreboard *board;
    ForeProfilerScore *scores; /* its entries; not by QEMU's accessors, which abort on a gap */
    Decode decode;
    bool count_memory, count_mmio, look_at_registers, look_at_pages;
    const char *number_name;        /* of the register with a system call's number */
    const char *const *space_names; /* [NUMBER_REGISTERS] of those that CR3 is loaded from */
    bool have_registers;
    struct qemu_plugin_register *number;
    struct qemu_plugin_register *general[NUMBER_REGISTERS];
    struct qemu_plugin_register *fs_base, *gs_base, *cr0, *cr3, *efer;
    Vcpu vcpus[FORE_PAGE_MAX_VCPUS];
} translator;

static uint64_t monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * FORE_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* --- targets --- */

static void decode_aarch64(const uint8_t *code, size_t size, ForeInsn *ret)
{
    uint32_t word;

    memcpy(&word, code, sizeof(word)); /* fixed length: QEMU hands over 4 bytes */
    fore_insn_aarch64(size == sizeof(word) ? GUINT32_FROM_LE(word) : 0, ret);
}

static void decode_riscv64(const uint8_t *code, size_t size, ForeInsn *ret)
{
    uint32_t word = 0;

    memcpy(&word, code, MIN(size, sizeof(word)));
    fore_insn_riscv64(GUINT32_FROM_LE(word), ret);
}

static void decode_other(const uint8_t *code, size_t size, ForeInsn *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->branch = FORE_INSN_NO_BRANCH;
    ret->space_register = FORE_INSN_NO_REGISTER;
    ret->dynamic = true;
}

static const char *const names_64[NUMBER_REGISTERS] = {
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15",
};
static const char *const names_32[NUMBER_REGISTERS] = {
    "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi",
};

static const struct {
    const char *target;
    Decode decode;
    const char *number_name;
    const char *const *space_names;
    bool knows_memory;
} targets[] = {
    {"x86_64", fore_insn_x86, "rax", names_64, true},
    {"i386", fore_insn_x86, "eax", names_32, true},
    {"aarch64", decode_aarch64, "x8", NULL, false},
    {"riscv64", decode_riscv64, "a7", NULL, false},
};

uint64_t fore_translate_start(const char *target, ForePageLevel level,
                              struct qemu_plugin_scoreboard *board, ForeProfilerScore *scores)
{
    uint64_t valid = FORE_PAGE_HAS_INSNS | FORE_PAGE_HAS_BLOCKS | FORE_PAGE_HAS_SIGNATURE;
    bool knows_memory = false;

    translator.board = board;
    translator.scores = scores;
    translator.decode = decode_other;
    for (size_t i = 0; i < G_N_ELEMENTS(targets); i++) {
        if (strcmp(targets[i].target, target) == 0) {
            translator.decode = targets[i].decode;
            translator.number_name = targets[i].number_name;
            translator.space_names = targets[i].space_names;
            knows_memory = targets[i].knows_memory;
            valid |= FORE_PAGE_HAS_SYSCALLS | FORE_PAGE_HAS_BRANCHES | FORE_PAGE_HAS_MIX;
        }
    }
    /* Where the code does not say, accesses cost an addition each. */
    translator.count_memory = knows_memory || level >= FORE_PAGE_LEVEL_STANDARD;
    translator.count_mmio = level >= FORE_PAGE_LEVEL_STANDARD;
    translator.look_at_registers = level >= FORE_PAGE_LEVEL_STANDARD;
    translator.look_at_pages = knows_memory && level >= FORE_PAGE_LEVEL_FULL;
    return valid | (translator.count_memory ? FORE_PAGE_HAS_LOADS | FORE_PAGE_HAS_STORES : 0) |
           (translator.count_mmio ? FORE_PAGE_HAS_MMIO : 0);
}

/* --- the page sampler's clock --- */

static void wind_clock(unsigned index)
{
    uint64_t *clock = (uint64_t *)(void *)&translator.scores[index].direct;

    __atomic_store_n(clock, CLOCK_STRIKES - fore_pages_period(index), __ATOMIC_RELAXED);
}

/* --- registers --- */

static void take_register(const qemu_plugin_reg_descriptor *r)
{
    const struct {
        const char *name;
        struct qemu_plugin_register **to;
    } singles[] = {
        {translator.number_name, &translator.number},
        {"fs_base", &translator.fs_base},
        {"gs_base", &translator.gs_base},
        {"cr0", &translator.cr0},
        {"cr3", &translator.cr3},
        {"efer", &translator.efer},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(singles); i++) {
        if (g_strcmp0(r->name, singles[i].name) == 0) {
            *singles[i].to = r->handle;
        }
    }
    for (unsigned k = 0; translator.space_names != NULL && k < NUMBER_REGISTERS; k++) {
        if (g_strcmp0(r->name, translator.space_names[k]) == 0) {
            translator.general[k] = r->handle;
        }
    }
}

static void find_registers(void)
{
    g_autoptr(GArray) all = qemu_plugin_get_registers();

    for (guint i = 0; all != NULL && i < all->len; i++) {
        take_register(&g_array_index(all, qemu_plugin_reg_descriptor, i));
    }
    translator.look_at_pages = translator.look_at_pages && translator.general[0] != NULL &&
                               translator.cr0 != NULL && translator.cr3 != NULL;
}

/* Handles are the same for all vCPUs of a machine; the first that starts finds them, the others
 * wait for QEMU's big lock under which this runs. */
uint64_t fore_translate_vcpu_init(unsigned index)
{
    if (!translator.look_at_registers) {
        return 0;
    }
    if (translator.vcpus[index].value == NULL) {
        translator.vcpus[index].value = g_byte_array_sized_new(64);
    }
    if (!translator.have_registers) {
        find_registers();
        translator.have_registers = true;
    }
    if (translator.look_at_pages) {
        fore_pages_vcpu_init(index);
        wind_clock(index);
    }
    return (translator.look_at_pages ? FORE_PAGE_HAS_WORKING_SET : 0) |
           (translator.number != NULL ? FORE_PAGE_HAS_SYSCALL_NUMBERS : 0) |
           (translator.general[0] != NULL ? FORE_PAGE_HAS_SPACES | FORE_PAGE_HAS_SWITCHES : 0);
}

/* Little-endian on all targets that are known; 4 or 8 bytes. */
static bool read_register(unsigned index, struct qemu_plugin_register *handle, uint64_t *ret)
{
    GByteArray *value = translator.vcpus[index].value;
    uint64_t word = 0;

    g_byte_array_set_size(value, 0);
    int size = qemu_plugin_read_register(handle, value);
    if (size != 4 && size != 8) {
        return false;
    }
    memcpy(&word, value->data, (size_t)size);
    *ret = GUINT64_FROM_LE(word);
    return true;
}

/* --- what translated code calls --- */

static void on_syscall(unsigned index, void *data)
{
    uint64_t number;

    if (index < FORE_PAGE_MAX_VCPUS && translator.number != NULL &&
        read_register(index, translator.number, &number)) {
        /* Linux reads the low half. */
        fore_publish_count_syscall(index, number & 0xffffffff);
    }
}

static void on_space_switch(unsigned index, void *data)
{
    uint64_t value;

    if (index < FORE_PAGE_MAX_VCPUS &&
        read_register(index, translator.general[GPOINTER_TO_UINT(data)], &value)) {
        fore_space_switch(index, value, monotonic_ns());
    }
}

static void on_access(unsigned index, qemu_plugin_meminfo_t info, uint64_t vaddr, void *data)
{
    struct qemu_plugin_hwaddr *where = qemu_plugin_get_hwaddr(info, vaddr);

    if (where != NULL && qemu_plugin_hwaddr_is_io(where)) {
        uint64_t *word = &translator.scores[index].direct.mmio;
        __atomic_store_n(word, *word + 1, __ATOMIC_RELAXED);
    }
}

/* Registers that this CPU does not have count as 0. */
static uint64_t value_of(unsigned index, struct qemu_plugin_register *handle)
{
    uint64_t value = 0;

    return handle != NULL && read_register(index, handle, &value) ? value : 0;
}

/* The page of an operand, or false in real mode, whose addresses are found otherwise. */
static bool find_page(unsigned index, const ForeOperand *o, uint64_t *ret_page, bool *ret_kernel)
{
    bool is_long = (value_of(index, translator.efer) & EFER_LMA) != 0;
    uint64_t at = (uint64_t)(int64_t)o->displacement;

    if (!is_long && (value_of(index, translator.cr0) & CR0_PE) == 0) {
        return false;
    }
    at += o->has_base ? value_of(index, translator.general[o->base]) : 0;
    at += o->has_index ? value_of(index, translator.general[o->index]) << o->scale_log2 : 0;
    at += o->segment == FORE_OPERAND_FS   ? value_of(index, translator.fs_base)
          : o->segment == FORE_OPERAND_GS ? value_of(index, translator.gs_base)
                                          : 0;
    at = is_long ? at : (uint32_t)at;
    *ret_page = o->is_fixed ? o->fixed_page : (at >> 12) & G_GUINT64_CONSTANT(0xffffffffff);
    /* Linux: the upper half, or the last GiB, is the kernel's and the same in all spaces. */
    *ret_kernel = *ret_page >= (is_long ? G_GUINT64_CONSTANT(0x800000000) : 0xc0000);
    return true;
}

static void on_operand(unsigned index, void *data)
{
    ForeOperand o;
    uint64_t page = 0;
    bool kernel = false;

    if (index >= FORE_PAGE_MAX_VCPUS) {
        return;
    }
    fore_operand_unpack(data, &o);
    if (find_page(index, &o, &page, &kernel)) {
        uint64_t space = kernel ? 0 : value_of(index, translator.cr3) & FORE_SPACE_MASK;
        fore_pages_add(index, page, space);
    }
    wind_clock(index);
}

/* --- translation --- */

static qemu_plugin_u64 word_at(size_t offset)
{
    return (qemu_plugin_u64){translator.board, offset};
}

#define DIRECT(member) word_at(offsetof(ForeProfilerScore, direct.member))

static void add_inline(struct qemu_plugin_tb *tb, size_t offset, uint64_t n)
{
    if (n > 0) {
        qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64,
                                                          word_at(offset), n);
    }
}

/* The table is full: an addition for each of the block's sums. */
static void add_each(struct qemu_plugin_tb *tb, const ForeSlot *slot)
{
    ForePageVcpu sums = {0};
    const uint64_t *words = (const uint64_t *)(const void *)&sums;

    fore_slot_sum(slot, 1, &sums);
    for (size_t i = 0; i < sizeof(sums) / sizeof(uint64_t); i++) {
        add_inline(tb, offsetof(ForeProfilerScore, direct) + i * sizeof(uint64_t), words[i]);
    }
}

static void watch_insn(struct qemu_plugin_insn *insn, const ForeInsn *what)
{
    if (what->dynamic && translator.count_memory) {
        qemu_plugin_register_vcpu_mem_inline_per_vcpu(insn, QEMU_PLUGIN_MEM_R,
                                                      QEMU_PLUGIN_INLINE_ADD_U64, DIRECT(loads), 1);
        qemu_plugin_register_vcpu_mem_inline_per_vcpu(
            insn, QEMU_PLUGIN_MEM_W, QEMU_PLUGIN_INLINE_ADD_U64, DIRECT(stores), 1);
    }
    if (what->syscall && translator.look_at_registers) {
        qemu_plugin_register_vcpu_insn_exec_cb(insn, on_syscall, QEMU_PLUGIN_CB_R_REGS, NULL);
    }
    if (what->space_register != FORE_INSN_NO_REGISTER && translator.look_at_registers &&
        translator.general[what->space_register] != NULL) {
        qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, QEMU_PLUGIN_INLINE_ADD_U64,
                                                            DIRECT(space_switches), 1);
        qemu_plugin_register_vcpu_insn_exec_cb(insn, on_space_switch, QEMU_PLUGIN_CB_R_REGS,
                                               GUINT_TO_POINTER(what->space_register));
    }
}

/* Operands of a block: the first of each address register, as what a program does through one
 * register lies mostly together, and none on the stack where there is another. */
enum { MAX_OPERANDS = 4 };
typedef struct {
    size_t n;
    struct qemu_plugin_insn *insns[MAX_OPERANDS];
    ForeOperand operands[MAX_OPERANDS];
} Operands;

static bool is_like(const ForeOperand *a, const ForeOperand *b)
{
    return a->is_fixed == b->is_fixed && a->has_base == b->has_base && a->base == b->base &&
           a->has_index == b->has_index && a->index == b->index && a->segment == b->segment;
}

static void take_operand(struct qemu_plugin_insn *insn, const ForeInsn *what, const uint8_t *code,
                         size_t size, Operands *all)
{
    ForeOperand o;

    if (what->loads + what->stores == 0 || what->dynamic ||
        !fore_operand_x86(code, size, qemu_plugin_insn_vaddr(insn), &o)) {
        return;
    }
    if (all->n == 1 && fore_operand_is_stack(&all->operands[0])) {
        all->n = 0;
    } else if (all->n > 0 && fore_operand_is_stack(&o)) {
        return;
    }
    for (size_t i = 0; i < all->n; i++) {
        if (is_like(&all->operands[i], &o)) {
            return;
        }
    }
    if (all->n < MAX_OPERANDS) {
        all->insns[all->n] = insn;
        all->operands[all->n++] = o;
    }
}

/* A condition costs as much as all the counting, so a block gets one, and chance (its code's hash)
 * says on which operand. */
static void watch_operand(struct qemu_plugin_tb *tb, Operands *all, uint64_t hash)
{
    size_t i = all->n > 0 ? hash % all->n : 0;

    if (all->n > 0) {
        add_inline(tb, CLOCK_OFFSET, 1);
        qemu_plugin_register_vcpu_insn_exec_cond_cb(
            all->insns[i], on_operand, QEMU_PLUGIN_CB_R_REGS, QEMU_PLUGIN_COND_GE,
            word_at(CLOCK_OFFSET), CLOCK_STRIKES, fore_operand_pack(&all->operands[i]));
    }
}

/* A hash of the code, not of its address: the same program gives the same signature wherever it is
 * loaded.  Each step is a bijection of the sum so far (multiply by an odd number, then fold). */
static uint64_t mix_in(uint64_t hash, const uint8_t *code, size_t size)
{
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, code + at, MIN(sizeof(word), size - at));
        hash = (hash ^ GUINT64_FROM_LE(word) ^ size) * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
    }
    return hash;
}

void fore_translate_block(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);
    ForeSlot slot = {.branch = FORE_INSN_NO_BRANCH};
    uint8_t code[FORE_INSN_MAX_BYTES] = {0};
    uint64_t hash = 0;
    ForeInsn what = {0};
    Operands operands = {0};

    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        size_t size = qemu_plugin_insn_data(insn, code, sizeof(code));

        size = CLAMP(size, 1, sizeof(code));
        translator.decode(code, size, &what);
        fore_slot_add_insn(&slot, &what);
        watch_insn(insn, &what);
        if (translator.look_at_pages) {
            take_operand(insn, &what, code, size, &operands);
        }
        hash = mix_in(hash, code, size);
    }
    watch_operand(tb, &operands, hash);
    if (n == 1 && translator.count_mmio && what.kind != FORE_PAGE_MIX_CONTROL) {
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, 0), on_access,
                                         QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, NULL);
    }
    slot.bucket = (uint8_t)(hash >> 58);
    int index = fore_slot_find(&slot);
    if (index >= 0) {
        add_inline(tb, offsetof(ForeProfilerScore, slots) + (size_t)index * sizeof(uint64_t), 1);
    } else {
        add_each(tb, &slot);
    }
}

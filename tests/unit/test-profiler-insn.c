/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the profiler takes instructions for.  Bytes are of the assembler, written beside. */
#include <locale.h>
#include <string.h>

#include "qemu-plugin/fore-profiler-insn.h"
#include "qemu-plugin/fore-profiler-operand.h"
#include "qemu-plugin/fore-profiler-pages.h"
#include "qemu-plugin/fore-profiler-slot.h"

#define NO FORE_INSN_NO_BRANCH

typedef struct {
    const char *text, *code;
    size_t size;
    uint8_t loads, stores, kind, branch;
    bool dynamic;
} Case;
#define X86(text, code, ...)                                                                       \
    {                                                                                              \
        text, code, sizeof(code) - 1, __VA_ARGS__                                                  \
    }

static const Case x86_cases[] = {
    X86("mov (%rax),%rbx", "\x48\x8b\x18", 1, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("mov %rbx,(%rax)", "\x48\x89\x18", 0, 1, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("mov %rbx,%rax", "\x48\x89\xd8", 0, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("add %ebx,(%rax)", "\x01\x18", 1, 1, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("cmp %ebx,(%rax)", "\x39\x18", 1, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("cmpl $1,(%rax)", "\x83\x38\x01", 1, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("addl $1,(%rax)", "\x83\x00\x01", 1, 1, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("lock addl $1,(%rax)", "\xf0\x83\x00\x01", 0, 0, FORE_PAGE_MIX_INTEGER, NO, true),
    X86("lea 8(%rax),%rbx", "\x48\x8d\x58\x08", 0, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("test %al,(%rax)", "\x84\x00", 1, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("testl $1,(%rax)", "\xf7\x00\x01\x00\x00\x00", 1, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("negl (%rax)", "\xf7\x18", 1, 1, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("mull (%rax)", "\xf7\x20", 1, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("incl (%rax)", "\xff\x00", 1, 1, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("pushq (%rax)", "\xff\x30", 1, 1, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("popq (%rax)", "\x8f\x00", 1, 1, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("push %r12", "\x41\x54", 0, 1, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("pop %rbx", "\x5b", 1, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("inc %eax in 32 bit code", "\x40", 0, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("leave", "\xc9", 1, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("mov moffs,%eax", "\xa1\x00\x10\x00\x00", 1, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("mov %eax,moffs", "\xa3\x00\x10\x00\x00", 0, 1, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("xchg %eax,(%rbx)", "\x87\x03", 1, 1, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("nopl 0(%rax)", "\x0f\x1f\x40\x00", 0, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("movzbl (%rax),%eax", "\x0f\xb6\x00", 1, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("sete (%rax)", "\x0f\x94\x00", 0, 1, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("cmove (%rax),%eax", "\x0f\x44\x00", 1, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("bts %eax,(%rbx)", "\x0f\xab\x03", 1, 1, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("bt $3,(%rax)", "\x0f\xba\x20\x03", 1, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("cmpxchg %ecx,(%rbx)", "\x0f\xb1\x0b", 0, 0, FORE_PAGE_MIX_INTEGER, NO, true),
    X86("bswap %eax", "\x0f\xc8", 0, 0, FORE_PAGE_MIX_INTEGER, NO, false),
    X86("mov %eax,%ds", "\x8e\xd8", 0, 0, FORE_PAGE_MIX_INTEGER, NO, true),
    X86("je", "\x74\x02", 0, 0, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CONDITIONAL, false),
    X86("jne near", "\x0f\x85\x00\x01\x00\x00", 0, 0, FORE_PAGE_MIX_CONTROL,
        FORE_PAGE_BRANCH_CONDITIONAL, false),
    X86("jmp", "\xeb\xfe", 0, 0, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_JUMP, false),
    X86("jmp *(%rax)", "\xff\x20", 1, 0, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_INDIRECT, false),
    X86("jmp *%rax", "\xff\xe0", 0, 0, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_INDIRECT, false),
    X86("call", "\xe8\x00\x00\x00\x00", 0, 1, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CALL, false),
    X86("call *(%rax)", "\xff\x10", 1, 1, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CALL, false),
    X86("call *%rax", "\xff\xd0", 0, 1, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CALL, false),
    X86("ret", "\xc3", 1, 0, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_RETURN, false),
    X86("iretq", "\x48\xcf", 0, 0, FORE_PAGE_MIX_CONTROL, NO, true),
    X86("movsb", "\xa4", 1, 1, FORE_PAGE_MIX_STRING, NO, false),
    X86("cmpsb", "\xa6", 2, 0, FORE_PAGE_MIX_STRING, NO, false),
    X86("stosl", "\xab", 0, 1, FORE_PAGE_MIX_STRING, NO, false),
    X86("lodsb", "\xac", 1, 0, FORE_PAGE_MIX_STRING, NO, false),
    X86("scasb", "\xae", 1, 0, FORE_PAGE_MIX_STRING, NO, false),
    X86("rep movsq", "\xf3\x48\xa5", 1, 1, FORE_PAGE_MIX_STRING, NO, true),
    X86("in %dx,%al", "\xec", 0, 0, FORE_PAGE_MIX_IO, NO, false),
    X86("outsb", "\x6e", 0, 0, FORE_PAGE_MIX_IO, NO, true),
    X86("hlt", "\xf4", 0, 0, FORE_PAGE_MIX_PRIVILEGED, NO, false),
    X86("wrmsr", "\x0f\x30", 0, 0, FORE_PAGE_MIX_PRIVILEGED, NO, false),
    X86("lidt (%rax)", "\x0f\x01\x18", 0, 0, FORE_PAGE_MIX_PRIVILEGED, NO, true),
    X86("movaps (%rax),%xmm0", "\x0f\x28\x00", 1, 0, FORE_PAGE_MIX_SIMD_FP, NO, false),
    X86("movaps %xmm0,(%rax)", "\x0f\x29\x00", 0, 1, FORE_PAGE_MIX_SIMD_FP, NO, false),
    X86("movq (%rax),%xmm0", "\xf3\x0f\x7e\x00", 1, 0, FORE_PAGE_MIX_SIMD_FP, NO, false),
    X86("movq %xmm0,(%rax)", "\x66\x0f\xd6\x00", 0, 1, FORE_PAGE_MIX_SIMD_FP, NO, false),
    X86("movd %xmm0,(%rax)", "\x66\x0f\x7e\x00", 0, 1, FORE_PAGE_MIX_SIMD_FP, NO, false),
    X86("pshufb (%rax),%xmm0", "\x66\x0f\x38\x00\x00", 1, 0, FORE_PAGE_MIX_SIMD_FP, NO, false),
    X86("vmovdqu (%rax),%ymm0", "\xc5\xfe\x6f\x00", 0, 0, FORE_PAGE_MIX_SIMD_FP, NO, true),
    X86("fldl (%rax)", "\xdd\x00", 0, 0, FORE_PAGE_MIX_SIMD_FP, NO, true),
    X86("fadd %st(1),%st", "\xd8\xc1", 0, 0, FORE_PAGE_MIX_SIMD_FP, NO, false),
    X86("fxsave (%rax)", "\x0f\xae\x00", 0, 0, FORE_PAGE_MIX_SIMD_FP, NO, true),
    X86("syscall", "\x0f\x05", 0, 0, FORE_PAGE_MIX_CONTROL, NO, false),
};

static void test_x86(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(x86_cases); i++) {
        const Case *c = &x86_cases[i];
        ForeInsn got;

        fore_insn_x86((const uint8_t *)c->code, c->size, &got);
        g_test_message("%s", c->text);
        g_assert_cmpint(got.dynamic, ==, c->dynamic);
        g_assert_cmpuint(got.kind, ==, c->kind);
        g_assert_cmpuint(got.branch, ==, c->branch);
        if (!c->dynamic) {
            g_assert_cmpuint(got.loads, ==, c->loads);
            g_assert_cmpuint(got.stores, ==, c->stores);
        }
    }
}

static bool x86_syscall(const char *code, size_t size)
{
    ForeInsn got;

    fore_insn_x86((const uint8_t *)code, size, &got);
    return got.syscall;
}

static void test_x86_special(void)
{
    ForeInsn got;

    g_assert_true(x86_syscall("\x0f\x05", 2));
    g_assert_true(x86_syscall("\x0f\x34", 2));
    g_assert_true(x86_syscall("\xcd\x80", 2));
    g_assert_true(x86_syscall("\x48\x0f\x05", 3));
    g_assert_false(x86_syscall("\xcd\x81", 2));
    g_assert_false(x86_syscall("\x0f\x07", 2));
    fore_insn_x86((const uint8_t *)"\x0f\x22\xd8", 3, &got); /* mov %rax,%cr3 */
    g_assert_cmpuint(got.space_register, ==, 0);
    fore_insn_x86((const uint8_t *)"\x41\x0f\x22\xdf", 4, &got); /* mov %r15,%cr3 */
    g_assert_cmpuint(got.space_register, ==, 15);
    fore_insn_x86((const uint8_t *)"\x0f\x22\xc0", 3, &got); /* mov %rax,%cr0 */
    g_assert_cmpuint(got.space_register, ==, FORE_INSN_NO_REGISTER);
}

/* Whatever the bytes, the answer is within its types, and reading stays within the size. */
static void test_x86_any_bytes(void)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(1);

    for (int i = 0; i < 200000; i++) {
        size_t size = (size_t)g_rand_int_range(random, 1, FORE_INSN_MAX_BYTES);
        g_autofree uint8_t *code = g_malloc(size); /* of its own, for the sanitizer */
        ForeInsn got;
        ForeOperand operand, back;

        for (size_t k = 0; k < size; k++) {
            code[k] = (uint8_t)g_rand_int(random);
        }
        fore_insn_x86(code, size, &got);
        g_assert_cmpuint(got.kind, <, FORE_PAGE_MIX_N);
        g_assert_cmpuint(got.branch, <=, FORE_INSN_NO_BRANCH);
        g_assert_cmpuint(got.loads, <=, 2);
        g_assert_cmpuint(got.stores, <=, 1);
        if (fore_operand_x86(code, size, g_rand_int(random), &operand)) {
            fore_operand_unpack(fore_operand_pack(&operand), &back);
            g_assert_cmpuint(back.base, ==, operand.base);
            g_assert_cmpint(back.displacement, ==, operand.displacement);
        }
    }
}

typedef struct {
    const char *text;
    uint32_t code;
    uint8_t kind, branch;
    bool syscall;
} Risc;

static const Risc aarch64_cases[] = {
    {"b", 0x14000001, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_JUMP, false},
    {"bl", 0x94000001, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CALL, false},
    {"b.eq", 0x54000040, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CONDITIONAL, false},
    {"cbnz x0", 0xb5000040, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CONDITIONAL, false},
    {"tbz w0,#3", 0x36180040, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CONDITIONAL, false},
    {"br x1", 0xd61f0020, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_INDIRECT, false},
    {"blr x1", 0xd63f0020, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CALL, false},
    {"ret", 0xd65f03c0, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_RETURN, false},
    {"eret", 0xd69f03e0, FORE_PAGE_MIX_CONTROL, NO, false},
    {"svc #0", 0xd4000001, FORE_PAGE_MIX_CONTROL, NO, true},
    {"hvc #0", 0xd4000002, FORE_PAGE_MIX_CONTROL, NO, false},
    {"nop", 0xd503201f, FORE_PAGE_MIX_INTEGER, NO, false},
    {"mrs x0, tpidr_el0", 0xd53bd040, FORE_PAGE_MIX_INTEGER, NO, false},
    {"msr ttbr0_el1, x0", 0xd5182000, FORE_PAGE_MIX_PRIVILEGED, NO, false},
    {"add x0, x1, x2", 0x8b020020, FORE_PAGE_MIX_INTEGER, NO, false},
    {"ldr x0, [x1]", 0xf9400020, FORE_PAGE_MIX_INTEGER, NO, false},
    {"ldr q0, [x1]", 0x3dc00020, FORE_PAGE_MIX_SIMD_FP, NO, false},
    {"fadd d0, d1, d2", 0x1e622820, FORE_PAGE_MIX_SIMD_FP, NO, false},
};
static const Risc riscv_cases[] = {
    {"beq", 0x00000463, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CONDITIONAL, false},
    {"j", 0x0000006f, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_JUMP, false},
    {"jal ra", 0x000000ef, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CALL, false},
    {"ret", 0x00008067, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_RETURN, false},
    {"jr a0", 0x00050067, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_INDIRECT, false},
    {"ecall", 0x00000073, FORE_PAGE_MIX_CONTROL, NO, true},
    {"ebreak", 0x00100073, FORE_PAGE_MIX_CONTROL, NO, false},
    {"csrw satp, a0", 0x18051073, FORE_PAGE_MIX_PRIVILEGED, NO, false},
    {"fadd.d", 0x02b57553, FORE_PAGE_MIX_SIMD_FP, NO, false},
    {"ld a0, 0(a1)", 0x0005b503, FORE_PAGE_MIX_INTEGER, NO, false},
    {"c.j", 0xa001, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_JUMP, false},
    {"c.beqz", 0xc101, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CONDITIONAL, false},
    {"c.jr ra", 0x8082, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_RETURN, false},
    {"c.jalr a0", 0x9502, FORE_PAGE_MIX_CONTROL, FORE_PAGE_BRANCH_CALL, false},
    {"c.addi", 0x0505, FORE_PAGE_MIX_INTEGER, NO, false},
    {"c.fld", 0x2188, FORE_PAGE_MIX_SIMD_FP, NO, false},
};

static void check_risc(const Risc *cases, size_t n, void (*decode)(uint32_t, ForeInsn *))
{
    for (size_t i = 0; i < n; i++) {
        ForeInsn got;

        decode(cases[i].code, &got);
        g_test_message("%s", cases[i].text);
        g_assert_cmpuint(got.kind, ==, cases[i].kind);
        g_assert_cmpuint(got.branch, ==, cases[i].branch);
        g_assert_cmpint(got.syscall, ==, cases[i].syscall);
    }
}

static void test_risc(void)
{
    check_risc(aarch64_cases, G_N_ELEMENTS(aarch64_cases), fore_insn_aarch64);
    check_risc(riscv_cases, G_N_ELEMENTS(riscv_cases), fore_insn_riscv64);
}

/* --- operands --- */

static bool operand_of(const char *code, size_t size, uint64_t vaddr, ForeOperand *ret)
{
    ForeOperand o;

    if (!fore_operand_x86((const uint8_t *)code, size, vaddr, &o)) {
        return false;
    }
    fore_operand_unpack(fore_operand_pack(&o), ret);
    return true;
}
#define OPERAND(code, vaddr, ret) operand_of(code, sizeof(code) - 1, vaddr, ret)

static void test_operands(void)
{
    ForeOperand o;

    g_assert_true(OPERAND("\x48\x8b\x43\x08", 0, &o)); /* mov 8(%rbx),%rax */
    g_assert_true(o.has_base && o.base == 3 && !o.has_index && o.displacement == 8);
    g_assert_true(OPERAND("\x4b\x8b\x84\xfe\xf0\xff\xff\xff", 0, &o)); /* mov -16(%r14,%r15,8) */
    g_assert_true(o.base == 14 && o.has_index && o.index == 15 && o.scale_log2 == 3);
    g_assert_cmpint(o.displacement, ==, -16);
    g_assert_true(OPERAND("\x64\x48\x8b\x04\x25\x28\x00\x00\x00", 0, &o)); /* mov %fs:0x28,%rax */
    g_assert_true(!o.has_base && !o.has_index && o.segment == FORE_OPERAND_FS);
    g_assert_cmpint(o.displacement, ==, 0x28);
    /* mov 0x1000(%rip),%eax */
    g_assert_true(OPERAND("\x8b\x05\x00\x10\x00\x00", 0xffffffff81000ffa, &o));
    g_assert_true(o.is_fixed);
    g_assert_cmphex(o.fixed_page, ==, 0xffffff81002ull & 0xffffffffff);
    g_assert_false(OPERAND("\x8b\x05\x00\x10\x00\x00", 0x400000, &o)); /* or absolute: who knows */
    g_assert_true(OPERAND("\x55", 0, &o));                             /* push %rbp */
    g_assert_true(fore_operand_is_stack(&o));
    g_assert_true(OPERAND("\x0f\xb6\x00", 0, &o)); /* movzbl (%rax),%eax */
    g_assert_true(o.has_base && o.base == 0);
    g_assert_false(OPERAND("\x48\x89\xd8", 0, &o)); /* mov %rbx,%rax */
    g_assert_false(OPERAND("\xa5", 0, &o));         /* movsl */
}

/* --- slots --- */

static void test_slots(void)
{
    ForeSlot a = {.insns = 5, .loads = 2, .stores = 1, .mix = {4, 0, 1}, .bucket = 9};
    ForeSlot b = a;
    ForePageVcpu sums = {0};

    a.branch = FORE_PAGE_BRANCH_CALL;
    b.branch = FORE_PAGE_BRANCH_RETURN;
    int first = fore_slot_find(&a);
    g_assert_cmpint(first, >=, 0);
    g_assert_cmpint(fore_slot_find(&b), !=, first);
    g_assert_cmpint(fore_slot_find(&a), ==, first);
    fore_slot_sum(fore_slot_get((unsigned)first), 10, &sums);
    g_assert_cmpuint(sums.insns, ==, 50);
    g_assert_cmpuint(sums.blocks, ==, 10);
    g_assert_cmpuint(sums.loads, ==, 20);
    g_assert_cmpuint(sums.mix[FORE_PAGE_MIX_CONTROL], ==, 10);
    g_assert_cmpuint(sums.branch[FORE_PAGE_BRANCH_CALL], ==, 10);
    g_assert_cmpuint(sums.signature[9], ==, 50);
    /* Storms of blocks: the table fills, says so, and still knows what it knew. */
    ForeSlot many = {.branch = NO};
    for (unsigned i = 0; i < FORE_SLOT_N; i++) {
        many.insns = (uint16_t)(i + 1000);
        many.loads = (uint16_t)(i >> 12);
        fore_slot_find(&many);
    }
    g_assert_cmpuint(fore_slot_count(), ==, FORE_SLOT_N);
    many.stores = 77;
    g_assert_cmpint(fore_slot_find(&many), ==, -1);
    g_assert_cmpint(fore_slot_find(&a), ==, first);
}

/* --- the estimator --- */

/* Samples of @n pages, all equally likely: the estimate lies within four standard errors. */
static void check_estimate(GRand *random, unsigned n, unsigned samples)
{
    g_autofree unsigned *times = g_new0(unsigned, n);
    uint64_t seen = 0, once = 0, twice = 0, pages, error;

    for (unsigned i = 0; i < samples; i++) {
        times[g_rand_int_range(random, 0, (gint32)n)]++;
    }
    for (unsigned i = 0; i < n; i++) {
        seen += times[i] > 0;
        once += times[i] == 1;
        twice += times[i] == 2;
    }
    fore_pages_estimate(seen, once, twice, samples, &pages, &error);
    g_test_message("%u pages, %u samples: %u +- %u", n, samples, (unsigned)pages, (unsigned)error);
    g_assert_cmpuint(pages, <=, n + 4 * error);
    g_assert_cmpuint(pages + 4 * error, >=, n);
}

static void test_estimate(void)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(5);
    uint64_t pages, error;

    for (unsigned n = 10; n <= 100000; n *= 10) {
        check_estimate(random, n, 5000);
        check_estimate(random, n, 9000);
    }
    fore_pages_estimate(0, 0, 0, 0, &pages, &error);
    g_assert_cmpuint(pages, ==, 0);
    g_assert_cmpuint(error, ==, 0);
    fore_pages_estimate(1, 1, 0, 1, &pages, &error);
    g_assert_cmpuint(pages, ==, 1);
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qemu-plugin/insn/x86-memory-kind-and-branch", test_x86);
    g_test_add_func("/qemu-plugin/insn/x86-system-calls-and-cr3", test_x86_special);
    g_test_add_func("/qemu-plugin/insn/x86-any-bytes-are-something", test_x86_any_bytes);
    g_test_add_func("/qemu-plugin/insn/aarch64-and-riscv64-classes", test_risc);
    g_test_add_func("/qemu-plugin/operand/address-is-found-from-registers", test_operands);
    g_test_add_func("/qemu-plugin/slot/full-table-keeps-what-it-knows", test_slots);
    g_test_add_func("/qemu-plugin/pages/truth-lies-within-the-error", test_estimate);
    return g_test_run();
}

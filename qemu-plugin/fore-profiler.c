/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>
#include <qemu-plugin.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "qemu-plugin/fore-profiler-args.h"
#include "qemu-plugin/fore-profiler-kvm.h"
#include "qemu-plugin/fore-profiler-page.h"
#include "qemu-plugin/fore-profiler-score.h"

/*
 * How it works
 *
 * Goal: exact execution counters of each vCPU on the profile page, at a few per cent of run time.
 *
 * Counting is inline: each translated block carries one addition that counts itself and its
 * instructions in one 64-bit word (blocks above bit 32, instructions below), each memory access one
 * addition, each system-call instruction one.  The words live on QEMU's scoreboard, one entry a
 * vCPU.
 *
 * Publishing is done by the vCPU threads themselves.  QEMU moves the scoreboard when a vCPU with a
 * higher index appears, and aborts on an index that it does not know, so no thread of ours may read
 * it; a vCPU's own thread may, because QEMU stops all of them (or holds its big lock, under which
 * the idle and resume callbacks run) for the move.  After VISIT_BLOCKS blocks a conditional
 * callback takes the word over into totals of our own and sets it to zero, and publishes when the
 * interval has passed.  A vCPU that idles publishes as it goes to sleep and as it wakes.
 *
 * Invariants: vcpus[i] is written by vCPU i's thread only, and by the thread that unplugs it after
 * it has ended.  There is no lock, no allocation and no system call after start (the clock is
 * vDSO).
 *
 * Limits: a block that is left in its middle (a fault) counts whole.  A busy vCPU that executes few
 * blocks (fewer than VISIT_BLOCKS in the interval) publishes later than the interval.  Idle time
 * includes the time that the VM is stopped.  With -accel tcg,thread=single QEMU reports no idle:
 * the bit stays clear.  Under KVM nothing is translated and no vCPU is reported: there a thread of
 * our own samples (fore-profiler-kvm.c).
 */

#define PREFIX       "foresee-profiler: "
#define VISIT_BLOCKS 8192u
/* 8192 blocks of at most 512 instructions stay far below 2^32, so instructions never carry over. */
#define BLOCKS_SHIFT     32
#define INSNS_MASK       G_GUINT64_CONSTANT(0xffffffff)
#define MAX_SYSCALL_INSN 6 /* bytes: two of opcode, and some prefixes */

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* A vCPU's totals, its thread's own; apart by cache lines for the same reason. */
typedef struct {
    ForePageVcpu totals;
    uint8_t pad[64];
} Vcpu;

static struct {
    ForePageHeader *page;
    ForeProfilerScore *scores; /* [FORE_PAGE_MAX_VCPUS] */
    qemu_plugin_u64 pending, loads, stores, syscalls;
    uint64_t interval_ns;
    bool is_x86;
    Vcpu vcpus[FORE_PAGE_MAX_VCPUS];
} profiler;

static uint64_t monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * FORE_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* --- publishing, on the vCPU's thread --- */

/* Takes over what the vCPU's blocks have counted. */
static void collect(unsigned index)
{
    ForeProfilerScore *score = &profiler.scores[index];
    ForePageVcpu *t = &profiler.vcpus[index].totals;

    t->blocks += score->pending >> BLOCKS_SHIFT;
    t->insns += score->pending & INSNS_MASK;
    score->pending = 0;
    t->loads = score->loads;
    t->stores = score->stores;
    t->syscalls = score->syscalls;
}

static void publish(unsigned index, uint64_t now_ns)
{
    ForePageVcpu *t = &profiler.vcpus[index].totals;

    t->updated_ns = now_ns;
    fore_page_publish(fore_profiler_page_block(profiler.page, index), t);
    __atomic_store_n(&profiler.page->heartbeat_ns, now_ns, __ATOMIC_RELAXED);
}

/* Bits of the valid mask appear with the first event that proves them, and stay. */
static void add_valid(uint64_t bits)
{
    if ((__atomic_load_n(&profiler.page->valid, __ATOMIC_RELAXED) & bits) != bits) {
        __atomic_fetch_or(&profiler.page->valid, bits, __ATOMIC_RELEASE);
    }
}

static void end_idle(ForePageVcpu *t, uint64_t now_ns)
{
    if (t->idle_since_ns != 0) {
        t->idle_ns += now_ns - t->idle_since_ns;
        t->idle_since_ns = 0;
        t->resumes++;
    }
}

/* --- what QEMU calls --- */

static void on_due(unsigned index, void *data)
{
    if (index >= FORE_PAGE_MAX_VCPUS) {
        return;
    }
    uint64_t now_ns = monotonic_ns();
    collect(index);
    if (now_ns - profiler.vcpus[index].totals.updated_ns >= profiler.interval_ns) {
        publish(index, now_ns);
    }
}

static void on_vcpu_init(qemu_plugin_id_t id, unsigned index)
{
    uint64_t bits = FORE_PAGE_HAS_INSNS | FORE_PAGE_HAS_BLOCKS | FORE_PAGE_HAS_LOADS |
                    FORE_PAGE_HAS_STORES | (profiler.is_x86 ? FORE_PAGE_HAS_SYSCALLS : 0);

    if (index >= FORE_PAGE_MAX_VCPUS) {
        return;
    }
    ForePageVcpu *t = &profiler.vcpus[index].totals;
    t->state = FORE_PAGE_VCPU_RUNNING;
    t->plugged_ns = monotonic_ns();
    t->idle_since_ns = 0;
    publish(index, t->plugged_ns);
    __atomic_store_n(&profiler.page->mode, FORE_PAGE_MODE_TCG, __ATOMIC_RELAXED);
    add_valid(bits);
}

static void on_vcpu_idle(qemu_plugin_id_t id, unsigned index)
{
    if (index >= FORE_PAGE_MAX_VCPUS) {
        return;
    }
    ForePageVcpu *t = &profiler.vcpus[index].totals;
    uint64_t now_ns = monotonic_ns();
    collect(index);
    if (t->idle_since_ns == 0) {
        t->idle_since_ns = now_ns;
    }
    t->state = FORE_PAGE_VCPU_IDLE;
    publish(index, now_ns);
    add_valid(FORE_PAGE_HAS_IDLE);
}

static void on_vcpu_resume(qemu_plugin_id_t id, unsigned index)
{
    if (index >= FORE_PAGE_MAX_VCPUS) {
        return;
    }
    ForePageVcpu *t = &profiler.vcpus[index].totals;
    uint64_t now_ns = monotonic_ns();
    end_idle(t, now_ns);
    t->state = FORE_PAGE_VCPU_RUNNING;
    publish(index, now_ns);
}

/* The vCPU's thread has ended; this is the thread that unplugs it. */
static void on_vcpu_exit(qemu_plugin_id_t id, unsigned index)
{
    if (index >= FORE_PAGE_MAX_VCPUS) {
        return;
    }
    ForePageVcpu *t = &profiler.vcpus[index].totals;
    uint64_t now_ns = monotonic_ns();
    collect(index);
    end_idle(t, now_ns);
    t->state = FORE_PAGE_VCPU_GONE;
    publish(index, now_ns);
}

/* vCPU threads may still run: their blocks stay theirs, and the mapping stays. */
static void on_exit_qemu(qemu_plugin_id_t id, void *data)
{
    fore_profiler_kvm_stop();
    __atomic_store_n(&profiler.page->writer, FORE_PAGE_WRITER_EXITED, __ATOMIC_RELEASE);
}

/* --- translation --- */

/* SYSCALL, SYSENTER or INT 0x80, with any prefixes (Intel SDM volume 2, opcode maps). */
static bool is_syscall(const struct qemu_plugin_insn *insn)
{
    static const uint8_t prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65};
    uint8_t code[MAX_SYSCALL_INSN];
    size_t size = qemu_plugin_insn_size(insn), at = 0;

    if (size < 2 || size > sizeof(code) ||
        qemu_plugin_insn_data(insn, code, sizeof(code)) != size) {
        return false;
    }
    while (at + 2 < size &&
           (memchr(prefixes, code[at], sizeof(prefixes)) != NULL || (code[at] & 0xf0) == 0x40)) {
        at++;
    }
    return at + 2 == size && ((code[at] == 0x0f && code[at + 1] == 0x05) ||
                              (code[at] == 0x0f && code[at + 1] == 0x34) ||
                              (code[at] == 0xcd && code[at + 1] == 0x80));
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);

    qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
        tb, QEMU_PLUGIN_INLINE_ADD_U64, profiler.pending, (UINT64_C(1) << BLOCKS_SHIFT) | n);
    qemu_plugin_register_vcpu_tb_exec_cond_cb(tb, on_due, QEMU_PLUGIN_CB_NO_REGS,
                                              QEMU_PLUGIN_COND_GE, profiler.pending,
                                              (uint64_t)VISIT_BLOCKS << BLOCKS_SHIFT, NULL);
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

        qemu_plugin_register_vcpu_mem_inline_per_vcpu(
            insn, QEMU_PLUGIN_MEM_R, QEMU_PLUGIN_INLINE_ADD_U64, profiler.loads, 1);
        qemu_plugin_register_vcpu_mem_inline_per_vcpu(
            insn, QEMU_PLUGIN_MEM_W, QEMU_PLUGIN_INLINE_ADD_U64, profiler.stores, 1);
        /* These instructions end a block, so only its last can be one. */
        if (i == n - 1 && profiler.is_x86 && is_syscall(insn)) {
            qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, QEMU_PLUGIN_INLINE_ADD_U64,
                                                                profiler.syscalls, 1);
        }
    }
}

/* --- start --- */

static bool check_machine(const qemu_info_t *info, GError **error)
{
    if (!info->system_emulation) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "user-mode emulation of %s: only whole machines (qemu-system-*) are profiled",
                    info->target_name);
        return false;
    }
    if (info->system.max_vcpus < 1 || info->system.max_vcpus > FORE_PAGE_MAX_VCPUS) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "the machine may have %d vCPUs, at most %d are recorded: lower -smp maxcpus",
                    info->system.max_vcpus, FORE_PAGE_MAX_VCPUS);
        return false;
    }
    return true;
}

static void take_scoreboard(struct qemu_plugin_scoreboard *board)
{
#define FIELD(name) qemu_plugin_scoreboard_u64_in_struct(board, ForeProfilerScore, name)
    profiler.pending = FIELD(pending);
    profiler.loads = FIELD(loads);
    profiler.stores = FIELD(stores);
    profiler.syscalls = FIELD(syscalls);
#undef FIELD
}

static bool start(const qemu_info_t *info, int argc, char **argv, GError **error)
{
    ForeProfilerArgs args;
    struct qemu_plugin_scoreboard *board = NULL;
    bool ok = fore_profiler_args_parse(argc, argv, &args, error) && check_machine(info, error);

    if (ok) {
        board = fore_profiler_score_new(FORE_PAGE_MAX_VCPUS, &profiler.scores, error);
    }
    if (board != NULL) {
        ForeProfilerPageInfo page = {
            .uuid = args.uuid,
            .target = info->target_name,
            .now_ns = monotonic_ns(),
            .interval_ns = args.interval_ms * (FORE_NS_PER_S / 1000),
            .max_vcpus = (unsigned)info->system.max_vcpus,
        };
        profiler.interval_ns = page.interval_ns;
        take_scoreboard(board);
        profiler.page = fore_profiler_page_create(args.page, &page, error);
        if (profiler.page != NULL && fore_profiler_kvm_is_on() &&
            !fore_profiler_kvm_start(profiler.page, page.interval_ns, page.max_vcpus, error)) {
            profiler.page = NULL;
        }
    }
    fore_profiler_args_done(&args);
    return profiler.page != NULL;
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                           char **argv)
{
    g_autoptr(GError) error = NULL;

    if (!start(info, argc, argv, &error)) {
        fprintf(stderr, PREFIX "%s\n", error->message);
        return 1;
    }
    profiler.is_x86 =
        strcmp(info->target_name, "x86_64") == 0 || strcmp(info->target_name, "i386") == 0;

    qemu_plugin_register_atexit_cb(id, on_exit_qemu, NULL);
    if (fore_profiler_kvm_is_on()) { /* none of the calls below would ever come */
        return 0;
    }
    qemu_plugin_register_vcpu_init_cb(id, on_vcpu_init);
    qemu_plugin_register_vcpu_exit_cb(id, on_vcpu_exit);
    qemu_plugin_register_vcpu_idle_cb(id, on_vcpu_idle);
    qemu_plugin_register_vcpu_resume_cb(id, on_vcpu_resume);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    return 0;
}

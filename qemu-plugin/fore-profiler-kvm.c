/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-plugin/fore-profiler-kvm.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "qemu-plugin/fore-profiler-page.h"
#include "qemu-plugin/fore-profiler-ram.h"
#include "qemu-plugin/fore-profiler-thread.h"

/*
 * How it works
 *
 * Goal: utilisation and exits of each vCPU, and how fast memory changes, without a hand in the
 * guest and without a lock of QEMU.
 *
 * One thread wakes each interval.  It reads files that it opened once: schedstat of each vCPU
 * thread, KVM's statistics of each vCPU (QEMU's own descriptor, duplicated), the counters of
 * perf_event_open() where the host has them.  Once a second it looks for vCPU threads that came,
 * and samples dirty memory (fore-profiler-ram.c).  A thread that ended shows as a read error: its
 * vCPU is gone, and its counters go on from there when it is plugged again.
 *
 * Why no ioctl: on a vCPU's descriptor it waits for the lock that KVM_RUN holds, for as long as the
 * guest runs; QEMU opens the statistics descriptor before that, and so we read that one.
 *
 * Invariants: the thread is the page's only writer.  It blocks all signals, takes no lock that
 * another thread of QEMU takes (no malloc after the start but what opendir() and fopen() do), and
 * makes no system call that QEMU's sandbox refuses.
 *
 * Limits: vCPU threads are known by their names, so without -name debug-threads=on there are no
 * vCPUs on the page.  idle_ns is what is left of the time that passed; a paused VM idles.
 * resident_bytes is of the whole of QEMU.  A host interrupt that lands in the guest's run time is
 * counted as the guest's.
 */

#define SCAN_NS  FORE_NS_PER_S /* between two looks for new vCPUs, and two samples of memory */
#define EAGER_NS (5 * FORE_NS_PER_S) /* at first each interval: QEMU is still starting */

typedef struct {
    ForePageVcpu totals;
    ForeThread thread;
    ForeThreadReading last; /* of the thread that it has now */
    uint64_t last_ns;       /* when */
    uint64_t owed_ns;       /* busy time that was taken for idle */
} Vcpu;

static struct {
    pthread_t id;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* on CLOCK_MONOTONIC */
    bool started, stopping;
    ForePageHeader *page;
    uint64_t interval_ns, start_ns, scanned_ns;
    unsigned max_vcpus;
    ForePageVm vm;
    ForeRam ram;
    ForeThreadKvm kvm;
    Vcpu vcpus[FORE_PAGE_MAX_VCPUS];
} sampler = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * FORE_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void add_valid(uint64_t bits)
{
    __atomic_fetch_or(&sampler.page->valid, bits, __ATOMIC_RELEASE);
}

/* --- counters --- */

/* What a counter grew by; perf's scaled ones may waver. */
static uint64_t grown(uint64_t now, uint64_t before)
{
    return now >= before ? now - before : 0;
}

static void add_exits(ForePageVcpu *t, const uint64_t *now, const uint64_t *before)
{
    static const struct {
        ForePageExit to;
        ForeProcStat from;
    } map[] = {
        {FORE_PAGE_EXIT_IO, FORE_PROC_IO_EXITS},
        {FORE_PAGE_EXIT_MMIO, FORE_PROC_MMIO_EXITS},
        {FORE_PAGE_EXIT_HALT, FORE_PROC_HALT_EXITS},
        {FORE_PAGE_EXIT_IRQ, FORE_PROC_IRQ_EXITS},
        {FORE_PAGE_EXIT_IRQ, FORE_PROC_IRQ_WINDOW_EXITS},
        {FORE_PAGE_EXIT_SIGNAL, FORE_PROC_SIGNAL_EXITS},
        {FORE_PAGE_EXIT_EMULATION, FORE_PROC_EMULATIONS},
        {FORE_PAGE_EXIT_HYPERCALL, FORE_PROC_HYPERCALLS},
        {FORE_PAGE_EXIT_FAULT, FORE_PROC_FAULTS},
    };

    t->exits += grown(now[FORE_PROC_EXITS], before[FORE_PROC_EXITS]);
    for (unsigned i = 0; i < G_N_ELEMENTS(map); i++) {
        t->exit[map[i].to] += grown(now[map[i].from], before[map[i].from]);
    }
    t->halt_wait_ns += grown(now[FORE_PROC_HALT_WAIT_NS], before[FORE_PROC_HALT_WAIT_NS]);
    t->resumes += grown(now[FORE_PROC_HALT_WAKEUPS], before[FORE_PROC_HALT_WAKEUPS]);
}

static uint64_t polled(const uint64_t *now, const uint64_t *before)
{
    return grown(now[FORE_PROC_HALT_POLL_OK_NS], before[FORE_PROC_HALT_POLL_OK_NS]) +
           grown(now[FORE_PROC_HALT_POLL_FAIL_NS], before[FORE_PROC_HALT_POLL_FAIL_NS]);
}

/* The kernel counts waiting when it ends: until then it looks idle here, and then there is more
 * busy time than passed.  idle_ns cannot go back, so that much is held back of what comes next. */
static uint64_t newly_idle(Vcpu *v, uint64_t passed, uint64_t busy)
{
    v->owed_ns += busy;
    uint64_t paid = MIN(v->owed_ns, passed);

    v->owed_ns -= paid;
    return passed - paid;
}

/* Adds what happened since the reading before. */
static void take_reading(Vcpu *v, const ForeThreadReading *now, uint64_t now_ns)
{
    ForePageVcpu *t = &v->totals;
    uint64_t run = grown(now->run_ns, v->last.run_ns);
    uint64_t wait = grown(now->wait_ns, v->last.wait_ns);
    uint64_t poll = now->has_stats && v->last.has_stats ? polled(now->stats, v->last.stats) : 0;
    uint64_t passed = now_ns - v->last_ns, busy = run + wait - MIN(poll, run);

    t->run_ns += run;
    t->wait_ns += wait;
    t->idle_ns += newly_idle(v, passed, busy);
    t->halt_poll_ns += poll;
    if (now->has_stats && v->last.has_stats) {
        add_exits(t, now->stats, v->last.stats);
    }
    if (now->has_perf && v->last.has_perf) {
        t->insns += grown(now->insns, v->last.insns);
        t->cycles += grown(now->cycles, v->last.cycles);
    }
    v->last = *now;
    v->last_ns = now_ns;
}

static uint64_t bits_of(const ForeThreadReading *now)
{
    return FORE_PAGE_HAS_RUN | FORE_PAGE_HAS_IDLE |
           (now->has_stats ? FORE_PAGE_HAS_EXITS | FORE_PAGE_HAS_HALT : 0) |
           (now->has_perf ? FORE_PAGE_HAS_INSNS | FORE_PAGE_HAS_CYCLES : 0);
}

static void publish(unsigned index, uint64_t now_ns)
{
    ForePageVcpu *t = &sampler.vcpus[index].totals;

    t->updated_ns = now_ns;
    fore_page_publish(fore_profiler_page_block(sampler.page, index), t);
}

/* --- vCPUs come and go --- */

static void take_leave(unsigned index, uint64_t now_ns)
{
    Vcpu *v = &sampler.vcpus[index];

    fore_thread_close(&v->thread);
    v->totals.state = FORE_PAGE_VCPU_GONE;
    publish(index, now_ns);
}

static void sample_vcpu(unsigned index, uint64_t now_ns)
{
    Vcpu *v = &sampler.vcpus[index];
    ForeThreadReading now;

    if (!fore_thread_read(&v->thread, &sampler.kvm, index, &now)) {
        take_leave(index, now_ns);
        return;
    }
    take_reading(v, &now, now_ns);
    publish(index, now_ns);
    add_valid(bits_of(&now));
}

/* Counting starts with the first reading: what passed before that was not on the page's clock. */
static void on_vcpu(unsigned index, const ForeThread *thread, void *data)
{
    uint64_t now_ns = monotonic_ns();
    Vcpu *v = &sampler.vcpus[index];

    fore_thread_close(&v->thread);
    v->thread = *thread;
    if (!fore_thread_read(&v->thread, &sampler.kvm, index, &v->last)) {
        fore_thread_close(&v->thread);
        return;
    }
    v->last_ns = now_ns;
    v->owed_ns = 0;
    v->totals.state = FORE_PAGE_VCPU_RUNNING;
    v->totals.plugged_ns = now_ns;
}

static bool is_known(unsigned index, int tid)
{
    const Vcpu *v = &sampler.vcpus[index];

    return v->thread.tid == tid;
}

static void scan(void)
{
    bool plugged[FORE_PAGE_MAX_VCPUS];

    fore_thread_scan(sampler.max_vcpus, is_known, on_vcpu, NULL);
    for (unsigned i = 0; i < sampler.max_vcpus; i++) {
        plugged[i] = sampler.vcpus[i].thread.tid != 0;
    }
    fore_thread_kvm_scan(&sampler.kvm, plugged, sampler.max_vcpus);
}

/* --- the VM --- */

static void sample_vm(uint64_t now_ns)
{
    uint64_t bits = 0;

    if (fore_ram_step(&sampler.ram, now_ns, &sampler.vm.dirty_bytes_per_s)) {
        bits |= FORE_PAGE_HAS_DIRTY;
    }
    if (fore_thread_resident(&sampler.vm.resident_bytes)) {
        bits |= FORE_PAGE_HAS_RESIDENT;
    }
    sampler.vm.updated_ns = now_ns;
    fore_page_publish_vm(fore_profiler_page_vm(sampler.page), &sampler.vm);
    add_valid(bits);
}

static void step(uint64_t now_ns)
{
    bool due = sampler.scanned_ns == 0 || now_ns - sampler.scanned_ns >= SCAN_NS;

    if (due || now_ns - sampler.start_ns < EAGER_NS) {
        scan();
    }
    for (unsigned i = 0; i < sampler.max_vcpus; i++) {
        if (sampler.vcpus[i].thread.tid != 0) {
            sample_vcpu(i, monotonic_ns());
        }
    }
    if (due) {
        sampler.scanned_ns = now_ns;
        sample_vm(now_ns);
    }
    __atomic_store_n(&sampler.page->heartbeat_ns, monotonic_ns(), __ATOMIC_RELAXED);
}

/* --- the thread --- */

/* Waits until @until_ns, or to be stopped. */
static bool pause_until(uint64_t until_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(until_ns / FORE_NS_PER_S),
                          .tv_nsec = (long)(until_ns % FORE_NS_PER_S)};
    int rc = 0;

    pthread_mutex_lock(&sampler.lock);
    while (!sampler.stopping && rc == 0) {
        rc = pthread_cond_timedwait(&sampler.wake, &sampler.lock, &ts);
    }
    bool stopping = sampler.stopping;
    pthread_mutex_unlock(&sampler.lock);
    return !stopping;
}

static void *run(void *data)
{
    uint64_t next_ns = sampler.start_ns;

    do {
        uint64_t now_ns = monotonic_ns();
        step(now_ns);
        /* A host that was too busy for some samples is not asked to catch up. */
        next_ns = MAX(next_ns + sampler.interval_ns, now_ns + sampler.interval_ns / 2);
    } while (pause_until(next_ns));
    step(monotonic_ns());
    return NULL;
}

bool fore_profiler_kvm_is_on(void)
{
    return fore_thread_has_kvm();
}

bool fore_profiler_kvm_start(ForePageHeader *page, uint64_t interval_ns, unsigned max_vcpus,
                             GError **error)
{
    pthread_condattr_t attr;
    sigset_t all, before;

    sampler.page = page;
    sampler.interval_ns = interval_ns;
    sampler.max_vcpus = MIN(max_vcpus, FORE_PAGE_MAX_VCPUS);
    sampler.start_ns = monotonic_ns();
    fore_ram_init(&sampler.ram, sampler.start_ns | 1);
    fore_thread_kvm_init(&sampler.kvm);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&sampler.wake, &attr);
    pthread_condattr_destroy(&attr);
    /* QEMU's signals are for its own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int errsv = pthread_create(&sampler.id, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (errsv != 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errsv),
                    "cannot start the sampling thread: %s", g_strerror(errsv));
        return false;
    }
    pthread_setname_np(sampler.id, "foresee-sampler");
    sampler.started = true;
    __atomic_store_n(&page->mode, FORE_PAGE_MODE_KVM, __ATOMIC_RELAXED);
    return true;
}

void fore_profiler_kvm_stop(void)
{
    if (!sampler.started) {
        return;
    }
    pthread_mutex_lock(&sampler.lock);
    sampler.stopping = true;
    pthread_cond_signal(&sampler.wake);
    pthread_mutex_unlock(&sampler.lock);
    pthread_join(sampler.id, NULL);
    sampler.started = false;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-plugin/fore-profiler-publish.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "qemu-plugin/fore-profiler-page.h"
#include "qemu-plugin/fore-profiler-pages.h"
#include "qemu-plugin/fore-profiler-space.h"

/*
 * Invariants
 *
 * - The page's section and blocks are written by the publishing thread only (in the end by the one
 *   that stops it).
 * - A score's words are written by their vCPU's thread only, aligned, one store each: reading them
 *   from another thread gives a value that was there, and the sums only grow.
 * - A Life is written by its vCPU's thread, under a sequence lock: the publishing thread sees one
 *   whole state, or leaves the vCPU for the next interval.  It reads the state before the words, so
 *   a vCPU that it sees idle has words that are final for that sleep: idle counters are exact.
 * - The thread takes no lock of QEMU, so QEMU may wait for it at exit.
 */

#define MAX_TRIES     1000
#define WINDOW_MIN_NS FORE_NS_PER_S

/* A vCPU's life, as its thread tells it.  Apart by cache lines. */
typedef struct {
    uint32_t seq; /* odd while being written */
    uint32_t state;
    uint64_t plugged_ns, idle_since_ns, idle_ns, resumes;
    uint64_t pad[3];
} Life;
G_STATIC_ASSERT(sizeof(Life) == 64);

/* What the publishing thread keeps of a vCPU. */
typedef struct {
    ForePageVcpu sums; /* of the slots, without what is counted directly */
    uint64_t *seen;    /* [FORE_SLOT_N]: words that are in the sums; NULL: none yet */
    uint32_t life_seq; /* of the last collection */
    bool collected;
} Vcpu;

static struct {
    ForePublishSetup setup;
    bool started, stopping;
    pthread_t thread;
    GMutex lock; /* of stopping */
    GCond wake;
    uint64_t window_start_ns;
    ForePageVm vm;
    Life lives[FORE_PAGE_MAX_VCPUS];
    Vcpu vcpus[FORE_PAGE_MAX_VCPUS];
    uint64_t *syscalls[FORE_PAGE_MAX_VCPUS]; /* [FORE_PAGE_SYSCALLS] of a vCPU; NULL: none yet */
} publisher;

static uint64_t monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * FORE_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Bits of the valid mask appear with the first event that proves them, and stay. */
void fore_publish_add_valid(uint64_t bits)
{
    uint64_t *valid = &publisher.setup.page->valid;

    if ((__atomic_load_n(valid, __ATOMIC_RELAXED) & bits) != bits) {
        __atomic_fetch_or(valid, bits, __ATOMIC_RELEASE);
    }
}

/* --- a vCPU's life: on its thread --- */

static void write_life(unsigned index, const Life *from)
{
    Life *to = &publisher.lives[index];
    uint32_t seq = __atomic_load_n(&to->seq, __ATOMIC_RELAXED) | 1u;

    __atomic_store_n(&to->seq, seq, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(&to->state, from->state, __ATOMIC_RELAXED);
    __atomic_store_n(&to->plugged_ns, from->plugged_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&to->idle_since_ns, from->idle_since_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&to->idle_ns, from->idle_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&to->resumes, from->resumes, __ATOMIC_RELAXED);
    __atomic_store_n(&to->seq, seq + 1, __ATOMIC_RELEASE);
}

static void end_idle(Life *life, uint64_t now_ns)
{
    if (life->idle_since_ns != 0) {
        life->idle_ns += now_ns - life->idle_since_ns;
        life->idle_since_ns = 0;
        life->resumes++;
    }
}

void fore_publish_vcpu_init(unsigned index)
{
    Life life = publisher.lives[index];

    if (publisher.syscalls[index] == NULL) {
        __atomic_store_n(&publisher.syscalls[index], g_new0(uint64_t, FORE_PAGE_SYSCALLS),
                         __ATOMIC_RELEASE);
    }
    life.state = FORE_PAGE_VCPU_RUNNING;
    life.plugged_ns = monotonic_ns();
    life.idle_since_ns = 0;
    write_life(index, &life);
    fore_space_run(index, life.plugged_ns);
}

void fore_publish_vcpu_idle(unsigned index)
{
    Life life = publisher.lives[index];
    uint64_t now_ns = monotonic_ns();

    if (life.idle_since_ns == 0) {
        life.idle_since_ns = now_ns;
    }
    life.state = FORE_PAGE_VCPU_IDLE;
    write_life(index, &life);
    fore_space_rest(index, now_ns);
    fore_publish_add_valid(FORE_PAGE_HAS_IDLE);
}

void fore_publish_vcpu_resume(unsigned index)
{
    Life life = publisher.lives[index];
    uint64_t now_ns = monotonic_ns();

    end_idle(&life, now_ns);
    life.state = FORE_PAGE_VCPU_RUNNING;
    write_life(index, &life);
    fore_space_run(index, now_ns);
}

void fore_publish_vcpu_exit(unsigned index)
{
    Life life = publisher.lives[index];
    uint64_t now_ns = monotonic_ns();

    end_idle(&life, now_ns);
    life.state = FORE_PAGE_VCPU_GONE;
    write_life(index, &life);
    fore_space_rest(index, now_ns);
}

void fore_publish_count_syscall(unsigned index, uint64_t number)
{
    uint64_t *word = &publisher.syscalls[index][MIN(number, FORE_PAGE_SYSCALLS - 1)];

    __atomic_store_n(word, *word + 1, __ATOMIC_RELAXED);
}

/* --- collecting: on our thread --- */

static bool read_life(unsigned index, Life *ret)
{
    const Life *from = &publisher.lives[index];

    for (unsigned i = 0; i < MAX_TRIES; i++) {
        ret->seq = __atomic_load_n(&from->seq, __ATOMIC_ACQUIRE);
        ret->state = __atomic_load_n(&from->state, __ATOMIC_RELAXED);
        ret->plugged_ns = __atomic_load_n(&from->plugged_ns, __ATOMIC_RELAXED);
        ret->idle_since_ns = __atomic_load_n(&from->idle_since_ns, __ATOMIC_RELAXED);
        ret->idle_ns = __atomic_load_n(&from->idle_ns, __ATOMIC_RELAXED);
        ret->resumes = __atomic_load_n(&from->resumes, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if ((ret->seq & 1) == 0 && ret->seq == __atomic_load_n(&from->seq, __ATOMIC_RELAXED)) {
            return true;
        }
    }
    return false;
}

/* Takes over what the vCPU's blocks have counted since the last time. */
static void collect_slots(unsigned index)
{
    Vcpu *v = &publisher.vcpus[index];
    const uint64_t *words = publisher.setup.scores[index].slots;
    unsigned n = fore_slot_count();

    if (v->seen == NULL) {
        v->seen = g_new0(uint64_t, FORE_SLOT_N);
    }
    for (unsigned i = 0; i < n; i++) {
        uint64_t word = __atomic_load_n(&words[i], __ATOMIC_RELAXED);
        if (word != v->seen[i]) {
            fore_slot_sum(fore_slot_get(i), word - v->seen[i], &v->sums);
            v->seen[i] = word;
        }
    }
}

/* From idle_ns on all words of a block are counters. */
#define FIRST_COUNTER (offsetof(ForePageVcpu, idle_ns) / sizeof(uint64_t))
#define N_WORDS       (sizeof(ForePageVcpu) / sizeof(uint64_t))

static void add_direct(ForePageVcpu *to, const ForePageVcpu *direct)
{
    uint64_t *words = (uint64_t *)(void *)to;
    const uint64_t *more = (const uint64_t *)(const void *)direct;

    for (size_t i = FIRST_COUNTER; i < N_WORDS; i++) {
        words[i] += __atomic_load_n(&more[i], __ATOMIC_RELAXED);
    }
}

static void publish_vcpu(unsigned index)
{
    Vcpu *v = &publisher.vcpus[index];
    ForePageVcpu out;
    Life life;

    if (!read_life(index, &life) || life.state == FORE_PAGE_VCPU_NONE) {
        return;
    }
    /* Asleep, and nothing happened since the last collection. */
    if (!v->collected || life.state == FORE_PAGE_VCPU_RUNNING || life.seq != v->life_seq) {
        collect_slots(index);
        v->life_seq = life.seq;
        v->collected = true;
    }
    out = v->sums;
    add_direct(&out, &publisher.setup.scores[index].direct);
    out.state = life.state;
    out.plugged_ns = life.plugged_ns;
    out.idle_since_ns = life.idle_since_ns;
    out.idle_ns = life.idle_ns;
    out.resumes = life.resumes;
    out.updated_ns = monotonic_ns();
    fore_page_publish(fore_profiler_page_block(publisher.setup.page, index), &out);
}

static void sum_syscalls(void)
{
    memset(publisher.vm.syscall_number, 0, sizeof(publisher.vm.syscall_number));
    for (unsigned i = 0; i < publisher.setup.max_vcpus; i++) {
        const uint64_t *counts = __atomic_load_n(&publisher.syscalls[i], __ATOMIC_ACQUIRE);
        for (unsigned k = 0; counts != NULL && k < FORE_PAGE_SYSCALLS; k++) {
            publisher.vm.syscall_number[k] += __atomic_load_n(&counts[k], __ATOMIC_RELAXED);
        }
    }
}

static void end_window(uint64_t now_ns)
{
    publisher.vm.updated_ns = now_ns;
    publisher.vm.window_ns = now_ns - publisher.window_start_ns;
    fore_space_collect(publisher.setup.max_vcpus, now_ns, &publisher.vm);
    fore_pages_collect(publisher.setup.max_vcpus, &publisher.vm);
    publisher.window_start_ns = now_ns;
}

static void step(void)
{
    uint64_t now_ns = monotonic_ns();

    for (unsigned i = 0; i < publisher.setup.max_vcpus; i++) {
        publish_vcpu(i);
    }
    sum_syscalls();
    if (now_ns - publisher.window_start_ns >= MAX(WINDOW_MIN_NS, publisher.setup.interval_ns)) {
        end_window(now_ns);
    }
    fore_page_publish_vm(fore_profiler_page_vm(publisher.setup.page), &publisher.vm);
    __atomic_store_n(&publisher.setup.page->heartbeat_ns, monotonic_ns(), __ATOMIC_RELAXED);
}

/* --- the thread --- */

static void *run(void *data)
{
    gint64 next_us = g_get_monotonic_time();
    const gint64 interval_us = (gint64)(publisher.setup.interval_ns / 1000);

    g_mutex_lock(&publisher.lock);
    while (!publisher.stopping) {
        g_mutex_unlock(&publisher.lock);
        step();
        /* A host that was too busy for some intervals is not asked to catch up. */
        next_us = MAX(next_us + interval_us, g_get_monotonic_time() + interval_us / 2);
        g_mutex_lock(&publisher.lock);
        while (!publisher.stopping &&
               g_cond_wait_until(&publisher.wake, &publisher.lock, next_us)) {
        }
    }
    g_mutex_unlock(&publisher.lock);
    return data;
}

bool fore_publish_start(const ForePublishSetup *setup, GError **error)
{
    sigset_t all, before;

    publisher.setup = *setup;
    publisher.window_start_ns = monotonic_ns();
    fore_space_start(publisher.window_start_ns);
    /* QEMU's signals are for its own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int errsv = pthread_create(&publisher.thread, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (errsv != 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errsv),
                    "cannot start the publishing thread: %s", g_strerror(errsv));
        return false;
    }
    pthread_setname_np(publisher.thread, "foresee-page");
    publisher.started = true;
    return true;
}

void fore_publish_stop(void)
{
    if (!publisher.started) {
        return;
    }
    g_mutex_lock(&publisher.lock);
    publisher.stopping = true;
    g_cond_signal(&publisher.wake);
    g_mutex_unlock(&publisher.lock);
    pthread_join(publisher.thread, NULL);
    publisher.started = false;
    step();
}

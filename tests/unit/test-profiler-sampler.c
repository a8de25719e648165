/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the profiler's sampling thread reads of its own process, here of this test: a thread with a
 * vCPU's name, and memory that is written on purpose. */
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "qemu-plugin/fore-profiler-ram.h"
#include "qemu-plugin/fore-profiler-thread.h"

/* --- threads --- */

typedef struct {
    GMutex lock;
    GCond cond;
    bool end;
    int tid;
} Worker;

/* Runs until told to end, on a CPU all the time. */
static void *work(void *data)
{
    Worker *w = data;
    bool end = false;

    pthread_setname_np(pthread_self(), "CPU 7/KVM");
    g_mutex_lock(&w->lock);
    w->tid = gettid();
    g_cond_signal(&w->cond);
    g_mutex_unlock(&w->lock);
    while (!end) {
        g_mutex_lock(&w->lock);
        end = w->end;
        g_mutex_unlock(&w->lock);
    }
    return NULL;
}

static bool known(unsigned index, int tid)
{
    return false;
}

static void found(unsigned index, const ForeThread *thread, void *data)
{
    g_assert_cmpuint(index, ==, 7);
    *(ForeThread *)data = *thread;
}

static void test_thread(void)
{
    Worker w = {0};
    ForeThread thread = {0};
    ForeThreadKvm kvm;
    ForeThreadReading first, second;
    bool plugged[8] = {[7] = true};
    pthread_t id;

    fore_thread_kvm_init(&kvm);
    fore_thread_scan(8, known, found, &thread);
    g_assert_cmpint(thread.tid, ==, 0);
    g_mutex_lock(&w.lock);
    g_assert_cmpint(pthread_create(&id, NULL, work, &w), ==, 0);
    while (w.tid == 0) {
        g_cond_wait(&w.cond, &w.lock);
    }
    g_mutex_unlock(&w.lock);
    fore_thread_scan(7, known, found, &thread); /* index 7 is not below 7 */
    g_assert_cmpint(thread.tid, ==, 0);
    fore_thread_scan(8, known, found, &thread);
    g_assert_cmpint(thread.tid, ==, w.tid);
    g_assert_true(fore_thread_read(&thread, &kvm, 7, &first));
    do {
        g_assert_true(fore_thread_read(&thread, &kvm, 7, &second));
    } while (second.run_ns <= first.run_ns);
    g_assert_false(second.has_stats); /* no KVM here */
    fore_thread_kvm_scan(&kvm, plugged, 8);
    g_assert_cmpuint(kvm.n, ==, 0);

    g_mutex_lock(&w.lock);
    w.end = true;
    g_mutex_unlock(&w.lock);
    pthread_join(id, NULL);
    g_assert_false(fore_thread_read(&thread, &kvm, 7, &second));
    fore_thread_close(&thread);
    fore_thread_close(&thread);
    g_assert_false(fore_thread_has_kvm());
}

static void test_resident(void)
{
    uint64_t bytes = 0;

    g_assert_true(fore_thread_resident(&bytes));
    g_assert_cmpuint(bytes, >, 100 * 1024);
}

/* --- memory --- */

#define MEMORY (UINT64_C(64) << 20)

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

static void write_every(char *memory, uint64_t step, char value)
{
    for (uint64_t at = 0; at < MEMORY; at += step) {
        memory[at] = value;
    }
}

static void test_dirty(void)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), rate = 77;
    ForeRam ram;

    if (SANITIZED) {
        g_test_skip("the sanitizer's own memory is larger than the test's");
        return;
    }
    char *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(memory != MAP_FAILED);
    fore_ram_init(&ram, 12345);
    g_assert_false(fore_ram_step(&ram, 1 * FORE_NS_PER_S, &rate)); /* nothing to compare with */
    g_assert_true(fore_ram_step(&ram, 2 * FORE_NS_PER_S, &rate));
    g_assert_cmpuint(rate, ==, 0);
    write_every(memory, page, 1);
    g_assert_true(fore_ram_step(&ram, 4 * FORE_NS_PER_S, &rate)); /* in two seconds */
    g_assert_cmpuint(rate, ==, MEMORY / 2);
    write_every(memory, 2 * page, 2);
    g_assert_true(fore_ram_step(&ram, 5 * FORE_NS_PER_S, &rate));
    /* five standard errors: sqrt(256 / 4) = 8 samples of 256 each */
    g_assert_cmpuint(rate, >, MEMORY / 2 - 5 * MEMORY / 32);
    g_assert_cmpuint(rate, <, MEMORY / 2 + 5 * MEMORY / 32);
    munmap(memory, MEMORY);
    g_assert_false(fore_ram_step(&ram, 6 * FORE_NS_PER_S, &rate)); /* unplugged: no fault */
    fore_ram_done(&ram);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/plugin/sampler/thread-is-found-read-and-lost", test_thread);
    g_test_add_func("/plugin/sampler/resident-set-is-known", test_resident);
    g_test_add_func("/plugin/sampler/dirty-memory-is-estimated", test_dirty);
    return g_test_run();
}

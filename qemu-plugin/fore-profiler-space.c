/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-plugin/fore-profiler-space.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/*
 * How it works
 *
 * A vCPU's thread adds the time since its last switch to the entry of the space that it leaves, in
 * one of two tables; the publishing thread changes over between the tables at the end of a window
 * and reads the one that is no longer written.  A vCPU that was interrupted in the middle of an
 * addition may still write to the old table: then that one addition is lost, or lands in the
 * window after the next; entries are single words, so nothing worse happens.
 *
 * A table holds TABLE spaces; the time of any more goes to no space, but is in the sum.  Until a
 * vCPU has switched once its space is not known and counts as 0.
 */

#define TABLE 64
#define MERGE 1024

typedef struct {
    uint64_t other_ns;
    ForePageSpace spaces[TABLE]; /* in use up to the first with ns == 0 */
} Table;

typedef struct {
    uint64_t id;       /* of the space that it is in */
    uint64_t since_ns; /* 0: it rests */
    Table tables[2];
} Vcpu;

static struct {
    uint64_t epoch;    /* window number: tables[epoch & 1] is written to */
    uint64_t start_ns; /* of the window */
    Vcpu vcpus[FORE_PAGE_MAX_VCPUS];
    ForePageSpace merged[MERGE];
} spaces;

void fore_space_start(uint64_t now_ns)
{
    spaces.start_ns = now_ns;
}

static void add(Table *t, uint64_t id, uint64_t ns)
{
    for (unsigned i = 0; i < TABLE; i++) {
        uint64_t have = __atomic_load_n(&t->spaces[i].ns, __ATOMIC_RELAXED);
        if (have == 0) {
            __atomic_store_n(&t->spaces[i].id, id, __ATOMIC_RELAXED);
        }
        if (have == 0 || t->spaces[i].id == id) {
            __atomic_store_n(&t->spaces[i].ns, have + ns, __ATOMIC_RELEASE);
            return;
        }
    }
    __atomic_store_n(&t->other_ns, t->other_ns + ns, __ATOMIC_RELAXED);
}

/* What passed since @v was last looked at, but not before the window. */
static uint64_t passed_ns(const Vcpu *v, uint64_t now_ns)
{
    uint64_t since = __atomic_load_n(&v->since_ns, __ATOMIC_RELAXED);
    uint64_t from = MAX(since, __atomic_load_n(&spaces.start_ns, __ATOMIC_RELAXED));

    return since != 0 && now_ns > from ? now_ns - from : 0;
}

static void settle(Vcpu *v, uint64_t now_ns)
{
    uint64_t ns = passed_ns(v, now_ns);

    if (ns > 0) {
        add(&v->tables[__atomic_load_n(&spaces.epoch, __ATOMIC_ACQUIRE) & 1], v->id, ns);
    }
}

void fore_space_run(unsigned index, uint64_t now_ns)
{
    __atomic_store_n(&spaces.vcpus[index].since_ns, now_ns, __ATOMIC_RELAXED);
}

void fore_space_rest(unsigned index, uint64_t now_ns)
{
    settle(&spaces.vcpus[index], now_ns);
    __atomic_store_n(&spaces.vcpus[index].since_ns, 0, __ATOMIC_RELAXED);
}

void fore_space_switch(unsigned index, uint64_t value, uint64_t now_ns)
{
    Vcpu *v = &spaces.vcpus[index];

    settle(v, now_ns);
    __atomic_store_n(&v->id, value & FORE_SPACE_MASK, __ATOMIC_RELAXED);
    __atomic_store_n(&v->since_ns, now_ns, __ATOMIC_RELAXED);
}

/* --- the publishing thread --- */

static int by_time(const void *a, const void *b)
{
    const ForePageSpace *x = a, *y = b;

    return (x->ns < y->ns) - (x->ns > y->ns);
}

static void merge(unsigned *n, uint64_t id, uint64_t ns, uint64_t *sum)
{
    unsigned i = 0;

    *sum += ns;
    while (i < *n && spaces.merged[i].id != id) {
        i++;
    }
    if (i == *n && ns > 0 && i < MERGE) {
        spaces.merged[(*n)++] = (ForePageSpace){.id = id};
    }
    if (i < *n) {
        spaces.merged[i].ns += ns;
    }
}

static void merge_table(Table *t, unsigned *n, uint64_t *sum)
{
    for (unsigned i = 0; i < TABLE; i++) {
        uint64_t ns = __atomic_load_n(&t->spaces[i].ns, __ATOMIC_ACQUIRE);
        if (ns == 0) {
            break;
        }
        merge(n, __atomic_load_n(&t->spaces[i].id, __ATOMIC_RELAXED), ns, sum);
    }
    *sum += __atomic_load_n(&t->other_ns, __ATOMIC_RELAXED);
    memset(t, 0, sizeof(*t));
}

void fore_space_collect(unsigned max_vcpus, uint64_t now_ns, ForePageVm *ret)
{
    uint64_t sum = 0, epoch = spaces.epoch;
    unsigned n = 0;

    /* The space that a vCPU is in has its time of this window added here. */
    for (unsigned i = 0; i < max_vcpus; i++) {
        merge(&n, __atomic_load_n(&spaces.vcpus[i].id, __ATOMIC_RELAXED),
              passed_ns(&spaces.vcpus[i], now_ns), &sum);
    }
    __atomic_store_n(&spaces.start_ns, now_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&spaces.epoch, epoch + 1, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < max_vcpus; i++) {
        merge_table(&spaces.vcpus[i].tables[epoch & 1], &n, &sum);
    }
    qsort(spaces.merged, n, sizeof(spaces.merged[0]), by_time);
    ret->n_spaces = MIN(n, FORE_PAGE_SPACES);
    ret->space_ns = sum;
    memset(ret->spaces, 0, sizeof(ret->spaces));
    memcpy(ret->spaces, spaces.merged, ret->n_spaces * sizeof(ret->spaces[0]));
}

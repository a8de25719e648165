/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-plugin/fore-profiler-pages.h"

#include <math.h>
#include <string.h>

/*
 * How it works
 *
 * A vCPU's thread enters each sampled access in one of two hash tables of its own; the publishing
 * thread changes over at the end of a window, merges what is no longer written, and counts the
 * pages met once and twice.  A thread that was interrupted in the middle of an entry may still
 * write to the old table: that access is lost or lands in a later window.
 *
 * How often a vCPU samples follows how much it got in the last window, between WANT_MIN and
 * WANT_MAX accesses: a busy and a slow vCPU cost the same share of their time.
 */

#define TABLE       16384u /* entries of a vCPU's table: a power of two */
#define TABLE_FULL  12288u
#define MERGED      65536u
#define MERGED_FULL 57344u
#define WANT_MIN    3000
#define WANT_MAX    9000
#define PERIOD_MIN  64u
#define PERIOD_MAX  (1u << 24)

typedef struct {
    uint64_t key; /* 0: free */
    uint64_t times;
} Entry;

typedef struct {
    uint64_t samples, n;
    Entry entries[TABLE];
} Table;

typedef struct {
    uint64_t random, period;
    Table *tables; /* [2]; NULL: none */
} Vcpu;

static struct {
    uint64_t epoch; /* window number: tables[epoch & 1] is written to */
    uint64_t merged_n;
    Entry merged[MERGED];
    Vcpu vcpus[FORE_PAGE_MAX_VCPUS];
} pages;

void fore_pages_estimate(uint64_t seen, uint64_t once, uint64_t twice, uint64_t samples,
                         uint64_t *ret_pages, uint64_t *ret_error)
{
    double f1 = (double)once, f2 = (double)twice, k = samples > 0 ? 1 - 1.0 / (double)samples : 0;
    double unseen = k * f1 * (f1 - 1) / (2 * (f2 + 1));
    double variance = k * f1 * (f1 - 1) / (2 * (f2 + 1)) +
                      k * k * f1 * (2 * f1 - 1) * (2 * f1 - 1) / (4 * (f2 + 1) * (f2 + 1)) +
                      k * k * f1 * f1 * f2 * (f1 - 1) * (f1 - 1) / (4 * pow(f2 + 1, 4));

    if (twice == 0 && once > 0) {
        variance = k * f1 * (f1 - 1) / 2 + k * f1 * (2 * f1 - 1) * (2 * f1 - 1) / 4 -
                   k * pow(f1, 4) / (4 * ((double)seen + unseen));
    }
    /* Where nothing was met once, a page may still be missed: as many as of equally likely ones. */
    variance += seen > 0 ? (double)seen * exp(-(double)samples / (double)seen) : 0;
    *ret_pages = seen + (uint64_t)(unseen + 0.5);
    *ret_error = (uint64_t)ceil(sqrt(MAX(variance, 0)));
}

static uint64_t next_random(Vcpu *v)
{
    v->random ^= v->random << 13; /* Marsaglia's xorshift64 */
    v->random ^= v->random >> 7;
    v->random ^= v->random << 17;
    return v->random;
}

void fore_pages_vcpu_init(unsigned index)
{
    Vcpu *v = &pages.vcpus[index];

    if (v->tables == NULL) {
        v->random = G_GUINT64_CONSTANT(0x9e3779b97f4a7c15) * (index + 1);
        v->period = PERIOD_MIN;
        __atomic_store_n(&v->tables, g_new0(Table, 2), __ATOMIC_RELEASE);
    }
}

/* The entry of @key, or where it would go. */
static Entry *find(Entry *entries, uint64_t size, uint64_t key)
{
    uint64_t at = ((key * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15)) >> 32) & (size - 1);

    while (entries[at].key != 0 && entries[at].key != key) {
        at = (at + 1) & (size - 1);
    }
    return &entries[at];
}

void fore_pages_add(unsigned index, uint64_t page, uint64_t space)
{
    Vcpu *v = &pages.vcpus[index];
    Table *t = &v->tables[__atomic_load_n(&pages.epoch, __ATOMIC_ACQUIRE) & 1];
    /* Page numbers have 52 bits, spaces are multiples of 4096: folded they rarely meet. */
    uint64_t key = (page ^ (space >> 12) * G_GUINT64_CONSTANT(0xff51afd7ed558ccd)) + 1;

    if (key == 0) {
        return;
    }
    Entry *e = find(t->entries, TABLE, key);
    if (e->key == 0 && t->n >= TABLE_FULL) {
        return;
    }
    t->samples++;
    if (e->key == 0) {
        __atomic_store_n(&e->key, key, __ATOMIC_RELAXED);
        t->n++;
    }
    __atomic_store_n(&e->times, e->times + 1, __ATOMIC_RELAXED);
}

/* Uniform around the period: half to one and a half of it, so no loop keeps in step. */
uint64_t fore_pages_period(unsigned index)
{
    Vcpu *v = &pages.vcpus[index];
    uint64_t period = __atomic_load_n(&v->period, __ATOMIC_RELAXED);

    return period / 2 + next_random(v) % period + 1;
}

/* --- the publishing thread --- */

static void adapt(Vcpu *v, uint64_t samples)
{
    uint64_t period = v->period;

    if (samples > WANT_MAX) {
        period = MIN(period * MAX(samples / WANT_MAX + 1, 2), PERIOD_MAX);
    } else if (samples < WANT_MIN && samples > 0) {
        period = MAX(period / 2, PERIOD_MIN);
    }
    __atomic_store_n(&v->period, period, __ATOMIC_RELAXED);
}

static uint64_t merge(Table *t)
{
    uint64_t met = 0;

    for (unsigned i = 0; i < TABLE; i++) {
        const Entry *from = &t->entries[i];
        Entry *to = from->key != 0 ? find(pages.merged, MERGED, from->key) : NULL;

        if (to == NULL || (to->key == 0 && pages.merged_n >= MERGED_FULL)) {
            continue;
        }
        pages.merged_n += to->key == 0;
        to->key = from->key;
        to->times += from->times;
        met += from->times;
    }
    memset(t, 0, sizeof(*t));
    return met;
}

/* Whether there was anything to merge. */
static bool merge_all(unsigned max_vcpus, uint64_t old, uint64_t *samples)
{
    bool any = false;

    for (unsigned i = 0; i < max_vcpus; i++) {
        Table *tables = __atomic_load_n(&pages.vcpus[i].tables, __ATOMIC_ACQUIRE);
        uint64_t got = tables != NULL ? tables[old].samples : 0;
        if (got > 0) {
            any = true;
            adapt(&pages.vcpus[i], got);
            *samples += merge(&tables[old]);
        }
    }
    return any;
}

void fore_pages_collect(unsigned max_vcpus, ForePageVm *ret)
{
    uint64_t old = pages.epoch & 1, samples = 0, once = 0, twice = 0;

    __atomic_store_n(&pages.epoch, pages.epoch + 1, __ATOMIC_RELEASE);
    if (pages.merged_n > 0) {
        memset(pages.merged, 0, sizeof(pages.merged));
        pages.merged_n = 0;
    }
    bool any = merge_all(max_vcpus, old, &samples);
    for (unsigned i = 0; any && i < MERGED; i++) {
        once += pages.merged[i].times == 1;
        twice += pages.merged[i].times == 2;
    }
    ret->ws_samples = samples;
    ret->ws_seen_pages = pages.merged_n;
    fore_pages_estimate(pages.merged_n, once, twice, samples, &ret->ws_pages, &ret->ws_error_pages);
}

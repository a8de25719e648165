/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What two readings of one profile page say: rates, shares, and the fields of a sample. */
#include "common/fore-page.h"

/* Of one vCPU, or summed over all.  A field whose bit is not in @valid holds no meaning. */
typedef struct {
    uint64_t valid; /* ForePageValid bits real in both readings */
    double seconds; /* plugged vCPU time that it covers */
    /* per second */
    double insns, blocks, loads, stores, syscalls, mmio, space_switches, resumes;
    double branch[FORE_PAGE_BRANCH_N], mix[FORE_PAGE_MIX_N];
    double cycles, exits, exit[FORE_PAGE_EXIT_N];
    /* share of plugged vCPU time, 0..1 */
    double idle, run, wait, halt_poll, halt_wait;
    /* share of instructions, sums to 1; all 0 when nothing ran */
    double signature[FORE_PAGE_SIGNATURE];
} ForePageRates;

/**
 * fore_page_is_reset: counters of @cur do not continue those of @prev
 * True for another boot id, and for any counter that went backwards.
 */
bool fore_page_is_reset(const ForePageSnapshot *prev, const ForePageSnapshot *cur);

/**
 * fore_page_rates: what ran between two readings of one page, summed over vCPUs
 * Each vCPU's part is over the time between its own two publications.
 * @ret: written on success only.  Errors:
 *   FORE_ERROR_UNAVAILABLE  nothing was published between the two (too close, or QEMU hangs or is
 *                           dead), or the counters were reset: there is no rate this time
 *   FORE_ERROR_UNTRUSTED    more than physics allows: over 1e12 events a second, or more idle or
 *                           run time than time passed
 */
bool fore_page_rates(const ForePageSnapshot *prev, const ForePageSnapshot *cur, ForePageRates *ret,
                     GError **error);

/** fore_page_vcpu_rates: the same for vCPU @index, below n_vcpus; UNAVAILABLE also when it is not
 * plugged */
bool fore_page_vcpu_rates(const ForePageSnapshot *prev, const ForePageSnapshot *cur, unsigned index,
                          ForePageRates *ret, GError **error);

/**
 * fore_page_delta: the same as fields of a sample
 * @sample: gets INSNS, LOADS, STORES, SYSCALLS (per second, summed over vCPUs) and IDLE (share of
 *   plugged vCPU time, 0..1) with their valid bits; a field that the page does not measure, and any
 *   of the five on failure, has its bit cleared.  Its other fields, and mono_ns, stay untouched.
 * Errors as of fore_page_rates()
 */
bool fore_page_delta(const ForePageSnapshot *prev, const ForePageSnapshot *cur, ForeSample *sample,
                     GError **error);

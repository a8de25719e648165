/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  The signature has 64 buckets, of which each by itself says little; three sums of
 * its shares with signs that differ by bucket (Walsh functions) tell two phases apart that differ
 * in any large part of the code they run.  Their sum of squares is bounded, so is each: -1..1, and
 * moved to 0..1.
 */
#include "common/fore-page-sample.h"

#include <string.h>

#define PAGE_BYTES 4096.0

static void put(ForeSample *sample, ForeField field, double value)
{
    sample->value[field] = value;
    sample->valid |= 1u << field;
}

static void put_folds(const double *share, ForeSample *sample)
{
    static const unsigned masks[] = {0x15, 0x2a, 0x3f};
    double sum[G_N_ELEMENTS(masks)] = {0}, all = 0.0;

    for (unsigned b = 0; b < FORE_PAGE_SIGNATURE; b++) {
        all += share[b];
        for (unsigned m = 0; m < G_N_ELEMENTS(masks); m++) {
            sum[m] += __builtin_parity(b & masks[m]) != 0 ? -share[b] : share[b];
        }
    }
    for (unsigned m = 0; m < G_N_ELEMENTS(masks) && all > 0.5; m++) {
        put(sample, (ForeField)(FORE_FIELD_SIGNATURE_A + m), CLAMP(0.5 + 0.5 * sum[m], 0.0, 1.0));
    }
}

/* Numbers of x86-64 Linux (arch/x86/entry/syscalls/syscall_64.tbl). */
static bool is_file_call(unsigned nr)
{
    static const uint16_t calls[] = {0,  1,  2,  3,  4,  5,   6,   8,   17,  18,
                                     19, 20, 74, 75, 77, 217, 257, 262, 295, 296};

    for (unsigned i = 0; i < G_N_ELEMENTS(calls); i++) {
        if (calls[i] == nr) {
            return true;
        }
    }
    return false;
}

static bool is_net_call(unsigned nr)
{
    return (nr >= 41 && nr <= 55) || nr == 288 || nr == 299 || nr == 307;
}

static void put_calls(const ForePageVm *prev, const ForePageVm *cur, ForeSample *sample)
{
    double all = 0.0, file = 0.0, net = 0.0;

    for (unsigned nr = 0; nr < FORE_PAGE_SYSCALLS; nr++) {
        double n;

        if (cur->syscall_number[nr] < prev->syscall_number[nr]) {
            return; /* counted anew */
        }
        n = (double)(cur->syscall_number[nr] - prev->syscall_number[nr]);
        all += n;
        file += is_file_call(nr) ? n : 0.0;
        net += is_net_call(nr) ? n : 0.0;
    }
    if (all > 0.0) {
        put(sample, FORE_FIELD_SYSCALL_FILE, file / all);
        put(sample, FORE_FIELD_SYSCALL_NET, net / all);
    }
}

static void put_window(const ForePageSnapshot *cur, uint64_t valid, ForeSample *sample)
{
    const ForePageVm *vm = &cur->vm;

    if (vm->window_ns == 0) {
        return;
    }
    if ((valid & FORE_PAGE_HAS_WORKING_SET) != 0) {
        put(sample, FORE_FIELD_WORKING_SET, PAGE_BYTES * (double)vm->ws_pages);
    }
    if ((valid & FORE_PAGE_HAS_SPACES) != 0 && vm->n_spaces > 0 && vm->space_ns > 0) {
        double share = (double)vm->spaces[0].ns / (double)vm->space_ns;

        put(sample, FORE_FIELD_SPACE_TOP, MIN(share, 1.0));
    }
}

void fore_page_sample(const ForePageSnapshot *prev, const ForePageSnapshot *cur, ForeSample *sample)
{
    const uint32_t fields =
        ((1u << (FORE_FIELD_SIGNATURE_C + 1)) - 1) & ~((1u << FORE_FIELD_MIX_SIMD) - 1);
    ForePageRates rates;
    double all = 0.0;

    sample->valid &= ~fields;
    if (!fore_page_rates(prev, cur, &rates, NULL)) {
        return;
    }
    for (unsigned m = 0; m < FORE_PAGE_MIX_N; m++) {
        all += rates.mix[m];
    }
    if ((rates.valid & FORE_PAGE_HAS_MIX) != 0 && all > 0.0) {
        put(sample, FORE_FIELD_MIX_SIMD, rates.mix[FORE_PAGE_MIX_SIMD_FP] / all);
        put(sample, FORE_FIELD_MIX_STRING, rates.mix[FORE_PAGE_MIX_STRING] / all);
    }
    if ((rates.valid & FORE_PAGE_HAS_SWITCHES) != 0) {
        put(sample, FORE_FIELD_SPACE_SWITCHES, rates.space_switches);
    }
    if ((rates.valid & FORE_PAGE_HAS_SIGNATURE) != 0) {
        put_folds(rates.signature, sample);
    }
    if ((rates.valid & FORE_PAGE_HAS_SYSCALL_NUMBERS) != 0 && strcmp(cur->target, "x86_64") == 0) {
        put_calls(&prev->vm, &cur->vm, sample);
    }
    put_window(cur, rates.valid, sample);
}

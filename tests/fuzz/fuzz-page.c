/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The profile page's reader: any bytes, as a whole page and as two readings of one. */
#include <stdlib.h>
#include <string.h>

#include "common/fore-page-rates.h"

#define NOW (1000000 * FORE_NS_PER_S) /* later than any stamp of the seeds */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a caller may rely on after a page was taken. */
static void check_snapshot(const ForePageSnapshot *snap)
{
    if (snap->n_vcpus < 1 || snap->n_vcpus > FORE_PAGE_MAX_VCPUS ||
        strnlen(snap->uuid, sizeof(snap->uuid)) == sizeof(snap->uuid) ||
        strnlen(snap->target, sizeof(snap->target)) == sizeof(snap->target) ||
        snap->vm.n_spaces > FORE_PAGE_SPACES) {
        abort();
    }
}

static bool is_share(double value)
{
    return value >= 0 && value <= 1.000001;
}

static void check_rates(const ForePageSnapshot *prev, const ForePageSnapshot *cur)
{
    ForePageRates r;
    double sum = 0;

    if (!fore_page_rates(prev, cur, &r, NULL)) {
        return;
    }
    for (int i = 0; i < FORE_PAGE_SIGNATURE; i++) {
        sum += r.signature[i];
    }
    if (!is_share(r.idle) || !is_share(r.run) || !is_share(r.wait) || !is_share(sum) ||
        !(r.insns >= 0 && r.insns <= 1e12) || !(r.seconds > 0)) {
        abort();
    }
}

static void check_delta(const ForePageSnapshot *prev, const ForePageSnapshot *cur)
{
    ForeSample sample = {0};

    if (!fore_page_delta(prev, cur, &sample, NULL)) {
        return;
    }
    for (int f = FORE_FIELD_INSNS; f <= FORE_FIELD_IDLE; f++) {
        if (FORE_HAS(&sample, f) &&
            !(sample.value[f] >= 0 && sample.value[f] <= (f == FORE_FIELD_IDLE ? 1 : 1e12))) {
            abort();
        }
    }
}

/* The input is laid over an empty page: the front of it for one reading, the end for the other. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t first[FORE_PAGE_BYTES], second[FORE_PAGE_BYTES];
    static ForePageSnapshot prev, cur;

    if (fore_page_parse(data, size, NULL, NOW, &prev, NULL)) {
        check_snapshot(&prev);
    }
    memset(first, 0, sizeof(first));
    memcpy(first, data, MIN(size, sizeof(first)));
    memcpy(second, first, sizeof(second));
    if (size > FORE_PAGE_BLOCKS + FORE_PAGE_BLOCK) {
        memcpy(second + FORE_PAGE_BLOCKS, data + size - FORE_PAGE_BLOCK, FORE_PAGE_BLOCK);
    }
    if (fore_page_parse(first, sizeof(first), NULL, NOW, &prev, NULL) &&
        fore_page_parse(second, sizeof(second), NULL, NOW + FORE_NS_PER_S, &cur, NULL)) {
        check_snapshot(&prev);
        check_snapshot(&cur);
        check_rates(&prev, &cur);
        check_delta(&prev, &cur);
    }
    return 0;
}

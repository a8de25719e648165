/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A verifier whose nonces repeat accepts replays (CVE-2026-6420: one was hard-coded). */
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "vtpm/pam/fore-pam-internal.h"

#define N_NONCES 1000000
#define SIZE     32

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, SIZE);
}

static void test_distinct(void)
{
    g_autofree uint8_t *all = g_malloc((gsize)N_NONCES * SIZE);
    unsigned ones = 0;

    for (gsize i = 0; i < N_NONCES; i++) {
        g_assert_true(fore_pam_random(all + i * SIZE, SIZE, NULL));
        for (unsigned k = 0; k < SIZE; k++) {
            ones += (unsigned)__builtin_popcount(all[i * SIZE + k]);
        }
    }
    /* 256e6 fair bits: standard deviation 8000; ten of them */
    g_assert_cmpuint(ones, >, 128000000 - 80000);
    g_assert_cmpuint(ones, <, 128000000 + 80000);
    qsort(all, N_NONCES, SIZE, compare);
    for (gsize i = 1; i < N_NONCES; i++) {
        g_assert_cmpint(compare(all + (i - 1) * SIZE, all + i * SIZE), !=, 0);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/attest/attack/22-a-million-challenges-are-distinct", test_distinct);
    return g_test_run();
}

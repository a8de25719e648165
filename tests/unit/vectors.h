/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Every file of the shared vectors has a row: what is done with it and what must come out.  A table
 * a kind, in a file of its own (vectors-KIND.c); test-vectors.c runs them all and holds them
 * against MANIFEST.tsv, so that a new vector without a row fails.
 */
#include <glib.h>

typedef struct ForeVector ForeVector;
struct ForeVector {
    const char *name; /* below the vectors' folder; with a '*': each that has no row of its own */
    /* NULL: an input of other rows (a trust anchor, an expected decode), named so on purpose */
    void (*check)(const ForeVector *vector, GBytes *bytes);
    const void *param;
};

extern const ForeVector fore_vectors_eventlog[], fore_vectors_ima[], fore_vectors_snp[],
    fore_vectors_spdm[], fore_vectors_quote[], fore_vectors_cert[];
extern const unsigned fore_n_vectors_eventlog, fore_n_vectors_ima, fore_n_vectors_snp,
    fore_n_vectors_spdm, fore_n_vectors_quote, fore_n_vectors_cert;

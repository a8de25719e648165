/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Reads a recording of tools/record-corpus; tests/data/README.md says what is in it. */
#include "common/fore-flow.h"

#define FORE_TEST_SIGNATURE 64 /* buckets */
#define FORE_TEST_VCPUS     4  /* of the guest that was recorded */

/* What the guest did; no forecaster may see it. */
typedef enum { FORE_TEST_PART_IDLE, FORE_TEST_PART_PREPARE, FORE_TEST_PART_RUN } ForeTestPart;

typedef struct {
    const char *kind; /* of job, e.g. "database"; "idle" between jobs; static */
    ForeTestPart part;
    double signature[FORE_TEST_SIGNATURE]; /* shares of the instructions, 0..1, sum about 1 */
} ForeTestSecond;

typedef struct {
    unsigned n;              /* seconds */
    ForeSample *samples;     /* [n], every field that the recording has */
    ForeTestSecond *seconds; /* [n] */
} ForeTestCorpus;

/**
 * fore_test_corpus_new: reads a gzip CSV
 * Errors: FORE_ERROR_INVALID: a column that is missing, a cell that is no number, a row that is
 * cut off; or those of GIO
 */
ForeTestCorpus *fore_test_corpus_new(const char *path, GError **error);
void fore_test_corpus_free(ForeTestCorpus *corpus);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeTestCorpus, fore_test_corpus_free)

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Learns a ForeSeriesModel from the part of recorded traces that lies before their test part: runs
 * the classical members over all of them, keeps stretches of what they said and what then came, and
 * fits the LSTM and the forests to these.  Uses threads, one job each; the result depends on the
 * seed only, not on their number.
 */
#include "forecast/fore-series-model.h"
#include "forecast/fore-split.h"

typedef struct {
    ForeSeriesConfig series; /* targets, levels and window; the rest is each trace's own */
    unsigned hidden;         /* LSTM cells; 0 means 64 */
    unsigned epochs;         /* 0 means 20 */
    unsigned updates;        /* of the weights in an epoch; 0 means 100 */
    unsigned n_tree;         /* of a forest; 0 means 150 */
    size_t rows;             /* steps of all series kept in memory (0.5 KiB each); 0 means 600000 */
    uint64_t seed;
    unsigned threads; /* at least 1 */
} ForeSeriesTrainConfig;

/** ForeSeriesProgress: @done: share of the work, 0..1; @what: the stage; @loss: newest training
 * loss of the network (NAN before).  Called from any thread, one call at a time. Returns: false
 * stops */
typedef bool (*ForeSeriesProgress)(double done, const char *what, double loss, gpointer data);

/**
 * fore_series_train:
 * @traces: (element-type ForeTrace)
 * Errors: FORE_ERROR_INVALID: no series is long enough (64 known samples before the test part)
 * FORE_ERROR_FAILED: @progress stopped it
 */
ForeSeriesModel *fore_series_train(GPtrArray *traces, const ForeSeriesTrainConfig *config,
                                   ForeSeriesProgress progress, gpointer data, GError **error);

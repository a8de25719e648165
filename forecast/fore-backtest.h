/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Forecasts of recorded traces as they would have been made live: every trace is run through a
 * ForeMixture sample by sample, and what it said at the asked moments is written down.  A forecast
 * sees no later sample, by construction.  Threads: one job a trace; the text does not depend on
 * them.
 */
#include "forecast/fore-mixture.h"
#include "forecast/fore-split.h"

typedef struct {
    ForeSeriesConfig series; /* targets, levels, window; the rest is each trace's own */
    uint32_t without;        /* members left out, see ForeMixtureConfig */
    size_t warm;             /* steps before the test part over which weights and coverage learn */
    unsigned threads;
} ForeBacktestConfig;

typedef struct {
    uint64_t forecasts; /* of a series at a moment */
    unsigned series;
    double weight[FORE_MIXTURE_MAX_MEMBER]; /* mean over series at their end */
    double coverage;                        /* of the highest level, mean over series */
    double loss, loss_season; /* over last value's, geometric mean over series, each 0.1..10 */
    unsigned behind;          /* series whose mixture did worse than last value or season lately */
} ForeBacktestReport;

/** fore_backtest_config_default: targets 1, 6, 12 and the peak of 12; levels 0.5, 0.9, 0.95 */
void fore_backtest_series_default(ForeSeriesConfig *ret);

/** ForeBacktestProgress: @done: 0..1; called from any thread, one call at a time; false stops */
typedef bool (*ForeBacktestProgress)(double done, gpointer data);
/**
 * fore_backtest_run:
 * @model: (nullable)
 * @write: one call a trace, in order, with "series,t0,horizon,quantile,value" lines (no header)
 * Returns: false when @progress or @write said so
 */
bool fore_backtest_run(GPtrArray *traces, ForeSeriesModel *model, const ForeBacktestConfig *config,
                       ForeBacktestProgress progress,
                       bool (*write)(const char *text, size_t size, gpointer data), gpointer data,
                       ForeBacktestReport *ret_report);

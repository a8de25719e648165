/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Whether a forecaster has earned its place: its loss and coverage over the last steps beside those
 * of what an operator has without it.  One that falls behind is demoted, and may earn its way back.
 */
#include "forecast/fore-score.h"

#define FORE_JUDGE_STEPS 300 /* the verdict looks at so many scored steps */

typedef enum {
    FORE_RIVAL_LAST,   /* last value with the quantiles of its residuals: the reactive rule */
    FORE_RIVAL_SEASON, /* the same time yesterday, once there was one */
    FORE_RIVAL_N
} ForeRival;
extern const char *const fore_rival_names[FORE_RIVAL_N]; /* "last-value", "seasonal-naive" */

/* One resource over one step, or over many. */
typedef struct {
    float loss, truth;         /* as in ForeScore */
    float rival[FORE_RIVAL_N]; /* loss of each on the same truths */
    uint16_t n, n_covered;     /* truths, and those <= our P95 */
    uint16_t n_rival[FORE_RIVAL_N];
} ForeJudgeStep;

typedef struct {
    double loss, truth, rival[FORE_RIVAL_N];
    double n, n_covered, n_rival[FORE_RIVAL_N];
} ForeJudgeSum;

typedef struct {
    ForeJudgeStep step[FORE_JUDGE_STEPS][FORE_RES_N]; /* ring */
    ForeJudgeSum sum[FORE_RES_N];                     /* of the ring */
    uint64_t n;                                       /* steps judged since the start */
    bool demoted;
    ForeRival behind; /* whom it fell behind, when demoted */
} ForeJudge;

void fore_judge_init(ForeJudge *judge);
/**
 * fore_judge_score: one forecast whose truth has come
 * @step: (inout): [FORE_RES_N], zeroed at the start of a step
 * @ours: [FORE_N_QUANTILE]; @rivals: [FORE_RIVAL_N][FORE_N_QUANTILE], NAN where it had none
 */
void fore_judge_score(ForeJudgeStep *step, ForeResource res, const double *ours,
                      const double rivals[][FORE_N_QUANTILE], double y);
/** fore_judge_step: the scores of one step; updates the verdict */
void fore_judge_step(ForeJudge *judge, const ForeJudgeStep step[FORE_RES_N]);
/** fore_judge_scored: steps that the sums look at, 0..FORE_JUDGE_STEPS */
unsigned fore_judge_scored(const ForeJudge *judge);
/** fore_judge_wql: weighted quantile loss; @rival -1: ours; 0 when there is nothing to tell */
double fore_judge_wql(const ForeJudge *judge, ForeResource res, int rival);
/** fore_judge_coverage95: share of truths <= our P95, 0..1; 1 when empty */
double fore_judge_coverage95(const ForeJudge *judge, ForeResource res);

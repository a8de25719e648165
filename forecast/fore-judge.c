/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  For each rival the mean over resources of (our loss / its loss) is watched, and
 * the worst of these counts.  Behind by DEMOTE_LOSS, or under-covering without a lead in loss:
 * demoted; back when ahead again.  The thresholds differ so that it does not flap.
 *
 * The quantile loss is a proper score and has the P95 in it.  A forecaster that wins by so much as
 * CLEARLY_BETTER is not behind because its P95 is too low for a while, as on a host that has become
 * busier: calibration mends that, and the reactive rule stands below it all the time.
 */
#include "forecast/fore-judge.h"

#include <math.h>
#include <string.h>

#define JUDGE_FROM     120   /* scored steps before a verdict */
#define LEAST_LOSS     0.005 /* of demand: nobody need be better than that */
#define DEMOTE_LOSS    1.10  /* times the rival's loss */
#define RETURN_LOSS    1.00
#define DEMOTE_COVER   0.80 /* of the P95 of the peaks */
#define RETURN_COVER   0.88
#define CLEARLY_BETTER 0.85
#define NOT_CLEARLY    0.95 /* no longer clearly better: coverage counts again */

const char *const fore_rival_names[FORE_RIVAL_N] = {"last-value", "seasonal-naive"};

void fore_judge_init(ForeJudge *judge)
{
    memset(judge, 0, sizeof(*judge));
}

static double mean_pinball(const double *q, double y)
{
    double loss = 0.0;

    for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
        loss += fore_quantile_pinball(q[k], y, fore_quantiles[k]);
    }
    return loss / FORE_N_QUANTILE;
}

void fore_judge_score(ForeJudgeStep *step, ForeResource res, const double *ours,
                      const double rivals[][FORE_N_QUANTILE], double y)
{
    ForeJudgeStep *at = &step[res];
    double loss = mean_pinball(ours, y);

    if (!isfinite(loss)) {
        return;
    }
    at->loss += (float)loss;
    at->truth += (float)fabs(y);
    at->n++;
    at->n_covered += y <= ours[FORE_Q95] ? 1 : 0;
    for (unsigned i = 0; i < FORE_RIVAL_N; i++) {
        double theirs = mean_pinball(rivals[i], y);

        if (isfinite(theirs)) {
            at->rival[i] += (float)theirs;
            at->n_rival[i]++;
        }
    }
}

static void add(ForeJudgeSum *sum, const ForeJudgeStep *step, double sign)
{
    sum->loss += sign * (double)step->loss;
    sum->truth += sign * (double)step->truth;
    sum->n += sign * step->n;
    sum->n_covered += sign * step->n_covered;
    for (unsigned i = 0; i < FORE_RIVAL_N; i++) {
        sum->rival[i] += sign * (double)step->rival[i];
        sum->n_rival[i] += sign * step->n_rival[i];
    }
}

/* From the ring anew, once a round, so that rounding does not add up. */
static void sum_anew(ForeJudge *judge)
{
    memset(judge->sum, 0, sizeof(judge->sum));
    for (unsigned i = 0; i < fore_judge_scored(judge); i++) {
        for (unsigned r = 0; r < FORE_RES_N; r++) {
            add(&judge->sum[r], &judge->step[i][r], 1.0);
        }
    }
}

/* Mean over resources of our loss / that of @rival; 0 when it has not said enough to be compared.
 */
static double ratio_to(const ForeJudge *judge, ForeRival rival)
{
    double ratio = 0.0;
    unsigned n = 0;

    for (unsigned r = 0; r < FORE_RES_N; r++) {
        const ForeJudgeSum *sum = &judge->sum[r];

        /* a rival that was silent for a part would be compared on other truths */
        if (sum->n > 0.0 && sum->truth > 0.0 && sum->n_rival[rival] >= sum->n) {
            ratio += sum->loss / MAX(sum->rival[rival], LEAST_LOSS * sum->truth);
            n++;
        }
    }
    return n > 0 ? ratio / n : 0.0;
}

static void decide(ForeJudge *judge)
{
    double worst = 0.0, cover = 1.0;
    ForeRival who = FORE_RIVAL_LAST;

    for (unsigned i = 0; i < FORE_RIVAL_N; i++) {
        double ratio = ratio_to(judge, (ForeRival)i);

        who = ratio > worst ? (ForeRival)i : who;
        worst = MAX(worst, ratio);
    }
    if (worst <= 0.0) {
        return;
    }
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        cover = MIN(cover, fore_judge_coverage95(judge, (ForeResource)r));
    }
    if (judge->demoted) {
        judge->demoted = !(worst < CLEARLY_BETTER || (worst < RETURN_LOSS && cover > RETURN_COVER));
    } else {
        judge->demoted = worst > DEMOTE_LOSS || (cover < DEMOTE_COVER && worst > NOT_CLEARLY);
        judge->behind = judge->demoted ? who : judge->behind;
    }
}

void fore_judge_step(ForeJudge *judge, const ForeJudgeStep step[FORE_RES_N])
{
    ForeJudgeStep *slot = judge->step[judge->n % FORE_JUDGE_STEPS];

    for (unsigned r = 0; r < FORE_RES_N; r++) {
        if (judge->n >= FORE_JUDGE_STEPS) {
            add(&judge->sum[r], &slot[r], -1.0);
        }
        slot[r] = step[r];
        add(&judge->sum[r], &slot[r], 1.0);
    }
    judge->n++;
    if (judge->n % FORE_JUDGE_STEPS == 0) {
        sum_anew(judge);
    }
    if (judge->n >= JUDGE_FROM) {
        decide(judge);
    }
}

unsigned fore_judge_scored(const ForeJudge *judge)
{
    return (unsigned)MIN(judge->n, FORE_JUDGE_STEPS);
}

double fore_judge_wql(const ForeJudge *judge, ForeResource res, int rival)
{
    const ForeJudgeSum *sum = &judge->sum[res];

    if (sum->truth <= 0.0 || (rival >= 0 && sum->n_rival[rival] < sum->n)) {
        return 0.0;
    }
    return 2.0 * (rival < 0 ? sum->loss : sum->rival[rival]) / sum->truth;
}

double fore_judge_coverage95(const ForeJudge *judge, ForeResource res)
{
    return judge->sum[res].n > 0.0 ? judge->sum[res].n_covered / judge->sum[res].n : 1.0;
}

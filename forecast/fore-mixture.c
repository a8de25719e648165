/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works, for each metric and step:
 *   1. the sample is pushed; the classical members learn and forecast (fore-series);
 *   2. truths that became known score what each member had said, and what the mixture had said:
 *      weights and coverage learn (fore-aggregate, fore-conformal);
 *   3. the LSTM advances its state, the forests look at the same features;
 *   4. all quantiles are averaged by weight on the scale asinh((quantile - last) / scale), where a
 *      spike counts by its logarithm, then stretched for coverage, bounded and put back into units.
 *
 * Invariants: quantiles rise; nothing below 0 nor above 1.5 times the highest value seen; a gap or
 * a NaN moves nothing but the clock; every number that is kept is finite.
 */
#include "forecast/fore-mixture.h"

#include <math.h>
#include <string.h>

#include "forecast/fore-conformal.h"

#define ORIGINS      16 /* forecasts that may wait for their truth, above FORE_SERIES_MAX_LAG */
#define HEADROOM     1.5
#define HEALTH_DECAY (1.0 - 1.0 / 300.0)

typedef struct {
    ForeSeries *series; /* NULL: the VM has no such metric */
    ForeReal *h, *c;    /* [hidden] state of the LSTM */
    ForeAggregate aggregate;
    ForeConformal conformal;
    double *said;          /* [ORIGINS][n_member][n_out] own unit; NAN: asleep */
    double *mixed;         /* [ORIGINS][n_out] own unit, as given out; NAN: nothing was */
    bool waiting[ORIGINS]; /* [origin % ORIGINS]: a forecast was made there */
    double highest;        /* known from elsewhere */
    uint64_t scored;
    double loss, loss_last, loss_season, covered, count; /* discounted sums */
} Stream;

struct ForeMixture {
    ForeMixtureConfig config;
    ForeSeriesModel *model; /* NULL: none */
    unsigned n_member, n_out, median;
    double prior[FORE_MIXTURE_MAX_MEMBER];
    Stream stream[FORE_SERIES_METRICS];
};

const char *fore_mixture_member_name(unsigned member)
{
    static const char *const others[] = {"lstm",    "forest",  "guest-0",
                                         "guest-1", "guest-2", "guest-3"};

    g_assert(member < FORE_MIXTURE_MAX_MEMBER);
    return member < FORE_MEMBER_N ? fore_member_names[member] : others[member - FORE_MEMBER_N];
}

/* Belief before anything was seen: what did well on average on the validation part. */
static void set_priors(ForeMixture *mix)
{
    static const double believed[FORE_MEMBER_N] = {
        [FORE_MEMBER_LAST] = 0.02,
        [FORE_MEMBER_EWMA_FAST] = 0.02,
        [FORE_MEMBER_EWMA] = 0.02,
        [FORE_MEMBER_EWMA_SLOW] = 0.01,
        [FORE_MEMBER_AR] = 0.1,
        [FORE_MEMBER_DAYS] = 0.01,
        [FORE_MEMBER_CYCLE] = 0.01,
        [FORE_MEMBER_YESTERDAY] = 0.01,
        [FORE_MEMBER_SHORT] = 0.01,
        [FORE_MEMBER_MIDDLE] = 0.01,
        [FORE_MEMBER_LONG] = 0.01,
        [FORE_MEMBER_SAME_TIME] = 0.01,
        [FORE_MEMBER_SAME_PHASE] = 0.01,
        [FORE_MEMBER_ANALOGUE] = 0.1,
        [FORE_MEMBER_ANALOGUE_MOVED] = 0.1,
    };
    double sum = 0.0;

    for (unsigned m = 0; m < mix->n_member; m++) {
        double p = m < FORE_MEMBER_N ? believed[m] : 1.0;

        if (m == FORE_MIXTURE_LSTM) {
            p = mix->model != NULL ? 0.4 : 0.0;
        } else if (m == FORE_MIXTURE_FOREST) {
            p = mix->model != NULL ? 1.0 : 0.0;
        } else if (m >= FORE_MIXTURE_GUEST) {
            p = mix->config.guest_prior[m - FORE_MIXTURE_GUEST];
        }
        mix->prior[m] = mix->config.without >> m & 1 ? 0.0 : p;
        sum += mix->prior[m];
    }
    g_assert(sum > 0.0);
}

static void stream_init(ForeMixture *mix, Stream *st, unsigned metric)
{
    ForeSeriesConfig series = mix->config.series;

    series.metric = metric;
    st->series = fore_series_new(&series);
    if (mix->model != NULL) {
        st->h = g_new0(ForeReal, mix->model->shape.hidden);
        st->c = g_new0(ForeReal, mix->model->shape.hidden);
    }
    fore_aggregate_init(&st->aggregate, mix->n_out, mix->n_member, mix->prior);
    st->said = g_new0(double, (size_t)ORIGINS * mix->n_member * mix->n_out);
    st->mixed = g_new0(double, (size_t)ORIGINS * mix->n_out);
}

ForeMixture *fore_mixture_new(const ForeMixtureConfig *config, ForeSeriesModel *model)
{
    ForeMixture *mix = g_new0(ForeMixture, 1);
    const ForeSeriesConfig *s = &config->series;

    g_assert(config->metrics != 0 && config->metrics < 1u << FORE_SERIES_METRICS &&
             config->n_guest <= FORE_MIXTURE_MAX_GUEST);
    mix->config = *config;
    if (model != NULL && fore_series_model_fits(model, s)) {
        mix->model = fore_series_model_ref(model);
    }
    mix->n_member = FORE_MIXTURE_GUEST + config->n_guest;
    mix->n_out = s->n_target * s->n_level;
    for (unsigned q = 1; q < s->n_level; q++) {
        if (fabs(s->level[q] - 0.5) < fabs(s->level[mix->median] - 0.5)) {
            mix->median = q;
        }
    }
    set_priors(mix);
    for (unsigned i = 0; i < FORE_SERIES_METRICS; i++) {
        if (config->metrics >> i & 1) {
            stream_init(mix, &mix->stream[i], i);
        }
    }
    return mix;
}

void fore_mixture_free(ForeMixture *mix)
{
    if (mix == NULL) {
        return;
    }
    for (unsigned i = 0; i < FORE_SERIES_METRICS; i++) {
        Stream *st = &mix->stream[i];

        fore_series_free(st->series);
        fore_aggregate_done(&st->aggregate);
        g_free(st->h);
        g_free(st->c);
        g_free(st->said);
        g_free(st->mixed);
    }
    fore_series_model_unref(mix->model);
    g_free(mix);
}

static double pinball(double q, double y, double tau)
{
    return y >= q ? tau * (y - q) : (tau - 1.0) * (y - q);
}

static void learn_health(const ForeMixture *mix, Stream *st, unsigned t, const double *said,
                         const double *mixed, double truth)
{
    const ForeSeriesConfig *c = &mix->config.series;
    unsigned season = fore_series_day(st->series) > 0 ? FORE_MEMBER_YESTERDAY : FORE_MEMBER_CYCLE;

    st->loss *= HEALTH_DECAY;
    st->loss_last *= HEALTH_DECAY;
    st->loss_season *= HEALTH_DECAY;
    st->covered = HEALTH_DECAY * st->covered + (truth <= mixed[c->n_level - 1] ? 1.0 : 0.0);
    st->count = HEALTH_DECAY * st->count + 1.0;
    st->scored++;
    for (unsigned q = 0; q < c->n_level; q++) {
        size_t slot = (size_t)t * c->n_level + q;

        st->loss += pinball(mixed[q], truth, c->level[q]);
        st->loss_last += pinball(said[FORE_MEMBER_LAST * mix->n_out + slot], truth, c->level[q]);
        st->loss_season += pinball(said[season * mix->n_out + slot], truth, c->level[q]);
    }
}

/* What was said about target @t, whose truth has just become known. */
static void learn_target(const ForeMixture *mix, Stream *st, unsigned t)
{
    const ForeSeriesConfig *c = &mix->config.series;
    unsigned lag = c->target[t].lag;
    uint64_t age = fore_series_age(st->series);
    size_t origin;
    const double *said, *mixed;
    double truth;

    if (age <= lag || !st->waiting[(age - 1 - lag) % ORIGINS]) {
        return;
    }
    truth = fore_series_truth(st->series, t, lag);
    if (isnan(truth)) {
        return;
    }
    origin = (age - 1 - lag) % ORIGINS;
    said = st->said + origin * mix->n_member * mix->n_out;
    mixed = st->mixed + origin * mix->n_out + (size_t)t * c->n_level;
    for (unsigned q = 0; q < c->n_level; q++) {
        unsigned slot = t * c->n_level + q;
        double loss[FORE_MIXTURE_MAX_MEMBER];

        for (unsigned m = 0; m < mix->n_member; m++) {
            double s = said[(size_t)m * mix->n_out + slot];

            loss[m] = isnan(s) ? NAN : pinball(s, truth, c->level[q]);
        }
        fore_aggregate_learn(&st->aggregate, slot, loss, pinball(mixed[q], truth, c->level[q]));
        fore_conformal_learn(&st->conformal, t, q, c->level[q], truth > mixed[q]);
    }
    learn_health(mix, st, t, said, mixed, truth);
}

/* The models' quantiles, own unit; NAN without a model. */
static void ask_models(const ForeMixture *mix, Stream *st, ForeSeries *const *companions,
                       double *lstm, double *forest)
{
    const ForeSeriesConfig *c = &mix->config.series;
    double last = fore_series_last(st->series), scale = fore_series_scale(st->series);
    ForeReal q[FORE_NET_MAX_OUT];
    float x[FORE_SERIES_N_FEATURE], e[FORE_NET_MAX_E];

    if (mix->model == NULL) {
        for (unsigned i = 0; i < mix->n_out; i++) {
            lstm[i] = NAN;
            forest[i] = NAN;
        }
        return;
    }
    fore_series_features(st->series, companions, x);
    fore_series_opinions(st->series, e);
    for (unsigned t = 0; t < c->n_target; t++) {
        const float *opinions = e + (size_t)t * FORE_MEMBER_N * c->n_level;

        fore_series_model_forest(mix->model, t, x, opinions, forest + (size_t)t * c->n_level);
    }
    fore_net_hide(x);
    fore_net_step(&mix->model->shape, mix->model->params, x, e, st->h, st->c, q);
    for (unsigned i = 0; i < mix->n_out; i++) {
        lstm[i] = MAX(last + scale * sinh((double)q[i]), 0.0);
        forest[i] = MAX(last + scale * sinh(forest[i]), 0.0);
    }
}

/* What every member says now goes into @said; a guest that is not all finite is asleep. */
static void collect(const ForeMixture *mix, Stream *st, unsigned metric, const double *guest,
                    double *said, bool *awake)
{
    ForeSeries *companions[FORE_SERIES_METRICS];

    for (unsigned i = 0; i < FORE_SERIES_METRICS; i++) {
        companions[i] = mix->stream[i].series;
    }
    for (unsigned m = 0; m < FORE_MEMBER_N; m++) {
        memcpy(said + (size_t)m * mix->n_out, fore_series_member(st->series, m),
               mix->n_out * sizeof(double));
    }
    ask_models(mix, st, companions, said + FORE_MIXTURE_LSTM * mix->n_out,
               said + FORE_MIXTURE_FOREST * mix->n_out);
    for (unsigned g = 0; g < mix->config.n_guest; g++) {
        double *to = said + (size_t)(FORE_MIXTURE_GUEST + g) * mix->n_out;

        for (unsigned i = 0; i < mix->n_out; i++) {
            size_t from = ((size_t)metric * mix->config.n_guest + g) * mix->n_out + i;

            to[i] = guest != NULL && isfinite(guest[from]) ? MAX(guest[from], 0.0) : NAN;
        }
    }
    for (unsigned m = 0; m < mix->n_member; m++) {
        awake[m] = true;
        for (unsigned i = 0; i < mix->n_out; i++) {
            awake[m] = awake[m] && !isnan(said[(size_t)m * mix->n_out + i]);
        }
    }
}

static void mix_target(const ForeMixture *mix, Stream *st, unsigned t, const double *said,
                       const bool *awake, double *ret)
{
    const ForeSeriesConfig *c = &mix->config.series;
    double last = fore_series_last(st->series), scale = fore_series_scale(st->series);
    double most = HEADROOM * MAX(fore_series_peak(st->series), st->highest);
    double z[FORE_SERIES_MAX_LEVEL], weight[FORE_MIXTURE_MAX_MEMBER];

    for (unsigned q = 0; q < c->n_level; q++) {
        unsigned slot = t * c->n_level + q;

        fore_aggregate_weights(&st->aggregate, slot, awake, weight);
        z[q] = 0.0;
        for (unsigned m = 0; m < mix->n_member; m++) {
            if (weight[m] > 0.0) {
                double v = MIN(said[(size_t)m * mix->n_out + slot], most);

                z[q] += weight[m] * asinh((v - last) / scale);
            }
        }
        z[q] = q > 0 ? MAX(z[q], z[q - 1]) : z[q];
    }
    if (!mix->config.uncorrected) {
        fore_conformal_apply(&st->conformal, t, c->n_level, mix->median, z);
    }
    for (unsigned q = 0; q < c->n_level; q++) {
        ret[q] = CLAMP(last + scale * sinh(CLAMP(z[q], -30.0, 30.0)), 0.0, most);
    }
}

static void step_stream(ForeMixture *mix, unsigned metric, const double *guest, double *ret)
{
    const ForeSeriesConfig *c = &mix->config.series;
    Stream *st = &mix->stream[metric];
    size_t origin = (fore_series_age(st->series) - 1) % ORIGINS;
    double *said = st->said + origin * mix->n_member * mix->n_out;
    double *mixed = st->mixed + origin * mix->n_out;
    bool awake[FORE_MIXTURE_MAX_MEMBER];

    for (unsigned t = 0; t < c->n_target; t++) {
        learn_target(mix, st, t);
    }
    collect(mix, st, metric, guest, said, awake);
    for (unsigned t = 0; t < c->n_target; t++) {
        mix_target(mix, st, t, said, awake, mixed + (size_t)t * c->n_level);
    }
    st->waiting[origin] = true;
    memcpy(ret, mixed, mix->n_out * sizeof(double));
}

void fore_mixture_step(ForeMixture *mix, const double *value, const double *guest, double *ret)
{
    for (unsigned i = 0; i < FORE_SERIES_METRICS; i++) {
        if (mix->stream[i].series != NULL) {
            fore_series_push(mix->stream[i].series, value[i]);
        }
    }
    for (unsigned i = 0; i < FORE_SERIES_METRICS; i++) {
        Stream *st = &mix->stream[i];
        bool ready = st->series != NULL && fore_series_ready(st->series);

        if (ret == NULL) {
            if (ready) {
                st->waiting[(fore_series_age(st->series) - 1) % ORIGINS] = false;
            }
            continue;
        }
        if (ready) {
            step_stream(mix, i, guest, ret + (size_t)i * mix->n_out);
            continue;
        }
        for (unsigned k = 0; k < mix->n_out; k++) {
            ret[(size_t)i * mix->n_out + k] = NAN;
        }
    }
}

void fore_mixture_expect(ForeMixture *mix, unsigned metric, double highest, double loss)
{
    Stream *st = &mix->stream[metric];

    g_assert(metric < FORE_SERIES_METRICS && st->series != NULL);
    st->highest = isfinite(highest) ? MAX(highest, 0.0) : 0.0;
    st->aggregate.expected = isfinite(loss) ? MAX(loss, 0.0) : 0.0;
}

void fore_mixture_restart(ForeMixture *mix)
{
    for (unsigned i = 0; i < FORE_SERIES_METRICS; i++) {
        Stream *st = &mix->stream[i];

        if (st->series == NULL) {
            continue;
        }
        fore_aggregate_done(&st->aggregate);
        fore_aggregate_init(&st->aggregate, mix->n_out, mix->n_member, mix->prior);
        memset(&st->conformal, 0, sizeof(st->conformal));
        memset(st->waiting, 0, sizeof(st->waiting));
        st->scored = 0;
        st->loss = st->loss_last = st->loss_season = st->covered = st->count = 0.0;
    }
}

void fore_mixture_health(const ForeMixture *mix, unsigned metric, ForeMixtureHealth *ret)
{
    const Stream *st = &mix->stream[metric];
    double per = st->count > 0.0 ? 1.0 / (st->count * mix->config.series.n_level) : 0.0;

    g_assert(metric < FORE_SERIES_METRICS && st->series != NULL);
    memset(ret, 0, sizeof(*ret));
    ret->scored = st->scored;
    ret->loss = st->loss * per;
    ret->loss_last = st->loss_last * per;
    ret->loss_season = st->loss_season * per;
    ret->coverage = st->count > 0.0 ? st->covered / st->count : 0.0;
    for (unsigned slot = 0; slot < mix->n_out; slot++) {
        double weight[FORE_MIXTURE_MAX_MEMBER];

        fore_aggregate_weights(&st->aggregate, slot, NULL, weight);
        for (unsigned m = 0; m < mix->n_member; m++) {
            ret->weight[m] += weight[m] / mix->n_out;
        }
    }
}

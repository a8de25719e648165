/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-net.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#ifdef FORE_REAL_DOUBLE
#define gemm     cblas_dgemm
#define gemv     cblas_dgemv
#define exp_of   exp
#define log1p_of log1p
#else
#define gemm     cblas_sgemm
#define gemv     cblas_sgemv
#define exp_of   expf
#define log1p_of log1pf
#endif

#define MAX_Z    7.0  /* asinh of 548 scales */
#define MAX_LOSS 20.0 /* a burst that nothing announced is no lesson */
#define NARROW   2    /* quantiles start close to each other: softplus(-2) = 0.13 */

bool fore_net_shape_is_valid(const ForeNetShape *s)
{
    return s->hidden >= 1 && s->hidden <= FORE_LSTM_MAX_HIDDEN && s->n_target >= 1 &&
           s->n_target <= FORE_SERIES_MAX_TARGET && s->n_level >= 1 &&
           s->n_level <= FORE_SERIES_MAX_LEVEL;
}

ForeLstmShape fore_net_lstm(const ForeNetShape *s)
{
    return (ForeLstmShape){.n_in = FORE_SERIES_N_FEATURE,
                           .n_skip = FORE_SERIES_N_FEATURE,
                           .n_hidden = s->hidden,
                           .n_out = FORE_NET_N_MIX};
}

ForeNetLayout fore_net_layout(const ForeNetShape *s)
{
    ForeLstmShape lstm = fore_net_lstm(s);
    ForeNetLayout at = {.n_out = s->n_target * s->n_level};

    at.n_e = at.n_out * FORE_MEMBER_N;
    at.we = fore_lstm_layout(&lstm).n;
    at.w2 = at.we + (size_t)FORE_NET_N_MIX * at.n_e;
    at.b2 = at.w2 + (size_t)FORE_NET_N_MIX2 * FORE_NET_N_MIX;
    at.w3 = at.b2 + FORE_NET_N_MIX2;
    at.b3 = at.w3 + (size_t)at.n_out * FORE_NET_N_MIX2;
    at.wc = at.b3 + at.n_out;
    at.n = at.wc + (size_t)at.n_out * at.n_e;
    return at;
}

static void fill_uniform(ForeRandom *rng, ForeReal *at, size_t n, double bound)
{
    for (size_t i = 0; i < n; i++) {
        at[i] = (ForeReal)(bound * (2.0 * fore_random_unit(rng) - 1.0));
    }
}

void fore_net_init(const ForeNetShape *shape, ForeRandom *rng, ForeReal *ret)
{
    ForeLstmShape lstm = fore_net_lstm(shape);
    ForeLstmLayout la = fore_lstm_layout(&lstm);
    ForeNetLayout at = fore_net_layout(shape);
    double fan = 1.0 / sqrt((double)shape->hidden + FORE_SERIES_N_FEATURE + at.n_e);

    fore_lstm_init(&lstm, rng, ret);
    fill_uniform(rng, ret + la.wo, la.bo - la.wo, fan);
    fill_uniform(rng, ret + at.we, at.w2 - at.we, fan);
    fill_uniform(rng, ret + at.w2, at.b2 - at.w2, 1.0 / sqrt(FORE_NET_N_MIX));
    fill_uniform(rng, ret + at.w3, at.b3 - at.w3, 1.0 / sqrt(FORE_NET_N_MIX2));
    memset(ret + at.b2, 0, FORE_NET_N_MIX2 * sizeof(ForeReal));
    memset(ret + at.b3, 0, (at.n - at.b3) * sizeof(ForeReal));
}

void fore_net_hide(ForeReal x[FORE_SERIES_N_FEATURE])
{
    /* sine and cosine of the day, weekend, age: see put_calendar() of fore-series-feature.c */
    static const unsigned hidden[] = {56, 57, 60, 62};

    for (unsigned i = 0; i < G_N_ELEMENTS(hidden); i++) {
        x[hidden[i]] = 0;
    }
}

static inline ForeReal softplus(ForeReal z, ForeReal *ret_slope)
{
    ForeReal e = exp_of(z < 0 ? z : -z);

    *ret_slope = (z < 0 ? e : 1) / (1 + e);
    return (z < 0 ? 0 : z) + log1p_of(e);
}

static void relu(ForeReal *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        v[i] = v[i] > 0 ? v[i] : 0;
    }
}

/* v -> quantiles of every target, in place or not. */
static void to_quantiles(const ForeNetShape *s, const ForeReal *v, ForeReal *ret_q)
{
    ForeReal slope;

    for (unsigned t = 0; t < s->n_target; t++) {
        const ForeReal *z = v + (size_t)t * s->n_level;
        ForeReal q = z[0];

        ret_q[t * s->n_level] = CLAMP(q, -20, 20);
        for (unsigned k = 1; k < s->n_level; k++) {
            q += softplus(z[k] - NARROW, &slope);
            ret_q[t * s->n_level + k] = CLAMP(q, -20, 20);
        }
    }
}

void fore_net_step(const ForeNetShape *shape, const ForeReal *params, const ForeReal *x,
                   const ForeReal *e, ForeReal *h, ForeReal *c, ForeReal *ret_q)
{
    ForeLstmShape lstm = fore_net_lstm(shape);
    ForeNetLayout at = fore_net_layout(shape);
    ForeReal scratch[5 * FORE_LSTM_MAX_HIDDEN], z1[FORE_NET_N_MIX], z2[FORE_NET_N_MIX2];
    ForeReal v[FORE_NET_MAX_OUT];
    int n_e = (int)at.n_e, n_out = (int)at.n_out;

    fore_lstm_step(&lstm, params, x, h, c, scratch, z1);
    gemv(CblasRowMajor, CblasNoTrans, FORE_NET_N_MIX, n_e, 1, params + at.we, n_e, e, 1, 1, z1, 1);
    relu(z1, FORE_NET_N_MIX);
    memcpy(z2, params + at.b2, sizeof(z2));
    gemv(CblasRowMajor, CblasNoTrans, FORE_NET_N_MIX2, FORE_NET_N_MIX, 1, params + at.w2,
         FORE_NET_N_MIX, z1, 1, 1, z2, 1);
    relu(z2, FORE_NET_N_MIX2);
    memcpy(v, params + at.b3, at.n_out * sizeof(ForeReal));
    gemv(CblasRowMajor, CblasNoTrans, n_out, FORE_NET_N_MIX2, 1, params + at.w3, FORE_NET_N_MIX2,
         z2, 1, 1, v, 1);
    gemv(CblasRowMajor, CblasNoTrans, n_out, n_e, 1, params + at.wc, n_e, e, 1, 1, v, 1);
    to_quantiles(shape, v, ret_q);
}

ForeNetBatch *fore_net_batch_new(const ForeNetShape *shape, unsigned n_steps, unsigned batch)
{
    ForeLstmShape lstm = fore_net_lstm(shape);
    ForeNetBatch *b = g_new0(ForeNetBatch, 1);

    g_assert(fore_net_shape_is_valid(shape));
    b->shape = *shape;
    b->at = fore_net_layout(shape);
    b->tape = fore_lstm_tape_new(&lstm, n_steps, batch);
    b->rows = (size_t)n_steps * batch;
    b->e = g_new0(ForeReal, b->rows * b->at.n_e);
    b->target = g_new0(ForeReal, b->rows * shape->n_target);
    b->weight = g_new0(ForeReal, b->rows * shape->n_target);
    b->z1 = g_new0(ForeReal, b->rows * FORE_NET_N_MIX);
    b->z2 = g_new0(ForeReal, b->rows * FORE_NET_N_MIX2);
    b->v = g_new0(ForeReal, b->rows * b->at.n_out);
    b->dz1 = g_new0(ForeReal, b->rows * FORE_NET_N_MIX);
    b->dz2 = g_new0(ForeReal, b->rows * FORE_NET_N_MIX2);
    b->dv = g_new0(ForeReal, b->rows * b->at.n_out);
    b->keep1 = g_new0(ForeReal, b->rows * FORE_NET_N_MIX);
    return b;
}

void fore_net_batch_free(ForeNetBatch *b)
{
    if (b == NULL) {
        return;
    }
    fore_lstm_tape_free(b->tape);
    g_free(b->e);
    g_free(b->target);
    g_free(b->weight);
    g_free(b->z1);
    g_free(b->z2);
    g_free(b->v);
    g_free(b->dz1);
    g_free(b->dz2);
    g_free(b->dv);
    g_free(b->keep1);
    g_free(b);
}

/* C (+)= A B^T, A [m][k], B [n][k] */
static void product(size_t m, int n, int k, const ForeReal *a, const ForeReal *b, ForeReal *c)
{
    gemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, n, k, 1, a, k, b, k, 1, c, n);
}

/* dB += dC^T A, dC [m][n], A [m][k] */
static void product_weights(size_t m, int n, int k, const ForeReal *dc, const ForeReal *a,
                            ForeReal *db)
{
    gemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, k, (int)m, 1, dc, n, a, k, 1, db, k);
}

/* dA = dC B */
static void product_inputs(size_t m, int n, int k, const ForeReal *dc, const ForeReal *b,
                           ForeReal *da)
{
    gemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)m, k, n, 1, dc, n, b, k, 0, da, k);
}

static void fill_rows(ForeReal *rows, size_t n_rows, const ForeReal *row, size_t n)
{
    for (size_t r = 0; r < n_rows; r++) {
        memcpy(rows + r * n, row, n * sizeof(ForeReal));
    }
}

static void forward(ForeNetBatch *b, const ForeReal *params, double dropout, ForeRandom *rng)
{
    const ForeNetLayout *at = &b->at;
    int n_e = (int)at->n_e, n_out = (int)at->n_out;
    size_t n1 = b->rows * FORE_NET_N_MIX;
    ForeReal scale = (ForeReal)(1.0 / (1.0 - dropout));

    for (unsigned s = 0; s < b->tape->batch; s++) {
        fore_lstm_tape_reset(b->tape, s);
    }
    fore_lstm_forward(b->tape, params, b->tape->max_steps);
    memcpy(b->z1, b->tape->y, n1 * sizeof(ForeReal));
    product(b->rows, FORE_NET_N_MIX, n_e, b->e, params + at->we, b->z1);
    for (size_t i = 0; i < n1; i++) {
        bool kept = dropout <= 0.0 || fore_random_unit(rng) >= dropout;

        b->keep1[i] = kept && b->z1[i] > 0 ? scale : 0;
        b->z1[i] *= b->keep1[i];
    }
    fill_rows(b->z2, b->rows, params + at->b2, FORE_NET_N_MIX2);
    product(b->rows, FORE_NET_N_MIX2, FORE_NET_N_MIX, b->z1, params + at->w2, b->z2);
    relu(b->z2, b->rows * FORE_NET_N_MIX2);
    fill_rows(b->v, b->rows, params + at->b3, at->n_out);
    product(b->rows, n_out, FORE_NET_N_MIX2, b->z2, params + at->w3, b->v);
    product(b->rows, n_out, n_e, b->e, params + at->wc, b->v);
}

/* Loss of one target, times @factor; @dv gets its gradient. */
static double target_loss(unsigned n_level, const double *level, const ForeReal *v, double y,
                          double weight, double factor, ForeReal *dv)
{
    ForeReal slope[FORE_SERIES_MAX_LEVEL] = {1};
    double z = (double)v[0], tail = 0.0, sum = 0.0;
    double truth = sinh(CLAMP(y, -MAX_Z, MAX_Z));

    for (unsigned k = 0; k < n_level; k++) {
        double q, miss, loss;

        z += k > 0 ? (double)softplus(v[k] - NARROW, &slope[k]) : 0.0;
        q = sinh(CLAMP(z, -MAX_Z, MAX_Z));
        miss = (truth < q ? 1.0 : 0.0) - level[k];
        loss = weight * miss * (q - truth);
        sum += factor * MIN(loss, MAX_LOSS);
        /* d sinh = cosh; nothing pulls beyond the bounds */
        dv[k] = fabs(z) < MAX_Z && loss < MAX_LOSS
                    ? (ForeReal)(factor * weight * miss * sqrt(1.0 + q * q))
                    : 0;
    }
    for (unsigned k = n_level; k-- > 0;) {
        tail += (double)dv[k];
        dv[k] = (ForeReal)(tail * (double)slope[k]);
    }
    return sum;
}

/* Loss over the whole batch; fills b->dv. */
static double losses(ForeNetBatch *b, const double *level, double known)
{
    unsigned n_level = b->shape.n_level;
    double factor = 1.0 / (known * n_level);
    double sum = 0.0;

    for (size_t i = 0; i < b->rows * b->shape.n_target; i++) {
        sum += target_loss(n_level, level, b->v + i * n_level, (double)b->target[i],
                           (double)b->weight[i], factor, b->dv + i * n_level);
    }
    return sum;
}

static void add_columns(ForeReal *sums, const ForeReal *rows, size_t n_rows, size_t n)
{
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t k = 0; k < n; k++) {
            sums[k] += rows[r * n + k];
        }
    }
}

static void backward(ForeNetBatch *b, const ForeReal *params, ForeReal *grad)
{
    const ForeNetLayout *at = &b->at;
    int n_e = (int)at->n_e, n_out = (int)at->n_out;

    product_weights(b->rows, n_out, n_e, b->dv, b->e, grad + at->wc);
    product_weights(b->rows, n_out, FORE_NET_N_MIX2, b->dv, b->z2, grad + at->w3);
    add_columns(grad + at->b3, b->dv, b->rows, at->n_out);
    product_inputs(b->rows, n_out, FORE_NET_N_MIX2, b->dv, params + at->w3, b->dz2);
    for (size_t i = 0; i < b->rows * FORE_NET_N_MIX2; i++) {
        b->dz2[i] = b->z2[i] > 0 ? b->dz2[i] : 0;
    }
    product_weights(b->rows, FORE_NET_N_MIX2, FORE_NET_N_MIX, b->dz2, b->z1, grad + at->w2);
    add_columns(grad + at->b2, b->dz2, b->rows, FORE_NET_N_MIX2);
    product_inputs(b->rows, FORE_NET_N_MIX2, FORE_NET_N_MIX, b->dz2, params + at->w2, b->dz1);
    for (size_t i = 0; i < b->rows * FORE_NET_N_MIX; i++) {
        b->dz1[i] *= b->keep1[i];
    }
    product_weights(b->rows, FORE_NET_N_MIX, n_e, b->dz1, b->e, grad + at->we);
    fore_lstm_backward(b->tape, params, b->tape->max_steps, b->dz1, grad);
}

double fore_net_batch_loss(ForeNetBatch *b, const ForeReal *params, const double *level,
                           double dropout, ForeRandom *rng, ForeReal *grad)
{
    double known = 0.0;
    double loss;

    for (size_t i = 0; i < b->rows * b->shape.n_target; i++) {
        known += b->weight[i] > 0 ? 1.0 : 0.0;
    }
    if (known <= 0.0) {
        return 0.0;
    }
    forward(b, params, dropout, rng);
    loss = losses(b, level, known);
    if (grad != NULL) {
        backward(b, params, grad);
    }
    return loss;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The neural member over all series: an LSTM over the features of each step, whose state is carried
 * per series, and a head that also sees the quantiles of every classical member ("opinions"), so it
 * learns when to believe whom.
 *
 *   h_t, c_t = LSTM(x_t, h_{t-1}, c_{t-1})
 *   z1 = relu(Wo h_t + Ws x_t + We e_t + bo)           [n_mix]
 *   z2 = relu(W2 z1 + b2)                              [n_mix / 2]
 *   v  = W3 z2 + Wc e_t + b3                           [n_target][n_level]
 *   q_0 = v_0,  q_k = q_{k-1} + softplus(v_k - 2)      cannot cross
 *
 * q is asinh((quantile - last) / scale): see fore_series_opinions().
 */
#include "forecast/fore-lstm.h"
#include "forecast/fore-series.h"

#define FORE_NET_N_MIX   128
#define FORE_NET_N_MIX2  (FORE_NET_N_MIX / 2)
#define FORE_NET_MAX_OUT (FORE_SERIES_MAX_TARGET * FORE_SERIES_MAX_LEVEL)
#define FORE_NET_MAX_E   (FORE_NET_MAX_OUT * FORE_MEMBER_N)

typedef struct {
    unsigned hidden; /* LSTM cells, 1..FORE_LSTM_MAX_HIDDEN */
    unsigned n_target, n_level;
} ForeNetShape;

/* Where the parts of the flat parameter vector begin; row-major; the LSTM's own part comes first.
 */
typedef struct {
    size_t we; /* [N_MIX][n_e] */
    size_t w2; /* [N_MIX2][N_MIX] */
    size_t b2; /* [N_MIX2] */
    size_t w3; /* [n_out][N_MIX2] */
    size_t b3; /* [n_out] */
    size_t wc; /* [n_out][n_e] */
    size_t n;
    unsigned n_out, n_e;
} ForeNetLayout;

bool fore_net_shape_is_valid(const ForeNetShape *shape);
ForeLstmShape fore_net_lstm(const ForeNetShape *shape);
ForeNetLayout fore_net_layout(const ForeNetShape *shape);
/** fore_net_init: random start; @ret: [layout.n] */
void fore_net_init(const ForeNetShape *shape, ForeRandom *rng, ForeReal *ret);

/** fore_net_hide: the features that only say where in a recording we are, set to zero in @x: a
 * network would extrapolate from them */
void fore_net_hide(ForeReal x[FORE_SERIES_N_FEATURE]);

/**
 * fore_net_step: one step of one series
 * @x: [FORE_SERIES_N_FEATURE], hidden features zero; @e: [layout.n_e]
 * @h, @c: (inout): [hidden], zero at the start
 * @ret_q: (out caller-allocates): [n_out], rising in the level, each within -20..20
 */
void fore_net_step(const ForeNetShape *shape, const ForeReal *params, const ForeReal *x,
                   const ForeReal *e, ForeReal *h, ForeReal *c, ForeReal *ret_q);

/* A batch of segments for training. */
typedef struct {
    ForeNetShape shape;
    ForeNetLayout at;
    ForeLstmTape *tape; /* tape->x is the caller's to fill */
    size_t rows;        /* steps * batch, in the order [step][batch] */
    ForeReal *e;        /* [rows][n_e], filled by the caller */
    ForeReal *target;   /* [rows][n_target], filled by the caller */
    ForeReal *weight;   /* [rows][n_target], 0 where the truth is not known; else what an error of
                           one scale costs: above 1 where the series is livelier than usual */
    ForeReal *z1, *z2, *v;
    ForeReal *dz1, *dz2, *dv;
    ForeReal *keep1; /* [rows][N_MIX]: 0 or 1 / (1 - dropout) */
} ForeNetBatch;

ForeNetBatch *fore_net_batch_new(const ForeNetShape *shape, unsigned n_steps, unsigned batch);
void fore_net_batch_free(ForeNetBatch *batch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeNetBatch, fore_net_batch_free)
/**
 * fore_net_batch_loss: forward from a zero state; pinball loss in units of the series (not of its
 * logarithm), each error counted as at most 20, mean over known truths and levels
 * @level: [n_level]
 * @dropout: share of the first hidden layer left out, 0..1 (0: none)
 * @grad: (nullable) (inout): [layout.n], gradient added
 */
double fore_net_batch_loss(ForeNetBatch *batch, const ForeReal *params, const double *level,
                           double dropout, ForeRandom *rng, ForeReal *grad);

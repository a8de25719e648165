/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The quantile head: groups of FORE_N_QUANTILE raw outputs become quantiles that cannot cross, and
 * the pinball loss they are trained on.
 *
 *   q_0 = z_0,  q_k = q_{k-1} + softplus(z_k)
 *   pinball(q, y; tau) = max(tau (y - q), (tau - 1) (y - q))     Koenker and Bassett, Econometrica
 * 46, 1978
 *
 * One group is one (resource, kind, horizon); kind is point or peak, see ForeForecast.
 */
#include "common/fore-flow.h"
#include "forecast/fore-lstm.h"

typedef enum { FORE_KIND_POINT, FORE_KIND_PEAK, FORE_KIND_N } ForeKind;

#define FORE_N_GROUP (FORE_RES_N * FORE_KIND_N * FORE_N_HORIZON)
/* index of a group; groups of one resource are contiguous */
#define FORE_GROUP(res, kind, h) (((unsigned)(res)*FORE_KIND_N + (kind)) * FORE_N_HORIZON + (h))

/** fore_quantile_from_raw: @raw, @ret_q: [n_groups][FORE_N_QUANTILE]; may alias */
void fore_quantile_from_raw(const ForeReal *raw, size_t n_groups, ForeReal *ret_q);

/**
 * fore_quantile_to_raw: raw outputs that give one group these quantiles
 * @q: [FORE_N_QUANTILE], rising; gaps below 1e-3 are widened to 1e-3
 */
void fore_quantile_to_raw(const double *q, ForeReal *ret_raw);

/** fore_quantile_pinball: loss of forecast @q at level @tau (0..1) when @y came; unit of @y, >= 0
 */
double fore_quantile_pinball(double q, double y, double tau);

/**
 * fore_quantile_loss: pinball loss summed over quantiles and groups
 * @raw: [n_groups][FORE_N_QUANTILE]
 * @target: [n_groups]; @weight: [n_groups], 0 where the truth is not known
 * @grad_factor: the gradient is multiplied by this
 * @ret_grad: (out caller-allocates) (nullable): [n_groups][FORE_N_QUANTILE], d loss / d raw
 */
double fore_quantile_loss(const ForeReal *raw, const ForeReal *target, const ForeReal *weight,
                          size_t n_groups, double grad_factor, ForeReal *ret_grad);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Adam with decoupled weight decay, gradient clipping, and a running average of the weights.
 * Kingma and Ba, ICLR 2015, algorithm 1; Loshchilov and Hutter, ICLR 2019, algorithm 2; the
 * average: Polyak and Juditsky, SIAM J. Control 30(4), 1992, with exponential forgetting.
 */
#include "forecast/fore-lstm.h"

typedef struct {
    size_t n;         /* parameters */
    ForeReal *m, *v;  /* [n] first and second moment */
    ForeReal *mean;   /* [n] averaged weights: what is validated and kept */
    uint64_t t;       /* steps taken */
    double decay;     /* weight decay per unit of learning rate, 0.. */
    double clip;      /* largest Euclidean norm of a gradient, > 0 */
    double averaging; /* forgetting of the average, 0 (none) to below 1 */
} ForeAdam;

ForeAdam *fore_adam_new(size_t n);
void fore_adam_free(ForeAdam *adam);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeAdam, fore_adam_free)

/**
 * fore_adam_step: one update
 * @params: (inout): [n]; @grad: [n], clipped in place
 * @rate: learning rate, > 0
 * Returns: false when the gradient is not finite; nothing was changed then
 */
bool fore_adam_step(ForeAdam *adam, ForeReal *params, ForeReal *grad, double rate);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One LSTM layer and a linear output layer on cblas: a step for live use, and forward with
 * back-propagation through time over a batch for training.  All parameters are one flat vector, so
 * that the optimiser, the weights file and the gradient check need not know what they mean.
 *
 *   a_t = Wx x_t + Wh h_{t-1} + b          a = (a_i, a_f, a_g, a_o), each [n_hidden]
 *   i,f,o = sigmoid(a_i, a_f, a_o)         g = tanh(a_g)
 *   c_t = f c_{t-1} + i g                  h_t = o tanh(c_t)
 *   y_t = Wo h_t + Ws x_t[0..n_skip) + bo
 *
 * Hochreiter and Schmidhuber, Neural Computation 9(8), 1997; forget gate: Gers et al., 2000.
 * Thread safe: no state outside the arguments, except that OpenBLAS is told once to use one thread.
 */
#include <glib.h>
#include <stdbool.h>

#include "forecast/fore-random.h"

/* Single precision; the gradient tests build the same sources in double precision. */
#ifdef FORE_REAL_DOUBLE
typedef double ForeReal;
#else
typedef float ForeReal;
#endif

#define FORE_LSTM_MAX_IN     256
#define FORE_LSTM_MAX_HIDDEN 512
#define FORE_LSTM_MAX_OUT    1024

typedef struct {
    unsigned n_in;     /* inputs a step, 1..FORE_LSTM_MAX_IN */
    unsigned n_skip;   /* the first n_skip inputs reach the output layer directly, 0..n_in */
    unsigned n_hidden; /* cells, 1..FORE_LSTM_MAX_HIDDEN */
    unsigned n_out;    /* outputs a step, 1..FORE_LSTM_MAX_OUT */
} ForeLstmShape;

/* Where the parts of a flat parameter (or gradient) vector begin; all row-major. */
typedef struct {
    size_t wx; /* [4 n_hidden][n_in] */
    size_t wh; /* [4 n_hidden][n_hidden] */
    size_t b;  /* [4 n_hidden] */
    size_t wo; /* [n_out][n_hidden] */
    size_t ws; /* [n_out][n_skip] */
    size_t bo; /* [n_out] */
    size_t n;  /* length of the whole vector */
} ForeLstmLayout;

bool fore_lstm_shape_is_valid(const ForeLstmShape *shape);
ForeLstmLayout fore_lstm_layout(const ForeLstmShape *shape);

/**
 * fore_lstm_init: random start: uniform +-1/sqrt(fan in), forget bias 1, output layer small, bo
 * zero
 * @ret_params: (out caller-allocates): [layout.n]
 */
void fore_lstm_init(const ForeLstmShape *shape, ForeRandom *rng, ForeReal *ret_params);

/**
 * fore_lstm_step: one step of one VM
 * @params: [layout.n]; @x: [n_in], scaled
 * @h, @c: (inout): [n_hidden] state, zero at the start
 * @scratch: [5 n_hidden], contents meaningless before and after
 * @ret_y: (out caller-allocates): [n_out]
 */
void fore_lstm_step(const ForeLstmShape *shape, const ForeReal *params, const ForeReal *x,
                    ForeReal *h, ForeReal *c, ForeReal *scratch, ForeReal *ret_y);

/**
 * fore_lstm_step_batch: one step of @n VMs as matrix products; the same network, so the same
 * numbers but for the order in which products are summed
 * @x: [n][n_in]; @h, @c: (inout): [n][n_hidden]; @scratch: [n][5 n_hidden]
 * @ret_y: (out caller-allocates): [n][n_out]
 */
void fore_lstm_step_batch(const ForeLstmShape *shape, const ForeReal *params, unsigned n,
                          const ForeReal *x, ForeReal *h, ForeReal *c, ForeReal *scratch,
                          ForeReal *ret_y);

/*
 * What a forward pass leaves behind for the backward pass: [step][stream][...], row-major.
 * The state before step 0 is kept, so that consecutive chunks of the same streams may follow each
 * other.
 */
typedef struct {
    ForeLstmShape shape;
    unsigned max_steps, batch;
    ForeReal *x;     /* [max_steps][batch][n_in], filled by the caller */
    ForeReal *gates; /* [max_steps][batch][4 n_hidden], activated; the gradient after backward */
    ForeReal *c;     /* [max_steps + 1][batch][n_hidden] */
    ForeReal *h;     /* [max_steps + 1][batch][n_hidden] */
    ForeReal *tc;    /* [max_steps][batch][n_hidden], tanh(c) */
    ForeReal *y;     /* [max_steps][batch][n_out] */
    ForeReal *carry; /* [2][batch][n_hidden]: dh and dc handed from a step to the one before */
} ForeLstmTape;

ForeLstmTape *fore_lstm_tape_new(const ForeLstmShape *shape, unsigned max_steps, unsigned batch);
void fore_lstm_tape_free(ForeLstmTape *tape);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeLstmTape, fore_lstm_tape_free)
/** fore_lstm_tape_reset: zero state for stream @stream (below tape->batch) */
void fore_lstm_tape_reset(ForeLstmTape *tape, unsigned stream);
/** fore_lstm_tape_carry: the state after @n_steps becomes the state before step 0 */
void fore_lstm_tape_carry(ForeLstmTape *tape, unsigned n_steps);

/** fore_lstm_forward: fills tape->y for @n_steps (1..max_steps) from tape->x and the state kept */
void fore_lstm_forward(ForeLstmTape *tape, const ForeReal *params, unsigned n_steps);
/**
 * fore_lstm_backward: gradient of the loss by all parameters, truncated at step 0 of this tape
 * @dy: [n_steps][batch][n_out]: gradient of the loss by tape->y
 * @grad: (inout): [layout.n], added to
 */
void fore_lstm_backward(ForeLstmTape *tape, const ForeReal *params, unsigned n_steps,
                        const ForeReal *dy, ForeReal *grad);

/**
 * fore_lstm_forward_from, fore_lstm_backward_from: the same with outputs from step @first_out
 * (0..n_steps-1) on only: rows of tape->y and @dy before it are neither written nor read
 */
void fore_lstm_forward_from(ForeLstmTape *tape, const ForeReal *params, unsigned n_steps,
                            unsigned first_out);
void fore_lstm_backward_from(ForeLstmTape *tape, const ForeReal *params, unsigned n_steps,
                             unsigned first_out, const ForeReal *dy, ForeReal *grad);

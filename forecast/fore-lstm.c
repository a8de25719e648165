/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Goal: few, large matrix products.  What does not depend on the previous step (Wx
 * x, the output layer, and in the backward pass every weight gradient) is one product over all
 * steps and streams; only Wh h and its transpose run step by step.  The loops over cells are
 * contiguous and branch free, so the compiler vectorises them; that is why tanh is a rational
 * function here and not libm's.
 *
 * Limits: one layer.  The gradient does not flow past step 0 of a tape (truncated BPTT); the state
 * does. Left out: dropout inside the cell (the training streams drop whole groups of inputs, which
 * is what a VM really does to us), peepholes.
 */
#include "forecast/fore-lstm.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#ifdef FORE_REAL_DOUBLE
#define gemm cblas_dgemm
#define gemv cblas_dgemv
#else
#define gemm cblas_sgemm
#define gemv cblas_sgemv
#endif

/* One core serves many VMs, and a product this small loses by being shared between threads. */
static void blas_use_one_thread(void)
{
    static gsize once;

    if (g_once_init_enter(&once)) {
        openblas_set_num_threads(1);
        g_once_init_leave(&once, 1);
    }
}

#ifdef FORE_REAL_DOUBLE
static inline ForeReal tanh_of(ForeReal x)
{
    return tanh(x);
}
#else
/*
 * Minimax rational approximation of degree 13/6 on |x| < 7.9, where single precision tanh reaches
 * 1; the coefficients are those of Eigen's generic_fast_tanh_float.  test-lstm measures its error
 * against libm.
 */
static inline ForeReal tanh_of(ForeReal x)
{
    const float end = 7.90531110763549805f;
    float low = x < -end ? -end : x; /* not fmaxf(): a call would keep the loop scalar */
    float v = low > end ? end : low;
    float v2 = v * v;
    float p = -2.76076847742355e-16f;
    float q = 1.19825839466702e-06f;

    p = p * v2 + 2.00018790482477e-13f;
    p = p * v2 - 8.60467152213735e-11f;
    p = p * v2 + 5.12229709037114e-08f;
    p = p * v2 + 1.48572235717979e-05f;
    p = p * v2 + 6.37261928875436e-04f;
    p = p * v2 + 4.89352455891786e-03f;
    q = q * v2 + 1.18534705686654e-04f;
    q = q * v2 + 2.26843463243900e-03f;
    q = q * v2 + 4.89352518554385e-03f;
    return v * p / q;
}
#endif

static inline ForeReal sigmoid_of(ForeReal x)
{
    return (ForeReal)0.5 + (ForeReal)0.5 * tanh_of((ForeReal)0.5 * x);
}

bool fore_lstm_shape_is_valid(const ForeLstmShape *shape)
{
    return shape->n_in >= 1 && shape->n_in <= FORE_LSTM_MAX_IN && shape->n_skip <= shape->n_in &&
           shape->n_hidden >= 1 && shape->n_hidden <= FORE_LSTM_MAX_HIDDEN && shape->n_out >= 1 &&
           shape->n_out <= FORE_LSTM_MAX_OUT;
}

ForeLstmLayout fore_lstm_layout(const ForeLstmShape *shape)
{
    size_t n4 = 4 * (size_t)shape->n_hidden;
    ForeLstmLayout at = {.wx = 0};

    at.wh = at.wx + n4 * shape->n_in;
    at.b = at.wh + n4 * shape->n_hidden;
    at.wo = at.b + n4;
    at.ws = at.wo + (size_t)shape->n_out * shape->n_hidden;
    at.bo = at.ws + (size_t)shape->n_out * shape->n_skip;
    at.n = at.bo + shape->n_out;
    return at;
}

static void fill_uniform(ForeRandom *rng, ForeReal *at, size_t n, double bound)
{
    for (size_t i = 0; i < n; i++) {
        at[i] = (ForeReal)(bound * (2.0 * fore_random_unit(rng) - 1.0));
    }
}

void fore_lstm_init(const ForeLstmShape *shape, ForeRandom *rng, ForeReal *ret_params)
{
    ForeLstmLayout at = fore_lstm_layout(shape);
    unsigned n_hidden = shape->n_hidden;

    fill_uniform(rng, ret_params + at.wx, at.wh - at.wx, 1.0 / sqrt(shape->n_in));
    fill_uniform(rng, ret_params + at.wh, at.b - at.wh, 1.0 / sqrt(n_hidden));
    memset(ret_params + at.b, 0, (at.wo - at.b) * sizeof(ForeReal));
    for (unsigned k = 0; k < n_hidden; k++) {
        ret_params[at.b + n_hidden + k] = 1;
    }
    fill_uniform(rng, ret_params + at.wo, at.ws - at.wo, 0.1 / sqrt(n_hidden));
    memset(ret_params + at.ws, 0, (at.n - at.ws) * sizeof(ForeReal));
}

/* Activates one row of pre-activations in place and advances the state: c, tanh(c), h, all
 * [n_hidden]. */
static void cell_forward(unsigned n_hidden, ForeReal *restrict gates, const ForeReal *c_prev,
                         ForeReal *c, ForeReal *tc, ForeReal *h)
{
    ForeReal *restrict i = gates;
    ForeReal *restrict f = gates + n_hidden;
    ForeReal *restrict g = gates + 2 * (size_t)n_hidden;
    ForeReal *restrict o = gates + 3 * (size_t)n_hidden;

    for (unsigned k = 0; k < n_hidden; k++) {
        i[k] = sigmoid_of(i[k]);
        f[k] = sigmoid_of(f[k]);
        g[k] = tanh_of(g[k]);
        o[k] = sigmoid_of(o[k]);
    }
    for (unsigned k = 0; k < n_hidden; k++) {
        c[k] = f[k] * c_prev[k] + i[k] * g[k];
    }
    for (unsigned k = 0; k < n_hidden; k++) {
        tc[k] = tanh_of(c[k]);
        h[k] = o[k] * tc[k];
    }
}

void fore_lstm_step(const ForeLstmShape *shape, const ForeReal *params, const ForeReal *x,
                    ForeReal *h, ForeReal *c, ForeReal *scratch, ForeReal *ret_y)
{
    ForeLstmLayout at = fore_lstm_layout(shape);
    int n4 = 4 * (int)shape->n_hidden;
    int n_h = (int)shape->n_hidden;
    int n_out = (int)shape->n_out;

    blas_use_one_thread();
    memcpy(scratch, params + at.b, (size_t)n4 * sizeof(ForeReal));
    gemv(CblasRowMajor, CblasNoTrans, n4, (int)shape->n_in, 1, params + at.wx, (int)shape->n_in, x,
         1, 1, scratch, 1);
    gemv(CblasRowMajor, CblasNoTrans, n4, n_h, 1, params + at.wh, n_h, h, 1, 1, scratch, 1);
    cell_forward(shape->n_hidden, scratch, c, c, scratch + n4, h);
    memcpy(ret_y, params + at.bo, (size_t)n_out * sizeof(ForeReal));
    gemv(CblasRowMajor, CblasNoTrans, n_out, n_h, 1, params + at.wo, n_h, h, 1, 1, ret_y, 1);
    if (shape->n_skip > 0) {
        gemv(CblasRowMajor, CblasNoTrans, n_out, (int)shape->n_skip, 1, params + at.ws,
             (int)shape->n_skip, x, 1, 1, ret_y, 1);
    }
}

ForeLstmTape *fore_lstm_tape_new(const ForeLstmShape *shape, unsigned max_steps, unsigned batch)
{
    ForeLstmTape *tape = g_new0(ForeLstmTape, 1);
    size_t rows = (size_t)max_steps * batch;
    size_t n_h = shape->n_hidden;

    g_assert(fore_lstm_shape_is_valid(shape) && max_steps > 0 && batch > 0);
    blas_use_one_thread();
    tape->shape = *shape;
    tape->max_steps = max_steps;
    tape->batch = batch;
    tape->x = g_new0(ForeReal, rows * shape->n_in);
    tape->gates = g_new0(ForeReal, rows * 4 * n_h);
    tape->c = g_new0(ForeReal, (rows + batch) * n_h);
    tape->h = g_new0(ForeReal, (rows + batch) * n_h);
    tape->tc = g_new0(ForeReal, rows * n_h);
    tape->y = g_new0(ForeReal, rows * shape->n_out);
    tape->dh = g_new0(ForeReal, rows * n_h);
    tape->carry = g_new0(ForeReal, 2 * batch * n_h);
    return tape;
}

void fore_lstm_tape_free(ForeLstmTape *tape)
{
    if (tape == NULL) {
        return;
    }
    g_free(tape->x);
    g_free(tape->gates);
    g_free(tape->c);
    g_free(tape->h);
    g_free(tape->tc);
    g_free(tape->y);
    g_free(tape->dh);
    g_free(tape->carry);
    g_free(tape);
}

void fore_lstm_tape_reset(ForeLstmTape *tape, unsigned stream)
{
    size_t n_h = tape->shape.n_hidden;

    memset(tape->c + stream * n_h, 0, n_h * sizeof(ForeReal));
    memset(tape->h + stream * n_h, 0, n_h * sizeof(ForeReal));
}

void fore_lstm_tape_carry(ForeLstmTape *tape, unsigned n_steps)
{
    size_t n = (size_t)tape->batch * tape->shape.n_hidden;

    memmove(tape->c, tape->c + n_steps * n, n * sizeof(ForeReal));
    memmove(tape->h, tape->h + n_steps * n, n * sizeof(ForeReal));
}

static void fill_rows(ForeReal *rows, size_t n_rows, const ForeReal *row, size_t n)
{
    for (size_t r = 0; r < n_rows; r++) {
        memcpy(rows + r * n, row, n * sizeof(ForeReal));
    }
}

void fore_lstm_forward(ForeLstmTape *tape, const ForeReal *params, unsigned n_steps)
{
    const ForeLstmShape *shape = &tape->shape;
    ForeLstmLayout at = fore_lstm_layout(shape);
    int n_h = (int)shape->n_hidden, n4 = 4 * n_h, n_in = (int)shape->n_in;
    int n_out = (int)shape->n_out, n_skip = (int)shape->n_skip, batch = (int)tape->batch;
    int rows = (int)(n_steps * tape->batch);
    size_t step_h = (size_t)batch * (size_t)n_h;

    fill_rows(tape->gates, (size_t)rows, params + at.b, (size_t)n4);
    gemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n4, n_in, 1, tape->x, n_in, params + at.wx,
         n_in, 1, tape->gates, n4);
    for (unsigned t = 0; t < n_steps; t++) {
        ForeReal *gates = tape->gates + 4 * t * step_h;

        gemm(CblasRowMajor, CblasNoTrans, CblasTrans, batch, n4, n_h, 1, tape->h + t * step_h, n_h,
             params + at.wh, n_h, 1, gates, n4);
        for (size_t b = 0; b < tape->batch; b++) {
            size_t row = t * step_h + b * (size_t)n_h;

            cell_forward(shape->n_hidden, tape->gates + 4 * row, tape->c + row,
                         tape->c + row + step_h, tape->tc + row, tape->h + row + step_h);
        }
    }
    fill_rows(tape->y, (size_t)rows, params + at.bo, (size_t)n_out);
    gemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n_out, n_h, 1, tape->h + step_h, n_h,
         params + at.wo, n_h, 1, tape->y, n_out);
    if (n_skip > 0) {
        gemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n_out, n_skip, 1, tape->x, n_in,
             params + at.ws, n_skip, 1, tape->y, n_out);
    }
}

/*
 * One row backwards.  In: gates activated, dh of the outputs, dh_next and dc_next from the step
 * after. Out: gates replaced by the gradient of their pre-activations, dc_next by that of c_prev.
 */
static void cell_backward(unsigned n_hidden, ForeReal *restrict gates,
                          const ForeReal *restrict c_prev, const ForeReal *restrict tc,
                          const ForeReal *restrict dh_out, const ForeReal *restrict dh_next,
                          ForeReal *restrict dc_next)
{
    ForeReal *restrict gi = gates;
    ForeReal *restrict gf = gates + n_hidden;
    ForeReal *restrict gg = gates + 2 * (size_t)n_hidden;
    ForeReal *restrict go = gates + 3 * (size_t)n_hidden;

    for (unsigned k = 0; k < n_hidden; k++) {
        ForeReal i = gi[k], f = gf[k], g = gg[k], o = go[k];
        ForeReal dh = dh_out[k] + dh_next[k];
        ForeReal dc = dh * o * (1 - tc[k] * tc[k]) + dc_next[k];

        gi[k] = dc * g * i * (1 - i);
        gf[k] = dc * c_prev[k] * f * (1 - f);
        gg[k] = dc * i * (1 - g * g);
        go[k] = dh * tc[k] * o * (1 - o);
        dc_next[k] = dc * f;
    }
}

static void add_column_sums(ForeReal *restrict sums, const ForeReal *restrict rows, size_t n_rows,
                            size_t n)
{
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t k = 0; k < n; k++) {
            sums[k] += rows[r * n + k];
        }
    }
}

/* All gradients of weights, each one product over every step and stream. */
static void add_weight_gradients(const ForeLstmTape *tape, unsigned n_steps, const ForeReal *dy,
                                 ForeReal *grad)
{
    const ForeLstmShape *shape = &tape->shape;
    ForeLstmLayout at = fore_lstm_layout(shape);
    int n_h = (int)shape->n_hidden, n4 = 4 * n_h, n_in = (int)shape->n_in;
    int n_out = (int)shape->n_out, n_skip = (int)shape->n_skip;
    int rows = (int)(n_steps * tape->batch);
    size_t step_h = (size_t)tape->batch * (size_t)n_h;

    gemm(CblasRowMajor, CblasTrans, CblasNoTrans, n4, n_in, rows, 1, tape->gates, n4, tape->x, n_in,
         1, grad + at.wx, n_in);
    gemm(CblasRowMajor, CblasTrans, CblasNoTrans, n4, n_h, rows, 1, tape->gates, n4, tape->h, n_h,
         1, grad + at.wh, n_h);
    gemm(CblasRowMajor, CblasTrans, CblasNoTrans, n_out, n_h, rows, 1, dy, n_out, tape->h + step_h,
         n_h, 1, grad + at.wo, n_h);
    if (n_skip > 0) {
        gemm(CblasRowMajor, CblasTrans, CblasNoTrans, n_out, n_skip, rows, 1, dy, n_out, tape->x,
             n_in, 1, grad + at.ws, n_skip);
    }
    add_column_sums(grad + at.b, tape->gates, (size_t)rows, (size_t)n4);
    add_column_sums(grad + at.bo, dy, (size_t)rows, (size_t)n_out);
}

void fore_lstm_backward(ForeLstmTape *tape, const ForeReal *params, unsigned n_steps,
                        const ForeReal *dy, ForeReal *grad)
{
    const ForeLstmShape *shape = &tape->shape;
    ForeLstmLayout at = fore_lstm_layout(shape);
    int n_h = (int)shape->n_hidden, n4 = 4 * n_h, batch = (int)tape->batch;
    size_t step_h = (size_t)batch * (size_t)n_h;
    ForeReal *dh_next = tape->carry;
    ForeReal *dc_next = tape->carry + step_h;

    gemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)(n_steps * tape->batch), n_h,
         (int)shape->n_out, 1, dy, (int)shape->n_out, params + at.wo, n_h, 0, tape->dh, n_h);
    memset(tape->carry, 0, 2 * step_h * sizeof(ForeReal));
    for (unsigned t = n_steps; t-- > 0;) {
        for (size_t b = 0; b < tape->batch; b++) {
            size_t row = t * step_h + b * (size_t)n_h;

            cell_backward(shape->n_hidden, tape->gates + 4 * row, tape->c + row, tape->tc + row,
                          tape->dh + row, dh_next + b * (size_t)n_h, dc_next + b * (size_t)n_h);
        }
        gemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, batch, n_h, n4, 1,
             tape->gates + 4 * t * step_h, n4, params + at.wh, n_h, 0, dh_next, n_h);
    }
    add_weight_gradients(tape, n_steps, dy, grad);
}

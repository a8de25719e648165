/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Goal: few, large matrix products, and nothing read twice from memory.  Each step
 * is two products over all streams (Wx x and Wh h), then the cells (fore-kernel.c) while their
 * gates are still in the cache; backwards likewise, with the gradients of Wx and Wh added step by
 * step. The output layer is one product over all steps and streams.
 *
 * Limits: one layer.  The gradient does not flow past step 0 of a tape (truncated BPTT); the state
 * does. Left out: dropout inside the cell (the training streams drop whole groups of inputs, which
 * is what a VM really does to us), peepholes.
 */
#include "forecast/fore-lstm.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "forecast/fore-kernel.h"

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

void fore_lstm_step(const ForeLstmShape *shape, const ForeReal *params, const ForeReal *x,
                    ForeReal *h, ForeReal *c, ForeReal *scratch, ForeReal *ret_y)
{
    ForeLstmLayout at = fore_lstm_layout(shape);
    int n4 = 4 * (int)shape->n_hidden;
    int n_h = (int)shape->n_hidden;
    int n_out = (int)shape->n_out;

    blas_use_one_thread();
    gemv(CblasRowMajor, CblasNoTrans, n4, (int)shape->n_in, 1, params + at.wx, (int)shape->n_in, x,
         1, 0, scratch, 1);
    gemv(CblasRowMajor, CblasNoTrans, n4, n_h, 1, params + at.wh, n_h, h, 1, 1, scratch, 1);
    fore_kernel()->cell_forward(shape->n_hidden, 1, params + at.b, scratch, c, c, scratch + n4, h);
    memcpy(ret_y, params + at.bo, (size_t)n_out * sizeof(ForeReal));
    gemv(CblasRowMajor, CblasNoTrans, n_out, n_h, 1, params + at.wo, n_h, h, 1, 1, ret_y, 1);
    if (shape->n_skip > 0) {
        gemv(CblasRowMajor, CblasNoTrans, n_out, (int)shape->n_skip, 1, params + at.ws,
             (int)shape->n_skip, x, 1, 1, ret_y, 1);
    }
}

static void fill_rows(ForeReal *rows, size_t n_rows, const ForeReal *row, size_t n)
{
    for (size_t r = 0; r < n_rows; r++) {
        memcpy(rows + r * n, row, n * sizeof(ForeReal));
    }
}

void fore_lstm_step_batch(const ForeLstmShape *shape, const ForeReal *params, unsigned n,
                          const ForeReal *x, ForeReal *h, ForeReal *c, ForeReal *scratch,
                          ForeReal *ret_y)
{
    ForeLstmLayout at = fore_lstm_layout(shape);
    int n_h = (int)shape->n_hidden, n4 = 4 * n_h, n_in = (int)shape->n_in;
    int n_out = (int)shape->n_out, n_skip = (int)shape->n_skip, rows = (int)n;

    blas_use_one_thread();
    gemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n4, n_in, 1, x, n_in, params + at.wx, n_in,
         0, scratch, n4);
    gemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n4, n_h, 1, h, n_h, params + at.wh, n_h, 1,
         scratch, n4);
    fore_kernel()->cell_forward(shape->n_hidden, n, params + at.b, scratch, c, c,
                                scratch + (size_t)n * 4 * shape->n_hidden, h);
    fill_rows(ret_y, n, params + at.bo, shape->n_out);
    gemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n_out, n_h, 1, h, n_h, params + at.wo, n_h,
         1, ret_y, n_out);
    if (n_skip > 0) {
        gemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n_out, n_skip, 1, x, n_in,
             params + at.ws, n_skip, 1, ret_y, n_out);
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

void fore_lstm_forward_from(ForeLstmTape *tape, const ForeReal *params, unsigned n_steps,
                            unsigned first_out)
{
    const ForeLstmShape *shape = &tape->shape;
    const ForeKernel *kernel = fore_kernel();
    ForeLstmLayout at = fore_lstm_layout(shape);
    int n_h = (int)shape->n_hidden, n4 = 4 * n_h, n_in = (int)shape->n_in;
    int n_out = (int)shape->n_out, n_skip = (int)shape->n_skip, batch = (int)tape->batch;
    size_t step_h = (size_t)batch * (size_t)n_h;
    size_t first = (size_t)first_out * tape->batch; /* row */
    int rows = (int)((n_steps - first_out) * tape->batch);
    ForeReal *y = tape->y + first * shape->n_out;

    g_assert(n_steps <= tape->max_steps && first_out < n_steps);
    for (unsigned t = 0; t < n_steps; t++) {
        ForeReal *gates = tape->gates + 4 * t * step_h;

        gemm(CblasRowMajor, CblasNoTrans, CblasTrans, batch, n4, n_in, 1,
             tape->x + (size_t)t * tape->batch * shape->n_in, n_in, params + at.wx, n_in, 0, gates,
             n4);
        gemm(CblasRowMajor, CblasNoTrans, CblasTrans, batch, n4, n_h, 1, tape->h + t * step_h, n_h,
             params + at.wh, n_h, 1, gates, n4);
        kernel->cell_forward(shape->n_hidden, tape->batch, params + at.b, gates,
                             tape->c + t * step_h, tape->c + (t + 1) * step_h,
                             tape->tc + t * step_h, tape->h + (t + 1) * step_h);
    }
    fill_rows(y, (size_t)rows, params + at.bo, (size_t)n_out);
    gemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n_out, n_h, 1,
         tape->h + (first_out + 1) * step_h, n_h, params + at.wo, n_h, 1, y, n_out);
    if (n_skip > 0) {
        gemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n_out, n_skip, 1,
             tape->x + first * shape->n_in, n_in, params + at.ws, n_skip, 1, y, n_out);
    }
}

void fore_lstm_forward(ForeLstmTape *tape, const ForeReal *params, unsigned n_steps)
{
    fore_lstm_forward_from(tape, params, n_steps, 0);
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

/* Gradients of the output layer: products over all steps and streams that have an output. */
static void add_output_gradients(const ForeLstmTape *tape, unsigned n_steps, unsigned first_out,
                                 const ForeReal *dy, ForeReal *grad)
{
    const ForeLstmShape *shape = &tape->shape;
    ForeLstmLayout at = fore_lstm_layout(shape);
    int n_h = (int)shape->n_hidden, n_in = (int)shape->n_in;
    int n_out = (int)shape->n_out, n_skip = (int)shape->n_skip;
    size_t first = (size_t)first_out * tape->batch;
    int rows = (int)((n_steps - first_out) * tape->batch);

    dy += first * shape->n_out;
    gemm(CblasRowMajor, CblasTrans, CblasNoTrans, n_out, n_h, rows, 1, dy, n_out,
         tape->h + (first + tape->batch) * shape->n_hidden, n_h, 1, grad + at.wo, n_h);
    if (n_skip > 0) {
        gemm(CblasRowMajor, CblasTrans, CblasNoTrans, n_out, n_skip, rows, 1, dy, n_out,
             tape->x + first * shape->n_in, n_in, 1, grad + at.ws, n_skip);
    }
    add_column_sums(grad + at.bo, dy, (size_t)rows, shape->n_out);
}

/* Gradients of Wx and Wh by one step, whose gates are still in the cache. */
static void add_cell_gradients(const ForeLstmTape *tape, unsigned t, ForeReal *grad)
{
    const ForeLstmShape *shape = &tape->shape;
    ForeLstmLayout at = fore_lstm_layout(shape);
    int n_h = (int)shape->n_hidden, n4 = 4 * n_h, n_in = (int)shape->n_in, batch = (int)tape->batch;
    size_t row = (size_t)t * tape->batch;
    const ForeReal *gates = tape->gates + 4 * row * shape->n_hidden;

    gemm(CblasRowMajor, CblasTrans, CblasNoTrans, n4, n_in, batch, 1, gates, n4,
         tape->x + row * shape->n_in, n_in, 1, grad + at.wx, n_in);
    gemm(CblasRowMajor, CblasTrans, CblasNoTrans, n4, n_h, batch, 1, gates, n4,
         tape->h + row * shape->n_hidden, n_h, 1, grad + at.wh, n_h);
}

void fore_lstm_backward_from(ForeLstmTape *tape, const ForeReal *params, unsigned n_steps,
                             unsigned first_out, const ForeReal *dy, ForeReal *grad)
{
    const ForeLstmShape *shape = &tape->shape;
    const ForeKernel *kernel = fore_kernel();
    ForeLstmLayout at = fore_lstm_layout(shape);
    int n_h = (int)shape->n_hidden, n4 = 4 * n_h, n_out = (int)shape->n_out;
    int batch = (int)tape->batch;
    size_t step_h = (size_t)batch * (size_t)n_h;
    ForeReal *dh = tape->carry;
    ForeReal *dc = tape->carry + step_h;

    g_assert(n_steps <= tape->max_steps && first_out < n_steps);
    memset(tape->carry, 0, 2 * step_h * sizeof(ForeReal));
    for (unsigned t = n_steps; t-- > 0;) {
        ForeKernelBack back = {.gates = tape->gates + 4 * t * step_h,
                               .c_prev = tape->c + t * step_h,
                               .tc = tape->tc + t * step_h,
                               .dh = dh,
                               .dc = dc,
                               .bias_sum = grad + at.b};

        if (t >= first_out) {
            gemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, batch, n_h, n_out, 1,
                 dy + (size_t)t * tape->batch * shape->n_out, n_out, params + at.wo, n_h, 1, dh,
                 n_h);
        }
        kernel->cell_backward(shape->n_hidden, tape->batch, &back);
        add_cell_gradients(tape, t, grad);
        gemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, batch, n_h, n4, 1, back.gates, n4,
             params + at.wh, n_h, 0, dh, n_h);
    }
    add_output_gradients(tape, n_steps, first_out, dy, grad);
}

void fore_lstm_backward(ForeLstmTape *tape, const ForeReal *params, unsigned n_steps,
                        const ForeReal *dy, ForeReal *grad)
{
    fore_lstm_backward_from(tape, params, n_steps, 0, dy, grad);
}

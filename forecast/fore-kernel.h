/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The loops over numbers that no matrix product covers, once for each kind of vector unit; the best
 * that this CPU has is chosen at run time, as OpenBLAS does for its products.  Two kinds may differ
 * in the last bits (fused multiply-add); one kind always gives the same bits.
 */
#include <stddef.h>

#include "forecast/fore-lstm.h"

#define FORE_KERNEL_QUANTILES 5 /* raw outputs of one group, FORE_N_QUANTILE */

/* What one cell row of the backward pass reads and writes; all [n_rows][n_hidden] but @gates. */
typedef struct {
    ForeReal *gates; /* (inout): [n_rows][4 n_hidden] activated; then gradient before activation */
    const ForeReal *c_prev, *tc;
    const ForeReal *dh; /* gradient by h, from the output and the step after */
    ForeReal *dc;       /* (inout): gradient by c from the step after; then by c_prev */
    ForeReal *bias_sum; /* (inout): [4 n_hidden], column sums of the new @gates are added */
} ForeKernelBack;

typedef struct {
    const char *name; /* "plain", "avx2", "avx512" */

    /**
     * cell_forward: activate gates and advance the state
     * @bias: [4 n_hidden], added first
     * @gates: (inout): [n_rows][4 n_hidden]: pre-activations without bias; then activated
     * @c_prev, @c, @tc, @h: [n_rows][n_hidden]; @c may be @c_prev
     */
    void (*cell_forward)(size_t n_hidden, size_t n_rows, const ForeReal *bias, ForeReal *gates,
                         const ForeReal *c_prev, ForeReal *c, ForeReal *tc, ForeReal *h);
    /** cell_backward: one step of back-propagation through the cells */
    void (*cell_backward)(size_t n_hidden, size_t n_rows, const ForeKernelBack *at);
    /** softplus: @ret_v = log(1 + e^z) for @n values; may alias */
    void (*softplus)(size_t n, const ForeReal *z, ForeReal *ret_v);
    /**
     * quantile_loss: as fore_quantile_loss(), levels @tau: [FORE_KERNEL_QUANTILES]
     */
    double (*quantile_loss)(size_t n_groups, const double *tau, const ForeReal *raw,
                            const ForeReal *target, const ForeReal *weight, double factor,
                            ForeReal *ret_grad);
} ForeKernel;

/** fore_kernel: the best for this CPU */
const ForeKernel *fore_kernel(void);
/** fore_kernel_nth: all that this CPU can run, for tests and benches; NULL past the last */
const ForeKernel *fore_kernel_nth(unsigned i);

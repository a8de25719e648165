/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Each loop is written once, as an inline body that is contiguous and free of
 * branches and calls, so that a compiler can vectorise it; VARIANT() makes a function of it for one
 * instruction set.  tanh, exp and log1p are therefore formulas here and not libm's, in single
 * precision; test-kernel measures them against libm.  The double precision build, which only the
 * gradient tests use, takes libm's.
 */
#include "forecast/fore-kernel.h"

#include <math.h>
#include <string.h>

#define BODY static inline __attribute__((always_inline))

#define NQ    FORE_KERNEL_QUANTILES
#define BLOCK 64 /* groups that are transposed at once: 5 KiB of scratch, stays in the L1 cache */

#ifdef FORE_REAL_DOUBLE
BODY ForeReal tanh_of(ForeReal x)
{
    return tanh(x);
}

BODY ForeReal exp_of(ForeReal x)
{
    return exp(x);
}

BODY ForeReal log1p_of(ForeReal x)
{
    return log1p(x);
}
#else
/*
 * Minimax rational approximation of degree 13/6 on |x| < 7.9, where single precision tanh reaches
 * 1; the coefficients are those of Eigen's generic_fast_tanh_float.
 */
BODY ForeReal tanh_of(ForeReal x)
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

/*
 * exp on -87..0: x = n ln 2 + r with |r| <= ln 2 / 2, then the Taylor series of e^r to r^7 (its
 * rest is below 5e-9) times 2^n made from bits.  ln 2 is split in two so that n ln 2 is exact.
 */
BODY ForeReal exp_of(ForeReal x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    float v = x < -87.0f ? -87.0f : x;
    float n = (v * 1.44269504f + magic) - magic;
    float r = (v - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    uint32_t bits;
    float power;

    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    bits = (uint32_t)((int32_t)n + 127) << 23;
    memcpy(&power, &bits, sizeof(power));
    return p * power;
}

/* log(1 + x) on 0..1 as 2 artanh(s), s = x / (2 + x) <= 1/3, to s^15: the rest is below 2e-9. */
BODY ForeReal log1p_of(ForeReal x)
{
    float s = x / (2.0f + x);
    float s2 = s * s;
    float p = 1.0f / 15.0f;

    p = p * s2 + 1.0f / 13.0f;
    p = p * s2 + 1.0f / 11.0f;
    p = p * s2 + 1.0f / 9.0f;
    p = p * s2 + 1.0f / 7.0f;
    p = p * s2 + 1.0f / 5.0f;
    p = p * s2 + 1.0f / 3.0f;
    p = p * s2 + 1.0f;
    return 2.0f * s * p;
}
#endif

BODY ForeReal sigmoid_of(ForeReal x)
{
    return (ForeReal)0.5 + (ForeReal)0.5 * tanh_of((ForeReal)0.5 * x);
}

/* One row of cell_forward(). */
BODY void row_forward(size_t n, const ForeReal *restrict bias, ForeReal *restrict gates,
                      const ForeReal *c_prev, ForeReal *c, ForeReal *restrict tc,
                      ForeReal *restrict h)
{
    ForeReal *restrict gi = gates, *restrict gf = gates + n;
    ForeReal *restrict gg = gates + 2 * n, *restrict go = gates + 3 * n;

    for (size_t k = 0; k < n; k++) {
        gi[k] = sigmoid_of(gi[k] + bias[k]);
        gf[k] = sigmoid_of(gf[k] + bias[n + k]);
    }
    for (size_t k = 0; k < n; k++) {
        gg[k] = tanh_of(gg[k] + bias[2 * n + k]);
        go[k] = sigmoid_of(go[k] + bias[3 * n + k]);
    }
    for (size_t k = 0; k < n; k++) {
        c[k] = gf[k] * c_prev[k] + gi[k] * gg[k];
    }
    for (size_t k = 0; k < n; k++) {
        tc[k] = tanh_of(c[k]);
        h[k] = go[k] * tc[k];
    }
}

BODY void body_cell_forward(size_t n, size_t n_rows, const ForeReal *bias, ForeReal *gates,
                            const ForeReal *c_prev, ForeReal *c, ForeReal *tc, ForeReal *h)
{
    for (size_t r = 0; r < n_rows; r++) {
        row_forward(n, bias, gates + 4 * r * n, c_prev + r * n, c + r * n, tc + r * n, h + r * n);
    }
}

/* One row of cell_backward(). */
BODY void row_backward(size_t n, ForeReal *restrict gates, const ForeReal *restrict c_prev,
                       const ForeReal *restrict tc, const ForeReal *restrict dh_row,
                       ForeReal *restrict dc_row, ForeReal *restrict sum)
{
    ForeReal *restrict gi = gates, *restrict gf = gates + n;
    ForeReal *restrict gg = gates + 2 * n, *restrict go = gates + 3 * n;

    for (size_t k = 0; k < n; k++) {
        ForeReal i = gi[k], f = gf[k], g = gg[k], o = go[k];
        ForeReal dh = dh_row[k];
        ForeReal dc = dh * o * (1 - tc[k] * tc[k]) + dc_row[k];

        gi[k] = dc * g * i * (1 - i);
        gf[k] = dc * c_prev[k] * f * (1 - f);
        gg[k] = dc * i * (1 - g * g);
        go[k] = dh * tc[k] * o * (1 - o);
        dc_row[k] = dc * f;
    }
    for (size_t k = 0; k < 4 * n; k++) {
        sum[k] += gates[k];
    }
}

BODY void body_cell_backward(size_t n, size_t n_rows, const ForeKernelBack *at)
{
    for (size_t r = 0; r < n_rows; r++) {
        row_backward(n, at->gates + 4 * r * n, at->c_prev + r * n, at->tc + r * n, at->dh + r * n,
                     at->dc + r * n, at->bias_sum);
    }
}

/* softplus and its derivative, both from one exponential that cannot overflow */
BODY ForeReal softplus_of(ForeReal z, ForeReal *ret_slope)
{
    ForeReal e = exp_of(z < 0 ? z : -z);

    *ret_slope = (z < 0 ? e : 1) / (1 + e);
    return (z < 0 ? 0 : z) + log1p_of(e);
}

BODY void body_softplus(size_t n, const ForeReal *z, ForeReal *ret_v)
{
    for (size_t i = 0; i < n; i++) {
        ForeReal slope;

        ret_v[i] = softplus_of(z[i], &slope);
    }
}

/* Raw outputs of up to BLOCK groups, and what comes of them, by quantile and then by group. */
typedef struct {
    ForeReal z[NQ][BLOCK];
    ForeReal slope[NQ][BLOCK];
    ForeReal d[NQ][BLOCK];
    ForeReal q[BLOCK], y[BLOCK], loss[BLOCK], tail[BLOCK], by[BLOCK];
} Block;

/* Loss of each group of the block, weighted; @b->d gets the gradient by each quantile. */
BODY void block_loss(Block *restrict b, const double *tau, const ForeReal *restrict weight)
{
    for (size_t g = 0; g < BLOCK; g++) {
        b->q[g] = 0;
        b->loss[g] = 0;
    }
    for (unsigned k = 0; k < NQ; k++) {
        ForeReal level = (ForeReal)tau[k];

        for (size_t g = 0; g < BLOCK; g++) {
            ForeReal slope;
            ForeReal up = softplus_of(b->z[k][g], &slope);
            ForeReal q = b->q[g] + (k == 0 ? b->z[k][g] : up);
            ForeReal e = b->y[g] - q;

            b->slope[k][g] = k == 0 ? 1 : slope;
            b->q[g] = q;
            b->loss[g] += e < 0 ? (level - 1) * e : level * e;
            b->d[k][g] = (e < 0 ? (ForeReal)1 : (ForeReal)0) - level;
        }
    }
    for (size_t g = 0; g < BLOCK; g++) {
        b->loss[g] = weight[g] > 0 ? weight[g] * b->loss[g] : 0;
    }
}

/* @b->d: from gradients by quantiles to gradients by raw outputs: z_k moves q_k and all above. */
BODY void block_gradient(Block *restrict b, const ForeReal *restrict weight, ForeReal factor)
{
    for (size_t g = 0; g < BLOCK; g++) {
        b->tail[g] = 0;
        b->by[g] = weight[g] > 0 ? factor * weight[g] : 0;
    }
    for (unsigned k = NQ; k-- > 0;) {
        for (size_t g = 0; g < BLOCK; g++) {
            b->tail[g] += b->d[k][g];
            b->d[k][g] = b->by[g] > 0 ? b->by[g] * b->tail[g] * b->slope[k][g] : 0;
        }
    }
}

BODY double body_quantile_loss(size_t n_groups, const double *tau, const ForeReal *raw,
                               const ForeReal *target, const ForeReal *weight, double factor,
                               ForeReal *ret_grad)
{
    Block b;
    ForeReal w[BLOCK];
    double loss = 0.0;

    memset(&b, 0, sizeof(b));
    for (size_t at = 0; at < n_groups; at += BLOCK) {
        size_t n = n_groups - at < BLOCK ? n_groups - at : BLOCK;

        for (size_t g = 0; g < n; g++) {
            w[g] = weight[at + g];
            b.y[g] = w[g] > 0 ? target[at + g] : 0;
            for (unsigned k = 0; k < NQ; k++) {
                b.z[k][g] = raw[(at + g) * NQ + k];
            }
        }
        for (size_t g = n; g < BLOCK; g++) {
            w[g] = 0;
        }
        block_loss(&b, tau, w);
        for (size_t g = 0; g < n; g++) {
            loss += (double)b.loss[g];
        }
        if (ret_grad == NULL) {
            continue;
        }
        block_gradient(&b, w, (ForeReal)factor);
        for (size_t g = 0; g < n; g++) {
            for (unsigned k = 0; k < NQ; k++) {
                ret_grad[(at + g) * NQ + k] = b.d[k][g];
            }
        }
    }
    return loss;
}

#define VARIANT(kind, attribute)                                                                   \
    attribute static void cell_forward_##kind(                                                     \
        size_t n_hidden, size_t n_rows, const ForeReal *bias, ForeReal *gates,                     \
        const ForeReal *c_prev, ForeReal *c, ForeReal *tc, ForeReal *h)                            \
    {                                                                                              \
        body_cell_forward(n_hidden, n_rows, bias, gates, c_prev, c, tc, h);                        \
    }                                                                                              \
    attribute static void cell_backward_##kind(size_t n_hidden, size_t n_rows,                     \
                                               const ForeKernelBack *at)                           \
    {                                                                                              \
        body_cell_backward(n_hidden, n_rows, at);                                                  \
    }                                                                                              \
    attribute static void softplus_##kind(size_t n, const ForeReal *z, ForeReal *ret_v)            \
    {                                                                                              \
        body_softplus(n, z, ret_v);                                                                \
    }                                                                                              \
    attribute static double quantile_loss_##kind(                                                  \
        size_t n_groups, const double *tau, const ForeReal *raw, const ForeReal *target,           \
        const ForeReal *weight, double factor, ForeReal *ret_grad)                                 \
    {                                                                                              \
        return body_quantile_loss(n_groups, tau, raw, target, weight, factor, ret_grad);           \
    }                                                                                              \
    static const ForeKernel kernel_##kind = {#kind, cell_forward_##kind, cell_backward_##kind,     \
                                             softplus_##kind, quantile_loss_##kind};

VARIANT(plain, )
#if defined(__x86_64__) && !defined(FORE_REAL_DOUBLE)
VARIANT(avx2, __attribute__((target("avx2,fma"))))
VARIANT(avx512, __attribute__((target("avx2,fma,avx512f,avx512dq,avx512vl,avx512bw"))))
#endif

const ForeKernel *fore_kernel_nth(unsigned i)
{
    const ForeKernel *can[3];
    unsigned n = 0;

#if defined(__x86_64__) && !defined(FORE_REAL_DOUBLE)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
        can[n++] = &kernel_avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        can[n++] = &kernel_avx2;
    }
#endif
    can[n++] = &kernel_plain;
    return i < n ? can[i] : NULL;
}

const ForeKernel *fore_kernel(void)
{
    static gsize chosen;

    if (g_once_init_enter(&chosen)) {
        g_once_init_leave(&chosen, (gsize)fore_kernel_nth(0));
    }
    return (const ForeKernel *)chosen;
}

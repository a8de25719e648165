/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A small seeded generator, so that training gives the same weights for the same seed on any libc.
 * splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014,
 * fig. 17.
 */
#include <math.h>
#include <stdint.h>

typedef struct {
    uint64_t state;
} ForeRandom;

static inline uint64_t fore_random_u64(ForeRandom *rng)
{
    uint64_t z = (rng->state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/** fore_random_unit: uniform, 0 <= u < 1 */
static inline double fore_random_unit(ForeRandom *rng)
{
    return (double)(fore_random_u64(rng) >> 11) * 0x1.0p-53;
}

/** fore_random_below: uniform, 0 <= i < @n, @n at least 1; the bias is below n / 2^53 */
static inline uint64_t fore_random_below(ForeRandom *rng, uint64_t n)
{
    return (uint64_t)(fore_random_unit(rng) * (double)n);
}

/** fore_random_normal: mean 0, standard deviation 1 (Box and Muller, 1958) */
static inline double fore_random_normal(ForeRandom *rng)
{
    double u = 1.0 - fore_random_unit(rng);
    double v = fore_random_unit(rng);

    return sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v);
}

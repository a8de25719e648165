/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One column of a span of samples, compressed without loss: instants (delta of delta) or values
 * (scaled decimals or XOR).  Decoders take hostile bytes: bounded, no allocation sized by the
 * input, and a column that is cut short or too long is an error.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_CHUNK_MAX 1024 /* instants or values in a column */

/**
 * fore_chunk_pack_times: compress instants
 * @t: [n], any unit, any order (steady steps cost nothing)   @n: 1..FORE_CHUNK_MAX
 * Returns: (transfer full)
 */
GByteArray *fore_chunk_pack_times(const int64_t *t, size_t n);
/**
 * fore_chunk_unpack_times: inverse
 * @data: [size] untrusted
 * @ret_t: (out caller-allocates): [FORE_CHUNK_MAX]   @ret_n: instants written
 * Errors: FORE_ERROR_INVALID
 */
bool fore_chunk_unpack_times(const void *data, size_t size, int64_t *ret_t, size_t *ret_n,
                             GError **error);

/**
 * fore_chunk_pack_values: compress values; the bits of each come back exactly
 * @v: [n], finite, or NAN where there was no measurement   @n: 1..FORE_CHUNK_MAX
 * Returns: (transfer full) or NULL when there is no measurement at all
 */
GByteArray *fore_chunk_pack_values(const double *v, size_t n);
/**
 * fore_chunk_unpack_values: inverse
 * @data: [size] untrusted
 * @ret_v: (out caller-allocates): [FORE_CHUNK_MAX], NAN where there was no measurement, never
 * infinite Errors: FORE_ERROR_INVALID
 */
bool fore_chunk_unpack_values(const void *data, size_t size, double *ret_v, size_t *ret_n,
                              GError **error);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The weights file: fore_model_encode() and fore_model_decode() of fore-forecaster.h.  All
 * little-endian, no padding; doubles and floats are their IEEE 754 bits.
 *
 *   8   magic "FOREWGTS"
 *   u32 version (FORE_WEIGHTS_VERSION)
 *   u32 hidden
 *   u32 number of features, then for each: u8 length, name
 *   u32 number of resources, then for each: u8 length, name
 *   u32 number of horizons, then for each: u32 steps
 *   u32 number of quantiles, then for each: f64 level
 *   u32 number of normalisation constants, then for each: f64 (ForeFeatureNorm in order)
 *   u64 samples, u64 seed, u32 epochs, f64 loss, f64 validation loss, f64 naive validation loss
 *   u32 number of groups times quantiles, then for each: f64 calibration level a new VM starts with
 *   u32 number of parameters, then for each: f32 (ForeLstmLayout in order)
 *   32  SHA-256 (FIPS 180-4) of everything before it
 *
 * Names, horizons and quantiles must be those of this build: weights trained for other inputs or
 * outputs are refused, not reinterpreted.  The checksum finds damage, not malice; against that the
 * file stands in an envelope signed by the key of the host (common/fore-signed.h).
 */
#include "forecast/fore-forecaster.h"

#define FORE_WEIGHTS_VERSION  2
#define FORE_WEIGHTS_MAX_SIZE (16u << 20) /* bytes */

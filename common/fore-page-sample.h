/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The deeper fields of a sample: what profile levels standard and full say of the execution. */
#include "common/fore-page-rates.h"

/**
 * fore_page_sample: instruction mix, system calls by kind, address spaces, working set and the
 * folded execution signature of the time between two readings of one page
 * @sample: gets the fields MIX_SIMD to SIGNATURE_C with their valid bits; one that the page does
 * not measure, or for which nothing ran, has its bit cleared.  Its other fields stay untouched.
 */
void fore_page_sample(const ForePageSnapshot *prev, const ForePageSnapshot *cur,
                      ForeSample *sample);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The working set from a sample of accesses: how many different pages there are, judged by how many
 * were met once and twice.
 */
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/fore-page.h"

/**
 * fore_pages_estimate: the number of pages, met or not
 * @seen: different pages met; @once, @twice: of them, met so often; @samples: looks at the guest
 * @ret_error: standard error
 * The bias-corrected Chao1 estimator and its variance (A. Chao, "Estimating the population size for
 * capture-recapture data with unequal catchability", Biometrics 43, 1987): unbiased when all pages
 * are touched equally often, a lower bound otherwise.
 */
void fore_pages_estimate(uint64_t seen, uint64_t once, uint64_t twice, uint64_t samples,
                         uint64_t *ret_pages, uint64_t *ret_error);

/** fore_pages_vcpu_init: room for vCPU @index; on its thread, before it runs */
void fore_pages_vcpu_init(unsigned index);

/** fore_pages_add: one look at the guest found an access to @page (address >> 12) of space @space
 * (0: all share it) */
void fore_pages_add(unsigned index, uint64_t page, uint64_t space);

/** fore_pages_period: blocks until the next sample, random; on the vCPU's thread */
uint64_t fore_pages_period(unsigned index);

/** fore_pages_collect: end the window; on the publishing thread.  @ret: gets the ws_ fields; all 0
 * when no vCPU has room, because the level does not look at pages */
void fore_pages_collect(unsigned max_vcpus, ForePageVm *ret);

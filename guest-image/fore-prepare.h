/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The preparation before a burst: what a batch job does when it looks for its input.  Many small
 * file operations at a low, steady share of one CPU; nothing but the mix of system calls tells it
 * from other light work.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct ForePrepare ForePrepare;

/**
 * fore_prepare_new: starts the thread, which sleeps until it is told to run
 * @directory: a tmpfs directory for its files, created when missing; copied
 * @permille: CPU time that it takes while it runs, 1/1000 vCPU, 1..1000
 * Returns NULL with errno set when it cannot.
 */
ForePrepare *fore_prepare_new(const char *directory, uint32_t permille);

/** fore_prepare_run: starts or stops the operations; returns at once */
void fore_prepare_run(ForePrepare *prepare, bool run);

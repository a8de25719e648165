/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The profiler under KVM, where no block is translated: a thread of our own inside QEMU samples
 * what the host's kernel knows of the vCPU threads, and publishes it on the same page.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/fore-page.h"

/** fore_profiler_kvm_is_on: whether this process has a KVM VM (-accel kvm, and not its fallback) */
bool fore_profiler_kvm_is_on(void);

/**
 * fore_profiler_kvm_start: start the sampling thread; once, after fore_profiler_kvm_is_on()
 * @page: mapped for the life of the process; from now on the thread is its only writer, but for
 * header.writer
 * @interval_ns: between two samples
 * @max_vcpus: 1..FORE_PAGE_MAX_VCPUS; a vCPU with a higher index is left out
 * Returns: false with G_FILE_ERROR when the thread cannot be made
 */
bool fore_profiler_kvm_start(ForePageHeader *page, uint64_t interval_ns, unsigned max_vcpus,
                             GError **error);

/** fore_profiler_kvm_stop: publish once more and end the thread; nothing when none was started */
void fore_profiler_kvm_stop(void);

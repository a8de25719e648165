/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * QEMU's vCPU threads and KVM's statistics of them, as files that stay open from sample to sample.
 * Everything here reads /proc/self, so it is of the process that it runs in.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/fore-page.h"
#include "qemu-plugin/fore-profiler-proc.h"

/* One vCPU thread. */
typedef struct {
    int tid;       /* 0: none */
    int schedstat; /* descriptor */
    int perf;      /* instructions, leader of a group with cycles; -1: this host has no counters */
    int perf_cycles;
} ForeThread;

/* One reading; counters since the thread began (run, wait), or since KVM or we began. */
typedef struct {
    uint64_t run_ns, wait_ns;
    bool has_perf, has_stats;
    uint64_t insns, cycles;
    uint64_t stats[FORE_PROC_N];
} ForeThreadReading;

/* KVM's statistics files by vCPU. */
typedef struct {
    struct {
        int fd; /* our duplicate; -1: none */
        unsigned id;
        int index; /* vCPU index; -1: not known yet */
        ForeProcLayout layout;
    } files[FORE_PAGE_MAX_VCPUS];
    unsigned n;
    int of_vcpu[FORE_PAGE_MAX_VCPUS]; /* into files; -1: none */
} ForeThreadKvm;

/** fore_thread_has_kvm: whether this process has a KVM VM open */
bool fore_thread_has_kvm(void);

typedef bool (*ForeThreadKnown)(unsigned index, int tid);
/** ForeThreadFound: a vCPU thread that @known did not know; its descriptors go to the callee */
typedef void (*ForeThreadFound)(unsigned index, const ForeThread *thread, void *data);
/** fore_thread_scan: look for vCPU threads with an index below @limit */
void fore_thread_scan(unsigned limit, ForeThreadKnown known, ForeThreadFound found, void *data);

/** fore_thread_read: false when the thread has ended */
bool fore_thread_read(const ForeThread *thread, const ForeThreadKvm *kvm, unsigned index,
                      ForeThreadReading *ret);
/** fore_thread_close: close its descriptors; nothing when it is all zero */
void fore_thread_close(ForeThread *thread);

void fore_thread_kvm_init(ForeThreadKvm *kvm);
/**
 * fore_thread_kvm_scan: find statistics files that are not known yet, and whose they are
 * @plugged: [@n] by vCPU index
 */
void fore_thread_kvm_scan(ForeThreadKvm *kvm, const bool *plugged, unsigned n);

/** fore_thread_resident: bytes of this process in memory */
bool fore_thread_resident(uint64_t *ret_bytes);

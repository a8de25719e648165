/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What Linux says of QEMU's own threads, files and mappings, and of KVM's statistics, as bytes:
 * pure parsers of files in /proc/self and of a KVM statistics file.  They read no file themselves.
 */
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * fore_proc_parse_vcpu_name: the vCPU index in a thread's name, "CPU 3/KVM" (with or without '\n')
 * QEMU names them so with -name debug-threads=on only.
 * @limit: the index must be below it
 * Returns: false when it is another thread
 */
bool fore_proc_parse_vcpu_name(const char *text, size_t len, unsigned limit, unsigned *ret_index);

/**
 * fore_proc_parse_schedstat: /proc/PID/task/TID/schedstat, "RUN WAIT SLICES\n"
 * @ret_run_ns: time on a CPU; @ret_wait_ns: time runnable without one
 * (Linux Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat)
 */
bool fore_proc_parse_schedstat(const char *text, size_t len, uint64_t *ret_run_ns,
                               uint64_t *ret_wait_ns);

/** fore_proc_parse_resident: /proc/PID/statm, second field: resident pages */
bool fore_proc_parse_resident(const char *text, size_t len, uint64_t *ret_pages);

/**
 * fore_proc_parse_stats_link: the vCPU id in a link of /proc/PID/fd,
 * "anon_inode:kvm-vcpu-stats:ID"; the id is KVM's (on x86 the APIC id), not QEMU's index
 */
bool fore_proc_parse_stats_link(const char *text, size_t len, unsigned *ret_id);

/** fore_proc_is_kvm_vm: a link of /proc/PID/fd that only a QEMU under KVM has */
bool fore_proc_is_kvm_vm(const char *text, size_t len);

typedef struct {
    uint64_t start, end; /* addresses, start < end */
} ForeProcRange;

/**
 * fore_proc_parse_ram: a line of /proc/PID/maps that may be guest memory: readable, writable, not
 * executable, at least @min_bytes, and anonymous without a name, or of a memfd, /dev/shm or
 * hugetlbfs
 */
bool fore_proc_parse_ram(const char *line, size_t len, uint64_t min_bytes, ForeProcRange *ret);

/* --- a KVM statistics file (linux/kvm.h, struct kvm_stats_header) --- */

#define FORE_PROC_STATS_MAX_BYTES (64u * 1024) /* of header and descriptors together */
#define FORE_PROC_STATS_MAX_DATA  (32u * 1024)

/* What is looked for by name; a kernel may lack some. */
typedef enum {
    FORE_PROC_EXITS,
    FORE_PROC_IO_EXITS,
    FORE_PROC_MMIO_EXITS,
    FORE_PROC_HALT_EXITS,
    FORE_PROC_IRQ_EXITS,
    FORE_PROC_IRQ_WINDOW_EXITS,
    FORE_PROC_SIGNAL_EXITS,
    FORE_PROC_EMULATIONS,
    FORE_PROC_HYPERCALLS,
    FORE_PROC_FAULTS,
    FORE_PROC_HALT_POLL_OK_NS,
    FORE_PROC_HALT_POLL_FAIL_NS,
    FORE_PROC_HALT_WAIT_NS,
    FORE_PROC_HALT_WAKEUPS,
    FORE_PROC_N
} ForeProcStat;
extern const char *const fore_proc_stat_names[FORE_PROC_N]; /* KVM's own */

typedef struct {
    uint32_t data_offset; /* of the data block in the file */
    uint32_t data_bytes;  /* to be read of it: a multiple of 8, at most FORE_PROC_STATS_MAX_DATA */
    bool has[FORE_PROC_N];
    uint32_t at[FORE_PROC_N]; /* bytes into the data block, a multiple of 8 */
} ForeProcLayout;

/**
 * fore_proc_parse_layout: where the counters are
 * @data: the front of the file, header and all descriptors
 * Returns: false when it is cut off, or no such file
 */
bool fore_proc_parse_layout(const void *data, size_t len, ForeProcLayout *ret);

/** fore_proc_stat: one counter of a data block of @layout->data_bytes; 0 when there is none */
uint64_t fore_proc_stat(const ForeProcLayout *layout, const void *data, ForeProcStat stat);

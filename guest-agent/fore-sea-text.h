/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Reads the texts of /proc and /sys that the secure enclave agent needs.  Pure: bytes in, numbers
 * out; a text that is cut, garbled or out of range is "no", never a partial answer.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_SEA_CPUS_MAX 4096  /* highest CPU number + 1 that is understood */
#define FORE_SEA_TEXT_MAX 32768 /* bytes of a /proc or /sys file that are looked at */

/* A set of CPU numbers. */
typedef struct {
    uint64_t word[FORE_SEA_CPUS_MAX / 64]; /* bit n of word n/64 */
    unsigned n;                            /* members */
} ForeSeaCpus;

bool fore_sea_cpus_has(const ForeSeaCpus *cpus, unsigned cpu);

/**
 * fore_sea_text_cpus: a kernel CPU list such as "0-3,5\n"; an empty line is the empty set
 * Returns: false for anything else, a falling range, or a number from FORE_SEA_CPUS_MAX on
 */
bool fore_sea_text_cpus(const char *text, size_t size, ForeSeaCpus *ret);

/**
 * fore_sea_text_busy: /proc/stat, first line
 * @ret_ticks: user + nice + system + irq + softirq of all CPUs, USER_HZ ticks since boot (steal,
 * idle and iowait are not work done; guest time is part of user)
 */
bool fore_sea_text_busy(const char *text, size_t size, uint64_t *ret_ticks);
/** fore_sea_text_idle: the same for idle + iowait, which the kernel measures and does not sample */
bool fore_sea_text_idle(const char *text, size_t size, uint64_t *ret_ticks);

/** fore_sea_text_runnable: /proc/loadavg, the number before '/': tasks runnable now, the reader too
 */
bool fore_sea_text_runnable(const char *text, size_t size, uint64_t *ret_tasks);

/**
 * fore_sea_text_labelled: the number after a label that starts a line, as in /proc/meminfo
 * ("MemTotal: 5 kB") and /proc/vmstat ("pswpout 7")
 * @label: including a colon when the file has one
 */
bool fore_sea_text_labelled(const char *text, size_t size, const char *label, uint64_t *ret);

/** fore_sea_text_stalled: /proc/pressure/x, total of the "some" line, microseconds since boot */
bool fore_sea_text_stalled(const char *text, size_t size, uint64_t *ret_us);

/** fore_sea_text_hex: block_size_bytes: hexadecimal without a prefix, 1..2^63 */
bool fore_sea_text_hex(const char *text, size_t size, uint64_t *ret);

/**
 * fore_sea_text_uevent: does a kernel uevent tell of a CPU or a memory block?
 * @message: @size bytes as netlink delivered them: "ACTION@DEVPATH" NUL ...
 */
bool fore_sea_text_uevent(const char *message, size_t size);

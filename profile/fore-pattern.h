/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Is a VM's usage explained by what it executes?  A miner takes CPUs without the system calls that
 * used to come with them; an exfiltration sends without being asked.  Each alone may look like
 * load; together with the execution pattern they do not.  Streaming, fixed memory, no I/O and no
 * clock.
 */
#include <glib.h>
#include <stddef.h>

/* What is looked at, per second where it is a rate.  NAN: not measured this time. */
typedef enum {
    /* usage */
    FORE_PATTERN_VCPU,   /* vCPUs busy or asked for */
    FORE_PATTERN_NET_RX, /* bits per second */
    FORE_PATTERN_NET_TX,
    /* execution */
    FORE_PATTERN_INSNS, /* instructions per second, of all vCPUs */
    FORE_PATTERN_LOADS,
    FORE_PATTERN_STORES,
    FORE_PATTERN_SYSCALLS,
    FORE_PATTERN_N
} ForePatternField;

#define FORE_PATTERN_ALARM 0.5 /* scores from here on are alarms */

typedef struct ForePattern ForePattern;

/** fore_pattern_new: of one VM, without a past (transfer full); fore_pattern_bytes() large */
ForePattern *fore_pattern_new(void);
void fore_pattern_free(ForePattern *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForePattern, fore_pattern_free)

/**
 * fore_pattern_score: judge one sample by the relations seen so far, then learn from it
 * @in: [FORE_PATTERN_N]; NAN, negative or beyond 1e18: not measured, and neither judged nor learned
 * Returns: 0 (explained, or too little is known) .. below 1; from FORE_PATTERN_ALARM on, more is
 *     used than the pattern explains.  Lasts as long as that does, or 900 samples.
 */
double fore_pattern_score(ForePattern *p, const double in[FORE_PATTERN_N]);

/** fore_pattern_reason: the last judgement in words; @ret: (out caller-allocates): [size] */
void fore_pattern_reason(const ForePattern *p, char *ret, size_t size);

/** fore_pattern_bytes: memory of one VM, whatever it has seen */
size_t fore_pattern_bytes(void);

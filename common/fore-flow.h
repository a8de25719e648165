/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The seven arrows of the loop (docs/architecture.md): plain structs that the layers hand to each
 * other, so that control/ need not see forecast/ or vtpm/.
 *
 *   (1) ForeSample   sources -> profile       (5) ForeGrantRef  vtpm -> agent
 *   (2) ForeWindow   profile -> forecast      (6) ForeAction    control -> actuators (fore-loop.h)
 *   (3) ForeForecast forecast -> control      (7) ForeUsage     guest and host -> control
 *   (4) ForePlan     control -> vtpm
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_NS_PER_S  G_GUINT64_CONSTANT(1000000000)
#define FORE_UUID_LEN  36                              /* characters of a textual UUID */
#define FORE_NAME_MAX  63                              /* bytes of a VM or node name */
#define FORE_MEM_BLOCK (G_GUINT64_CONSTANT(128) << 20) /* x86-64 Linux memory block, bytes */

/* What can be forecast and given. */
typedef enum { FORE_RES_VCPU, FORE_RES_MEM, FORE_RES_N } ForeResource;
/* vCPUs are counted in vCPUs (1.0 = one vCPU busy), memory in bytes. */
extern const char *const fore_resource_names[FORE_RES_N]; /* "vcpu", "mem" */

/* One column of a sample.  Rates are per second over the sample's interval. */
typedef enum {
    /* what the guest used, from the SEA, checked against the host */
    FORE_FIELD_CPU_BUSY,      /* vCPUs busy, 0..online */
    FORE_FIELD_RUNNABLE,      /* tasks runnable or running, averaged over the interval */
    FORE_FIELD_PSI_CPU,       /* share of time some task waited for a CPU, 0..1 */
    FORE_FIELD_PSI_MEM,       /* share of time some task stalled on memory, 0..1 */
    FORE_FIELD_MEM_USED,      /* bytes: MemTotal - MemAvailable */
    FORE_FIELD_MEM_AVAILABLE, /* bytes */
    FORE_FIELD_SWAP_OUT,      /* pages per second */
    /* what it had */
    FORE_FIELD_ONLINE_VCPUS,
    FORE_FIELD_MEM_TOTAL, /* bytes, guest's MemTotal */
    /* demand: usage with censoring undone (fore_usage_demand), what the forecaster learns */
    FORE_FIELD_DEMAND_VCPU, /* vCPUs */
    FORE_FIELD_DEMAND_MEM,  /* bytes */
    /* execution pattern, from the profile page, summed over vCPUs */
    FORE_FIELD_INSNS,    /* instructions per second */
    FORE_FIELD_LOADS,    /* per second */
    FORE_FIELD_STORES,   /* per second */
    FORE_FIELD_SYSCALLS, /* per second */
    FORE_FIELD_IDLE,     /* share of vCPU time idle, 0..1 */
    /* new ones go to the end: a store knows a field by its number */
    FORE_FIELD_PSI_IO, /* share of time some task stalled on I/O, 0..1 */
    FORE_FIELD_UPTIME, /* seconds since the guest booted */
    /* more of the execution pattern, from profile levels standard and full */
    FORE_FIELD_MIX_SIMD,       /* share of instructions that are SIMD or floating point, 0..1 */
    FORE_FIELD_MIX_STRING,     /* share that move or compare strings, 0..1 */
    FORE_FIELD_SYSCALL_FILE,   /* share of system calls that read, write or open files, 0..1 */
    FORE_FIELD_SYSCALL_NET,    /* share that use sockets, 0..1 */
    FORE_FIELD_SPACE_SWITCHES, /* switches of the address space, per second */
    FORE_FIELD_SPACE_TOP,      /* share of vCPU time in the busiest address space, 0..1 */
    FORE_FIELD_WORKING_SET,    /* bytes touched lately */
    FORE_FIELD_SIGNATURE_A,    /* three foldings of the execution signature, each 0..1 */
    FORE_FIELD_SIGNATURE_B,
    FORE_FIELD_SIGNATURE_C,
    /* what an application in the guest has announced of itself */
    FORE_FIELD_NEXT_IN,       /* seconds until the phase that it announced */
    FORE_FIELD_RESERVED_VCPU, /* vCPUs that it will need then */
    FORE_FIELD_RESERVED_MEM,  /* bytes */
    FORE_FIELD_N
} ForeField;
extern const char *const fore_field_names[FORE_FIELD_N]; /* "cpu_busy", "runnable", ... */

/* (1) One interval of one VM.  A field that is not in @valid holds no meaning (not zero). */
typedef struct {
    uint64_t mono_ns; /* end of the interval, CLOCK_MONOTONIC of the host */
    int64_t wall_ms;  /* the same instant, UTC milliseconds since 1970; for display and storage */
    uint32_t valid;   /* bit FORE_FIELD_x: this field was measured */
    double value[FORE_FIELD_N];
} ForeSample;
#define FORE_HAS(s, f) (((s)->valid >> (f)) & 1u)

/* (2) Consecutive samples, oldest first, @step_ns apart; a missing one has valid == 0. */
typedef struct {
    const ForeSample *samples;
    size_t n;
    uint64_t step_ns;
} ForeWindow;

/* (3) Demand as a distribution.  horizon[h] steps ahead; "peak": the maximum over
 * steps 1..horizon[h]. */
#define FORE_N_HORIZON  6
#define FORE_N_QUANTILE 5
extern const unsigned fore_horizons[FORE_N_HORIZON];       /* steps: 1, 2, 3, 5, 8, 12 */
extern const double fore_quantiles[FORE_N_QUANTILE];       /* 0.05, 0.50, 0.75, 0.90, 0.95 */
enum { FORE_Q05, FORE_Q50, FORE_Q75, FORE_Q90, FORE_Q95 }; /* indices into the above */

typedef struct {
    uint64_t mono_ns; /* of the newest sample that it knows */
    uint64_t step_ns; /* length of a step */
    bool valid;       /* false: there is no forecast, use the reactive rule alone */
    bool demoted;     /* the forecaster is behind its baseline: shown, and not used */
    /* [resource][horizon][quantile], in the resource's unit, never negative, rising in quantile */
    double point[FORE_RES_N][FORE_N_HORIZON][FORE_N_QUANTILE]; /* demand at that step */
    double peak[FORE_RES_N][FORE_N_HORIZON][FORE_N_QUANTILE];  /* highest demand up to that step */
} ForeForecast;

/* Three numbers, never one (ledger): what was asked for, what QEMU has, what the guest uses. */
typedef struct {
    unsigned vcpus_requested, vcpus_plugged, vcpus_online;
    uint64_t mem_requested_bytes, mem_plugged_bytes, mem_online_bytes; /* base memory included */
} ForeCapacity;

/* (7) What was used and what there was, for one step of the loop. */
typedef struct {
    uint64_t mono_ns;          /* end of the interval */
    bool valid;                /* false: no trusted report within its maximum age */
    double demand[FORE_RES_N]; /* vCPUs, bytes: usage with censoring undone */
    double used[FORE_RES_N];   /* vCPUs, bytes: as measured */
    bool swapping;             /* the guest swaps out or stalls on memory: never shrink */
    ForeCapacity capacity;
} ForeUsage;

/* (4) What control wants: new totals, not deltas. */
typedef struct {
    uint64_t id; /* of the ledger entry */
    unsigned vcpus;
    uint64_t mem_bytes;
    bool reattest; /* the adjustment passed the threshold: no verdict in hand may be used */
} ForePlan;

/* (5) What came back.  The grant itself is opaque to control/. */
typedef struct {
    uint64_t plan_id;
    bool affirmed;
    unsigned vcpus; /* totals that the grant names */
    uint64_t mem_bytes;
    uint64_t verdict_ns; /* monotonic time of the verdict */
    uint64_t expires_ns; /* monotonic */
    bool must_hold;      /* the signed policy of the VM says: without a verdict, hold */
    char reason[96];     /* stable code(s) when not affirmed, e.g. "guest:pcr-mismatch" */
} ForeGrantRef;

/**
 * fore_usage_demand: undo censoring: what the guest would have used
 * @s: sample; needs CPU_BUSY+ONLINE_VCPUS, MEM_USED+MEM_TOTAL; RUNNABLE, PSI_*, SWAP_OUT help when
 * valid
 * @ret_vcpus: vCPUs; when usage touches the limit (busy >= 0.9 online), the runnable tasks count
 * @ret_mem: bytes; when MemAvailable < 15 % of MemTotal or memory stalls, used * 1.25 and at
 *   least one block more than used
 * Returns: bit 0 set when *ret_vcpus was written, bit 1 when *ret_mem was
 */
unsigned fore_usage_demand(const ForeSample *s, double *ret_vcpus, double *ret_mem);

/** fore_uuid_is_valid: canonical lower-case 8-4-4-4-12 form */
bool fore_uuid_is_valid(const char *text);
/** fore_name_is_valid: 1..FORE_NAME_MAX of [A-Za-z0-9._-], not starting with '.' or '-' */
bool fore_name_is_valid(const char *text);

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The schedule of the demonstration workload: a pure function of a seed.  A cycle is idle, then a
 * preparation that announces the burst by its system calls only, then the burst.  Two runs with
 * one seed see the same phases and the same sizes at the same times.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define FORE_SCHEDULE_MAX_CYCLES       1000u
#define FORE_SCHEDULE_BASE_PERMILLE    100u /* load when idle, 1/1000 vCPU */
#define FORE_SCHEDULE_PREPARE_PERMILLE 220u /* what a preparation adds */

typedef enum {
    FORE_PHASE_STOPPED, /* no schedule runs; left by fore_schedule_init */
    FORE_PHASE_IDLE,    /* base load only */
    FORE_PHASE_PREPARE, /* base load and many small file operations */
    FORE_PHASE_BURST,   /* the offered load and the arena of the cycle */
    FORE_PHASE_DONE,    /* all cycles are over; base load only */
} ForePhase;

/* One cycle; lengths in nanoseconds, in the order in which they come. */
typedef struct {
    uint64_t idle_ns;       /* 13..19 s */
    uint64_t prepare_ns;    /* 4.5..7.5 s */
    uint64_t burst_ns;      /* 7..9 s */
    uint32_t load_permille; /* total offered load of the burst, 2500..2700 */
    uint64_t arena_bytes;   /* memory that the burst wants */
} ForeCycle;

typedef struct {
    uint64_t seed;
    uint32_t n_cycles;
    uint64_t arena_bytes; /* nominal; a cycle's own is within 5 percent, whole MiB */
} ForeSchedule;

/* What holds at one instant. */
typedef struct {
    ForePhase phase;
    uint32_t cycle;         /* 0.. ; n_cycles once done */
    uint32_t load_permille; /* offered to the service, without the preparation's own work */
    uint64_t arena_bytes;   /* 0 outside a burst */
} ForeMoment;

/**
 * fore_random_next: the next 64 bits of SplitMix64 (Steele, Lea, Flood 2014)
 * @state: any value; advanced
 */
uint64_t fore_random_next(uint64_t *state);

/**
 * fore_schedule_init: sets up a schedule
 * @n_cycles: 1..FORE_SCHEDULE_MAX_CYCLES
 * @arena_bytes: nominal size of a burst's memory
 * Returns false, with nothing changed, when @n_cycles is out of range.
 */
bool fore_schedule_init(ForeSchedule *schedule, uint64_t seed, uint32_t n_cycles,
                        uint64_t arena_bytes);

/** fore_schedule_cycle: the lengths and sizes of cycle @index, 0..n_cycles - 1 */
void fore_schedule_cycle(const ForeSchedule *schedule, uint32_t index, ForeCycle *ret_cycle);

/** fore_schedule_at: what holds @elapsed_ns after the start; a schedule of zeros is stopped */
void fore_schedule_at(const ForeSchedule *schedule, uint64_t elapsed_ns, ForeMoment *ret_moment);

/** fore_phase_name: "idle", "preparation", "burst", "done", "stopped" */
const char *fore_phase_name(ForePhase phase);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fore-schedule.h"

#include <assert.h>
#include <stddef.h>

#define MS  UINT64_C(1000000)
#define MIB (UINT64_C(1) << 20)

static const char *const phase_names[] = {"stopped", "idle", "preparation", "burst", "done"};
static_assert(sizeof phase_names / sizeof phase_names[0] == FORE_PHASE_DONE + 1,
              "one name per phase");

uint64_t fore_random_next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Uniform in low..high; the modulo's bias is below 2^-40 for the spans used here. */
static uint64_t uniform(uint64_t *state, uint64_t low, uint64_t high)
{
    return low + fore_random_next(state) % (high - low + 1);
}

bool fore_schedule_init(ForeSchedule *schedule, uint64_t seed, uint32_t n_cycles,
                        uint64_t arena_bytes)
{
    if (n_cycles == 0 || n_cycles > FORE_SCHEDULE_MAX_CYCLES) {
        return false;
    }
    *schedule = (ForeSchedule){.seed = seed, .n_cycles = n_cycles, .arena_bytes = arena_bytes};
    return true;
}

void fore_schedule_cycle(const ForeSchedule *schedule, uint32_t index, ForeCycle *ret_cycle)
{
    uint64_t state = schedule->seed;
    uint64_t spread = schedule->arena_bytes / 20;

    /* A cycle has a generator of its own, so no cycle depends on the ones before it. */
    state = fore_random_next(&state) ^ (index * UINT64_C(0xd1342543de82ef95));
    ret_cycle->idle_ns = uniform(&state, 13000, 19000) * MS;
    ret_cycle->prepare_ns = uniform(&state, 4500, 7500) * MS;
    ret_cycle->burst_ns = uniform(&state, 7000, 9000) * MS;
    ret_cycle->load_permille = (uint32_t)uniform(&state, 2500, 2700);
    ret_cycle->arena_bytes =
        uniform(&state, schedule->arena_bytes - spread, schedule->arena_bytes + spread) / MIB * MIB;
}

void fore_schedule_at(const ForeSchedule *schedule, uint64_t elapsed_ns, ForeMoment *ret_moment)
{
    ForeMoment moment = {.phase = FORE_PHASE_DONE,
                         .cycle = schedule->n_cycles,
                         .load_permille = FORE_SCHEDULE_BASE_PERMILLE};
    uint64_t start_ns = 0;

    if (schedule->n_cycles == 0) {
        moment.phase = FORE_PHASE_STOPPED;
    }
    for (uint32_t i = 0; i < schedule->n_cycles; i++) {
        ForeCycle cycle;
        uint64_t prepare_at, burst_at, end_at;

        fore_schedule_cycle(schedule, i, &cycle);
        prepare_at = start_ns + cycle.idle_ns;
        burst_at = prepare_at + cycle.prepare_ns;
        end_at = burst_at + cycle.burst_ns;
        if (elapsed_ns < end_at) {
            moment.cycle = i;
            moment.phase = elapsed_ns < prepare_at ? FORE_PHASE_IDLE
                           : elapsed_ns < burst_at ? FORE_PHASE_PREPARE
                                                   : FORE_PHASE_BURST;
            if (moment.phase == FORE_PHASE_BURST) {
                moment.load_permille = cycle.load_permille;
                moment.arena_bytes = cycle.arena_bytes;
            }
            break;
        }
        start_ns = end_at;
    }
    *ret_moment = moment;
}

const char *fore_phase_name(ForePhase phase)
{
    return phase_names[phase];
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The request queue of the demonstration workload.  Requests arrive at an offered load that does
 * not depend on how fast they are served; worker threads burn a request's cost in thread CPU time;
 * a request that waited too long is dropped, so the backlog stays bounded.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "fore-arena.h"

#define FORE_SERVICE_WORKERS     3u
#define FORE_SERVICE_COST_NS     UINT64_C(20000000)   /* mean CPU time of a request */
#define FORE_SERVICE_PATIENCE_NS UINT64_C(1500000000) /* then a request is dropped */

typedef struct ForeService ForeService;

typedef struct {
    uint64_t served;  /* requests since the start */
    uint64_t dropped; /* requests since the start: too old, or the queue was full */
    size_t queue;     /* waiting now */
} ForeServiceStats;

/**
 * fore_service_new: starts the workers; NULL with errno set when no thread can be had
 * @arena: memory whose pages the requests visit; borrowed, must outlive the process
 */
ForeService *fore_service_new(ForeArena *arena);

/**
 * fore_service_offer: lets the requests arrive that are due
 * @load_permille: offered load, 1/1000 vCPU, 0..64000
 * @seed: a new value restarts the arrivals; the same value continues them
 * @now_ns: monotonic
 */
void fore_service_offer(ForeService *service, uint32_t load_permille, uint64_t seed,
                        uint64_t now_ns);

/** fore_service_read: counters, consistent with each other */
void fore_service_read(ForeService *service, ForeServiceStats *ret_stats);

/** fore_service_burn: burns @cost_ns of the calling thread's CPU time, stops early at *@stop */
void fore_service_burn(uint64_t cost_ns, const volatile int *stop);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fore-service.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "fore-schedule.h"

#define QUEUE_LENGTH 1024u
#define BUFFER_WORDS 8192u /* 64 KiB: a request's private working set */
#define PASSES       24u   /* over the buffer between two looks at the clock: 0.1 to 1 ms */
#define ARENA_PAGES  64u   /* pages of the arena that a request visits */

typedef struct {
    uint64_t arrival_ns;
    uint64_t cost_ns;
} Request;

struct ForeService {
    pthread_mutex_t lock;
    pthread_cond_t waiting;
    Request queue[QUEUE_LENGTH]; /* under @lock, as all below */
    size_t head;                 /* next to serve */
    ForeServiceStats stats;

    /* The arrivals belong to the one thread that calls fore_service_offer. */
    uint64_t seed;
    uint64_t random;
    uint32_t load_permille;
    uint64_t next_ns;

    ForeArena *arena;
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

void fore_service_burn(uint64_t cost_ns, const volatile int *stop)
{
    static __thread uint64_t buffer[BUFFER_WORDS];
    uint64_t end_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) + cost_ns;
    uint64_t value = end_ns;

    /* The clock is a system call: look seldom, or the service would look like its own preparation.
     */
    while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < end_ns && !(stop && *stop)) {
        for (uint32_t i = 0; i < PASSES * BUFFER_WORDS; i += 2) {
            value = value * UINT64_C(6364136223846793005) + buffer[i % BUFFER_WORDS];
            buffer[i % BUFFER_WORDS] = value;
        }
    }
}

/* Takes the oldest request that is still wanted; waits for one. */
static Request take_request(ForeService *service)
{
    for (;;) {
        Request request;

        while (service->stats.queue == 0) {
            pthread_cond_wait(&service->waiting, &service->lock);
        }
        request = service->queue[service->head];
        service->head = (service->head + 1) % QUEUE_LENGTH;
        service->stats.queue--;
        if (clock_ns(CLOCK_MONOTONIC) - request.arrival_ns <= FORE_SERVICE_PATIENCE_NS) {
            return request;
        }
        service->stats.dropped++;
    }
}

static void *on_worker(void *opaque)
{
    ForeService *service = opaque;

    pthread_mutex_lock(&service->lock);
    for (;;) {
        Request request = take_request(service);

        pthread_mutex_unlock(&service->lock);
        fore_arena_visit(service->arena, request.arrival_ns, ARENA_PAGES);
        fore_service_burn(request.cost_ns, NULL);
        pthread_mutex_lock(&service->lock);
        service->stats.served++;
    }
    return NULL;
}

ForeService *fore_service_new(ForeArena *arena)
{
    ForeService *service = calloc(1, sizeof *service);

    if (!service) {
        return NULL;
    }
    pthread_mutex_init(&service->lock, NULL);
    pthread_cond_init(&service->waiting, NULL);
    service->arena = arena;
    for (uint32_t i = 0; i < FORE_SERVICE_WORKERS; i++) {
        pthread_t thread;
        int err = pthread_create(&thread, NULL, on_worker, service);

        if (err != 0) {
            /* Workers that run already use it: the caller exits, so it is not freed. */
            errno = err;
            return NULL;
        }
        pthread_detach(thread);
    }
    return service;
}

static void add_request(ForeService *service, const Request *request)
{
    pthread_mutex_lock(&service->lock);
    if (service->stats.queue == QUEUE_LENGTH) {
        service->stats.dropped++;
    } else {
        service->queue[(service->head + service->stats.queue) % QUEUE_LENGTH] = *request;
        service->stats.queue++;
        pthread_cond_signal(&service->waiting);
    }
    pthread_mutex_unlock(&service->lock);
}

/* A factor of 0.5..1.5 on @mean, so that neither gaps nor costs are regular. */
static uint64_t jitter(ForeService *service, uint64_t mean)
{
    return mean / 2 + fore_random_next(&service->random) % (mean + 1);
}

void fore_service_offer(ForeService *service, uint32_t load_permille, uint64_t seed,
                        uint64_t now_ns)
{
    if (seed != service->seed || load_permille != service->load_permille) {
        service->seed = seed;
        service->load_permille = load_permille;
        service->random = seed ^ load_permille;
        service->next_ns = now_ns;
    }
    if (load_permille == 0) {
        return;
    }
    while (service->next_ns <= now_ns) {
        Request request = {.arrival_ns = service->next_ns,
                           .cost_ns = jitter(service, FORE_SERVICE_COST_NS)};

        add_request(service, &request);
        service->next_ns += jitter(service, FORE_SERVICE_COST_NS * 1000 / load_permille);
    }
}

void fore_service_read(ForeService *service, ForeServiceStats *ret_stats)
{
    pthread_mutex_lock(&service->lock);
    *ret_stats = service->stats;
    pthread_mutex_unlock(&service->lock);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One job after the other in a thread of its own, for work that blocks: the vTPM, sysfs writes. The
 * thread starts with the first job and is joined when the worker is freed.
 */
#include <glib.h>
#include <stdbool.h>

#define FORE_SEA_JOBS_MAX 16 /* waiting in one worker */

typedef struct ForeSeaWorker ForeSeaWorker;
typedef struct ForeSeaJob ForeSeaJob;

/* Embedded as the first member of what the job needs. */
struct ForeSeaJob {
    void (*run)(ForeSeaJob *job); /* in the thread; nobody else touches the job meanwhile */
    /* In the worker's context, once for each job: frees it.  @ran: false when the worker was freed
     * before: only answer and free. */
    void (*done)(ForeSeaJob *job, bool ran);
};

ForeSeaWorker *fore_sea_worker_new(GMainContext *context);
/** fore_sea_worker_free: waits for the job that runs, then ends all with done(job, false) */
void fore_sea_worker_free(ForeSeaWorker *worker);

/** fore_sea_worker_push: takes @job; false (and the job stays the caller's) when it has
 *  FORE_SEA_JOBS_MAX waiting */
bool fore_sea_worker_push(ForeSeaWorker *worker, ForeSeaJob *job);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Training in a thread of its own: history is read first, in the caller's thread.  What kill -9
 * leaves behind is a checkpoint, from which another job goes on to the same weights.
 */
#include "common/fore-signed.h"
#include "forecast/fore-forecaster.h"
#include "profile/fore-store.h"

typedef struct ForeTrainJob ForeTrainJob;
typedef void (*ForeTrainTell)(const ForeTrainProgress *progress, gpointer data);
/** ForeTrainDone: @model (borrowed) or @error; called once from the loop; may free the job */
typedef void (*ForeTrainDone)(ForeModel *model, const GError *error, gpointer data);

typedef struct {
    const char *name;       /* NULL: all VMs with history */
    ForeTrainConfig config; /* seed and epochs; a resumed training has its own */
    bool resume;            /* go on from the checkpoint; @name and @config are those of then */
    const char *checkpoint; /* path; written every few seconds, removed at the end */
    EVP_PKEY *key;          /* signs the checkpoint; borrowed for the life of the job */
} ForeTrainOrder;

/**
 * fore_train_job_new:
 * Errors: FORE_ERROR_INVALID (no history; or a checkpoint that no longer fits it),
 * FORE_ERROR_NOT_FOUND (nothing to resume), FORE_ERROR_UNTRUSTED (a checkpoint of another host)
 */
ForeTrainJob *fore_train_job_new(GMainContext *context, ForeStore *store,
                                 const ForeTrainOrder *order, ForeTrainTell tell,
                                 ForeTrainDone done, gpointer data, GError **error);
/** fore_train_job_free: stops it (waits for the current epoch) when it still runs.  NULL allowed.
 */
void fore_train_job_free(ForeTrainJob *job);

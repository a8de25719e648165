/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Training in a thread of its own: history is read first, in the caller's thread. */
#include "forecast/fore-forecaster.h"
#include "profile/fore-store.h"

typedef struct ForeTrainJob ForeTrainJob;
typedef void (*ForeTrainTell)(const ForeTrainProgress *progress, gpointer data);
/** ForeTrainDone: @model (borrowed) or @error; called once from the loop; may free the job */
typedef void (*ForeTrainDone)(ForeModel *model, const GError *error, gpointer data);

/** fore_train_job_new: @name NULL: all VMs with history. Errors: FORE_ERROR_INVALID (no history) */
ForeTrainJob *fore_train_job_new(GMainContext *context, ForeStore *store, const char *name,
                                 const ForeTrainConfig *config, ForeTrainTell tell,
                                 ForeTrainDone done, gpointer data, GError **error);
/** fore_train_job_free: stops it (waits for the current epoch) when it still runs.  NULL allowed.
 */
void fore_train_job_free(ForeTrainJob *job);

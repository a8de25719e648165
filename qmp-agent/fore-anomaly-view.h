/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A VM's anomalies: from the watch into the store and the events, and out again. */
#include "qmp-agent/fore-vm.h"

/** fore_anomaly_step: judge vm->sample; record and tell what begins and ends */
void fore_anomaly_step(ForeVm *vm);
/** fore_anomaly_end: record the end of what goes on (the VM goes away) */
void fore_anomaly_end(ForeVm *vm);

/**
 * fore_view_anomalies: query-anomalies (docs/wire-format.md)
 * @args: name, from-ms, to-ms, min-score, limit, all optional
 * Returns: (transfer full), or NULL.  Errors: FORE_ERROR_INVALID, FORE_ERROR_UNAVAILABLE
 */
json_t *fore_view_anomalies(ForeAgent *agent, const json_t *args, GError **error);

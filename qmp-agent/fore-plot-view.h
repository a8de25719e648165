/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What a picture of one VM needs: its demand, what was forecast for it, and its anomalies. */
#include "qmp-agent/fore-agent.h"

/**
 * fore_view_history: query-history (docs/wire-format.md)
 * @args: name; resource ("vcpu", "mem"), seconds (2..3600), ahead (1, 2, 3, 5, 8 or 12), optional
 * Returns: (transfer full), or NULL.  Errors: INVALID, NOT_FOUND, and those of the store
 */
json_t *fore_view_history(ForeAgent *agent, const json_t *args, GError **error);

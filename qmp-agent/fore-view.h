/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What foreseed shows on its control socket, as JSON (docs/wire-format.md, "foreseed"). */
#include "qmp-agent/fore-vm.h"

json_t *fore_view_vm(const ForeVm *vm);
json_t *fore_view_forecast(const ForeVm *vm);
json_t *fore_view_explain(const ForeVm *vm);
json_t *fore_view_ledger(ForeAgent *agent, const char *vm); /* NULL: all VMs */
json_t *fore_view_attestation(const ForeVm *vm);
json_t *fore_view_status(ForeAgent *agent);

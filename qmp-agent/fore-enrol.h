/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Enrolment of a VM's vTPM with the PAM: foreseed relays between PAM and SEA, and decides nothing.
 */
#include "qmp-agent/fore-vm.h"

/**
 * fore_enrol_start: sea-info, enroll-vm, sea-activate, activate-vm; answers @call at the end
 * @pathway: array of node ids
 * On failure before the exchange begins @error is set and @call is not answered.
 */
void fore_enrol_start(ForeVm *vm, const json_t *pathway, ForeCall *call, GError **error);
/** fore_enrol_forget_vm: @vm goes away; what waits for its SEA ends with FORE_ERROR_NOT_FOUND */
void fore_enrol_forget_vm(ForeVm *vm);

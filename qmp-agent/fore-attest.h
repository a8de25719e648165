/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One attestation of a VM's pathway: PAM `begin`, the SEA's quote, PAM `finish`.  The evidence is
 * opaque here; foreseed adds only the key that it really sees at the other end of the SEA's TLS.
 */
#include "qmp-agent/fore-vm.h"

typedef struct ForeAttest ForeAttest;

/**
 * ForeAttestDone: the end of the exchange, called once from the loop
 * @vm: NULL when the VM was removed meanwhile
 * @ref: verdict for control/; @answer: what `finish` returned (borrowed), NULL when it never came
 */
typedef void (*ForeAttestDone)(ForeVm *vm, const ForeGrantRef *ref, const json_t *answer,
                               gpointer data);

/** fore_attest_start: ask for a grant of @plan's totals; 0 vCPUs: for a verdict alone.  A grant
 *  that is not used still uses up a number, and a SEA takes no number that is 1024 ahead */
void fore_attest_start(ForeVm *vm, const ForePlan *plan, ForeAttestDone done, gpointer data);
/** fore_attest_forget_vm: @vm goes away; its exchanges end with a NULL vm when their answers come
 */
void fore_attest_forget_vm(ForeVm *vm);
/** fore_attest_end_all: the agent ends, its link to the PAM is gone and no answer can come any
 * more: what is under way ends with a NULL vm.  @attests: fore_agent_attests() */
void fore_attest_end_all(GHashTable *attests);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The host agent: its VMs, and what they share: store, ledger, model, PAM connection, event sink.
 * One main loop; threads only for training and for the TPM at start.
 */
#include "common/fore-json.h"
#include "control/fore-ledger.h"
#include "forecast/fore-forecaster.h"
#include "profile/fore-store.h"
#include "qmp-agent/fore-config.h"
#include "qmp-agent/fore-link.h"

typedef struct ForeAgent ForeAgent;
struct ForeVm;

/** ForeAgentEvent: something happened; @ev_data borrowed; @vm NULL when it concerns the host */
typedef void (*ForeAgentEvent)(const char *event, const json_t *ev_data, gpointer data);

/**
 * fore_agent_new: opens the store (key unsealed from the TPM), reads VMs and ledger back, connects
 * @config: (transfer full)
 * Errors: FORE_ERROR_UNAVAILABLE (TPM, disk, another foreseed), FORE_ERROR_UNTRUSTED (key, store)
 */
ForeAgent *fore_agent_new(GMainContext *context, ForeConfig *config, GError **error);
void fore_agent_free(ForeAgent *agent);
/** fore_agent_listen: @fn gets every event from now on (one listener: the control server) */
void fore_agent_listen(ForeAgent *agent, ForeAgentEvent fn, gpointer data);

GMainContext *fore_agent_context(ForeAgent *agent);
const ForeConfig *fore_agent_config(const ForeAgent *agent);
ForeIdentity *fore_agent_identity(ForeAgent *agent);
ForeStore *fore_agent_store(ForeAgent *agent);
ForeLedger *fore_agent_ledger(ForeAgent *agent);
GHashTable *fore_agent_attests(ForeAgent *agent); /* set of ForeAttest under way */
ForeLink *fore_agent_pam(ForeAgent *agent);       /* NULL: no PAM is configured */
ForeModel *fore_agent_model(ForeAgent *agent);    /* NULL: none trained */
uint64_t fore_agent_started_ns(const ForeAgent *agent);

/** fore_agent_emit: an event of @vm (NULL: host): to the listener, and to the store's log when
 * @log.
 *  @ev_data: (transfer full); gets "name" added */
void fore_agent_emit(ForeAgent *agent, struct ForeVm *vm, const char *event, json_t *ev_data,
                     bool log);

/** fore_agent_add: @record as vm-add's arguments. Errors: EXISTS, INVALID, LIMIT, UNAVAILABLE */
struct ForeVm *fore_agent_add(ForeAgent *agent, const json_t *record, GError **error);
bool fore_agent_remove(ForeAgent *agent, const char *name, GError **error);
struct ForeVm *fore_agent_find(ForeAgent *agent, const char *name, GError **error);
GList *fore_agent_vms(ForeAgent *agent); /* of ForeVm, by name; (transfer container) */
/** fore_agent_save: write @vm's record again after a change */
bool fore_agent_save(ForeAgent *agent, struct ForeVm *vm, GError **error);

/**
 * fore_agent_train: train on the history of @name (NULL: all VMs) in a worker thread
 * @resume: go on with the training that was interrupted; @name and @config are those of then
 * Progress comes as TRAIN events, the end as MODEL.  Errors: EXISTS (one is running), INVALID
 * (history), NOT_FOUND (nothing to resume), UNTRUSTED (a checkpoint of another host)
 */
bool fore_agent_train(ForeAgent *agent, const char *name, const ForeTrainConfig *config,
                      bool resume, GError **error);
bool fore_agent_is_training(const ForeAgent *agent);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One VM as foreseed knows it: its three sources (QEMU, profile page, SEA), its forecaster and
 * loop, and the plan that is being carried out.  fore-vm.c samples and steps; fore-act.c carries
 * out actions; fore-view.c shows it.
 */
#include "common/fore-page-rates.h"
#include "common/fore-page.h"
#include "control/fore-loop.h"
#include "forecast/fore-forecaster.h"
#include "profile/fore-watch.h"
#include "qmp-agent/fore-agent.h"
#include "qmp-agent/fore-qmp.h"
#include "qmp-agent/fore-reattest.h"
#include "qmp-agent/fore-stats.h"

#define FORE_USAGE_MAX_AGE_NS (3 * FORE_NS_PER_S)

/* The newest USAGE event, checked against its bounds. */
typedef struct {
    bool have;
    uint64_t at_ns;   /* when it arrived, CLOCK_MONOTONIC */
    uint64_t seq;     /* grows; a step back ends the session */
    uint64_t records; /* reports taken since the daemon started */
    uint32_t valid;   /* FORE_FIELD_x bits */
    double value[FORE_FIELD_N];
} ForeReport;

/* What the SEA says is there; -1/0 until it has said so. */
typedef struct {
    bool have;
    unsigned vcpus_online;
    uint64_t mem_online_bytes;
    unsigned vcpus_ungranted, blocks_ungranted;
} ForeGuestCapacity;

typedef struct ForeVm {
    ForeAgent *agent;
    char *name, *uuid, *qmp_path, *page_path, *sea_path, *vmem_device;
    char **pathway; /* node ids beside the guest */
    ForePolicy policy;
    bool base_known; /* its boot size is in the ledger */
    bool ended;      /* nobody listens on its monitor: its promises were given up */
    bool qmp_told;   /* the last SOURCE event of qmp said ok */

    ForeQmp *qmp;
    ForeStats stats; /* KVM's, over QMP */
    ForeLink *sea;
    ForePage *page;
    char *page_reason;
    uint64_t page_records;
    bool page_have_previous;
    ForePageSnapshot *page_previous, *page_now;

    ForeReport report;
    uint64_t sea_heard_ns; /* when the SEA last said anything, or connected */
    ForeGuestCapacity guest;
    double log_left; /* events that the guest may still cause in the log */
    gint64 log_at_us;
    double mem_hidden; /* bytes of its memory that the guest's MemTotal leaves out (kernel,
                          firmware) */
    double
        mem_total_was; /* MemTotal and online bytes of the report before, to measure it at rest */
    uint64_t mem_online_was;
    unsigned distrust; /* consecutive samples in which the guest claims more than the host saw */
    bool distrusted;

    ForeWatch *watch; /* its anomalies */
    ForeForecaster *forecaster;
    ForeLoop *loop;
    ForeSample sample; /* newest */
    ForeForecast forecast;
    ForeCapacity requested; /* totals last asked for */

    GSList *attests;     /* exchanges under way (fore-attest.h) */
    GSList *enrols;      /* enrolments that wait for its SEA (fore-enrol.h) */
    json_t *verdict;     /* newest answer of the PAM, or NULL */
    uint64_t verdict_ns; /* when it came */
    bool must_hold;      /* what it said of a refusal (on-attest-failure) */
    ForeReattest reattest;
    char *grant; /* newest grant (JWS) and the plan it is for */
    uint64_t grant_plan;
    bool grant_taken;              /* the SEA said yes to it: without that nothing is plugged */
    struct ForeGrow *grow;         /* the growth or release under way, or NULL (fore-act.c) */
    uint64_t entry_of[FORE_RES_N]; /* ledger entries of the plan under way; 0 = none */
    uint64_t entry_plan;
} ForeVm;

/** fore_vm_new: starts connecting to its sources; @record: as stored by fore_vm_record().
 *  Errors: FORE_ERROR_INVALID naming the key */
ForeVm *fore_vm_new(ForeAgent *agent, const json_t *record, GError **error);
void fore_vm_free(ForeVm *vm);
/** fore_vm_record: what is needed to make it again after a restart (transfer full) */
json_t *fore_vm_record(const ForeVm *vm);
/** fore_vm_set_policy: settings by name, all or none. Errors: as fore_policy_set() */
bool fore_vm_set_policy(ForeVm *vm, const json_t *settings, GError **error);
/** fore_vm_set_model: NULL = none */
void fore_vm_set_model(ForeVm *vm, ForeModel *model);
/** fore_vm_observe, fore_vm_decide: the two halves of one step, once a second; between them the
 * agent steps the forecasters of all VMs as one, from vm->sample to vm->forecast */
void fore_vm_observe(ForeVm *vm, uint64_t now_ns);
void fore_vm_decide(ForeVm *vm);
/** fore_vm_capacity: the three numbers, from QEMU and the guest, as known now */
void fore_vm_capacity(const ForeVm *vm, ForeCapacity *ret);
/** fore_vm_feed: hand an event to the loop and carry out what it answers */
void fore_vm_feed(ForeVm *vm, const ForeEvent *event);

/* --- fore-act.c --- */
/** fore_act_run: carry out actions in order */
void fore_act_run(ForeVm *vm, const ForeActions *actions);
/** fore_act_cancel: forget what is under way (the VM goes away) */
void fore_act_cancel(ForeVm *vm);
/** fore_act_guest_changed: the SEA told a new capacity */
void fore_act_guest_changed(ForeVm *vm);

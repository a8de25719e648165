/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Shared by fore-sea.c (life cycle, reports) and fore-sea-commands.c (what the host asks for). */
#include "common/fore-identity.h"
#include "guest-agent/fore-sea-evidence.h"
#include "guest-agent/fore-sea-gate.h"
#include "guest-agent/fore-sea-port.h"
#include "guest-agent/fore-sea-usage.h"
#include "guest-agent/fore-sea-worker.h"
#include "guest-agent/fore-sea.h"

struct ForeSea {
    GMainContext *context;
    const ForeSeaConfig *config;
    ForeIdentity *identity;
    ForeSeaKeys *keys;         /* until the evidence has them */
    ForeSeaEvidence *evidence; /* only the worker's jobs touch it */
    ForeSeaWorker *worker;     /* TPM commands and log reads, one after the other */
    ForeSeaGate *gate;
    ForeSeaPort *port;
    ForeSeaUsage *usage;
    unsigned interval_ms;
    unsigned looks; /* at the run queue since the newest report */
    uint64_t seq;   /* of the newest report */
    GSource *tick, *second;
    unsigned seconds;     /* since it started */
    uint32_t pcr_updates; /* as the newest look found it */
    bool pcr_updates_known, looking;
};

/** fore_sea_command: answer one command of the host, now or when the worker is done */
void fore_sea_command(ForeSea *sea, ForeCall *call);
/** fore_sea_set_interval: begin a new interval of @ms, FORE_SEA_INTERVAL_MIN.._MAX */
void fore_sea_set_interval(ForeSea *sea, unsigned ms);
/** fore_sea_look_for_change: tells the host when PCRs changed since the look before */
void fore_sea_look_for_change(ForeSea *sea);

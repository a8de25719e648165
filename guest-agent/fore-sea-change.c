/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells the host that what this guest would quote has changed.  How it works: the TPM counts the
 * changes of its PCRs, and IMA's list is among them by PCR 10; one short command every other second
 * compares the count.  The first look is queued before any command of a host can be, and changes
 * that fell into a time without a host are told to the next one, so none is missed.  It is a hint
 * that saves time, never evidence: a guest that keeps silent is found out by the age of its
 * verdict.
 */
#include "guest-agent/fore-sea-priv.h"

typedef struct {
    ForeSeaJob job;
    ForeSea *sea;
    uint32_t updates;
    bool ok;
} Look;

static void run(ForeSeaJob *base)
{
    Look *look = (Look *)base;

    /* No TPM, or a busy one: the host learns that when it asks for evidence. */
    look->ok = fore_sea_evidence_changes(look->sea->evidence, &look->updates, NULL);
}

static void done(ForeSeaJob *base, bool ran)
{
    Look *look = (Look *)base;
    ForeSea *sea = look->sea;

    if (ran) {
        sea->looking = false;
        if (look->ok && sea->pcr_updates_known && look->updates != sea->pcr_updates) {
            fore_sea_port_event(sea->port, "EVIDENCE_CHANGED",
                                json_pack("{s:I}", "pcr-updates", (json_int_t)look->updates));
        }
        if (look->ok) {
            sea->pcr_updates = look->updates;
            sea->pcr_updates_known = true;
        }
    }
    g_free(look);
}

void fore_sea_look_for_change(ForeSea *sea)
{
    Look *look;

    if (sea->looking) {
        return; /* the TPM is slow: one look at a time */
    }
    look = g_new0(Look, 1);
    look->job = (ForeSeaJob){run, done};
    look->sea = sea;
    sea->looking = fore_sea_worker_push(sea->worker, &look->job);
    if (!sea->looking) {
        g_free(look);
    }
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The host's ledger of promises: who was promised what, and how far it got.  Pure: the caller
 * writes each changed entry to disk (FORE_ACTION_JOURNAL) before it acts.  Invariant I1: the sum of
 * promises never exceeds capacity.
 */
#include "common/fore-flow.h"

typedef enum {
    FORE_LEDGER_PLANNED,
    FORE_LEDGER_ATTESTING,
    FORE_LEDGER_GRANTED,
    FORE_LEDGER_RESERVED,
    FORE_LEDGER_PLUGGING,
    FORE_LEDGER_PLUGGED,
    FORE_LEDGER_ONLINING,
    FORE_LEDGER_ONLINE,
    FORE_LEDGER_RELEASING,
    FORE_LEDGER_RELEASED,
    FORE_LEDGER_FAILED,
    FORE_LEDGER_N
} ForeLedgerState;
extern const char *const fore_ledger_state_names[FORE_LEDGER_N];

typedef struct {
    uint64_t id; /* grows, never reused */
    char vm[FORE_NAME_MAX + 1];
    ForeResource resource;
    ForeLedgerState state;
    double from, to;       /* totals before and after, vCPUs or bytes */
    uint64_t plan_id;      /* entries of one plan share its grant */
    int64_t since_mono_ns; /* when this state was entered */
    char reason[96];       /* FAILED, or why a state was left early */
} ForeLedgerEntry;

typedef struct ForeLedger ForeLedger;

/**
 * fore_ledger_new
 * @vcpus: what may be promised in all, vCPUs (cores x overcommit less the host's reserve)
 * @mem_bytes: bytes, less the host's reserve
 */
ForeLedger *fore_ledger_new(double vcpus, double mem_bytes);
void fore_ledger_free(ForeLedger *ledger);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeLedger, fore_ledger_free)

/**
 * fore_ledger_set_base: what a VM holds without any entry (boot size); adds the VM when it is new
 * Errors: FORE_ERROR_LIMIT (does not fit; nothing changed), FORE_ERROR_INVALID (name, NaN,
 * negative)
 */
bool fore_ledger_set_base(ForeLedger *ledger, const char *vm, double vcpus, double mem_bytes,
                          GError **error);
void fore_ledger_remove_vm(ForeLedger *ledger, const char *vm);
/**
 * fore_ledger_restore: put back an entry read from disk at start, in any state and any order
 * Unfinished ones are charged until FORE_EVENT_CAPACITY settles them; of the final ones the newest
 * says what the VM holds.  Charged even when it is past capacity: it is already there. Errors:
 * FORE_ERROR_INVALID (malformed entry), FORE_ERROR_EXISTS (id known, or a second open one of the
 * same VM and resource)
 */
bool fore_ledger_restore(ForeLedger *ledger, const ForeLedgerEntry *entry, GError **error);
/** fore_ledger_promised / _capacity: of a resource, over all VMs */
double fore_ledger_promised(const ForeLedger *ledger, ForeResource resource);
double fore_ledger_capacity(const ForeLedger *ledger, ForeResource resource);
/** fore_ledger_list: entries of @vm (NULL: all) that are not yet final, plus the newest @n_final
 * final ones, oldest first. Returns: (transfer full) GArray of ForeLedgerEntry */
GArray *fore_ledger_list(const ForeLedger *ledger, const char *vm, unsigned n_final);

/* --- for the loop --- */
/** fore_ledger_plan: reserve the difference @to - @from; false + LIMIT when it would pass capacity
 */
bool fore_ledger_plan(ForeLedger *ledger, const char *vm, ForeResource resource, uint64_t plan_id,
                      double from, double to, uint64_t now_ns, ForeLedgerEntry *ret,
                      GError **error);
/** fore_ledger_next_id: a new id, for a plan; entries and plans share one numbering */
uint64_t fore_ledger_next_id(ForeLedger *ledger);
/** fore_ledger_move: change state; false when the table forbids it (then nothing changed) */
bool fore_ledger_move(ForeLedger *ledger, uint64_t id, ForeLedgerState to, const char *reason,
                      uint64_t now_ns, ForeLedgerEntry *ret);
/** fore_ledger_transition_allowed: the table itself */
bool fore_ledger_transition_allowed(ForeLedgerState from, ForeLedgerState to);
/**
 * fore_ledger_settle: end an open entry with what is true now
 * @state: ONLINE, RELEASED or FAILED; states on the way to ONLINE or RELEASED are passed through
 * @to: the total that was reached (written to the entry unless FAILED)
 * @charge: what the VM holds of the resource from now on, whatever the entry says
 * Returns: false when the entry is unknown, final, or of the other direction
 */
bool fore_ledger_settle(ForeLedger *ledger, uint64_t id, ForeLedgerState state, double to,
                        double charge, const char *reason, uint64_t now_ns, ForeLedgerEntry *ret);
/** fore_ledger_sync: truth re-read: what @vm holds; no effect on open entries or unknown VMs */
void fore_ledger_sync(ForeLedger *ledger, const char *vm, ForeResource resource, double charge);
/** fore_ledger_room: the highest total that @vm could be promised now; 0 for an unknown VM */
double fore_ledger_room(const ForeLedger *ledger, const char *vm, ForeResource resource);
/** fore_ledger_charge: what is charged to @vm now; 0 for an unknown VM */
double fore_ledger_charge(const ForeLedger *ledger, const char *vm, ForeResource resource);
/** fore_ledger_get: a copy of entry @id; false when unknown (final ones are forgotten after a
 * while) */
bool fore_ledger_get(const ForeLedger *ledger, uint64_t id, ForeLedgerEntry *ret);
/** fore_ledger_state_is_final: ONLINE, RELEASED, FAILED */
bool fore_ledger_state_is_final(ForeLedgerState state);

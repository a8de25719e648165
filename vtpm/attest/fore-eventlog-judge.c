/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  One pass reads, replays and looks at each event; findings of policy are kept until
 * the replay has been compared with the proved PCRs, because what an unproved log says is worth
 * nothing, not even as a reason.
 *
 * An event's type is not measured, so whoever holds the log can relabel: hide the event that says
 * "Secure Boot is off" behind a type nobody looks at, and extend a nicer copy later.  What holds
 * against it:
 *   - only types of the profile may be extended, never EV_UNUSED;
 *   - a digest of separator bytes under another type in PCR 0-7 is refused, and so is an
 *     EV_SEPARATOR whose digest is another: the border between firmware and what follows is where
 *     the digests say it is;
 *   - in PCR 7 every event's data must hash to its digest and parse as its type says, the
 *     configuration must stand before the separator, each variable once.  A copy that was extended
 *     later comes after the separator.
 *   - forbidden images are looked for among all digests of all types, listed events by digest only.
 * Left out: device paths (nothing here needs them) and the order of events of different PCRs, which
 * no PCR records.
 */
#include "vtpm/attest/fore-eventlog.h"

#include <stdlib.h>
#include <string.h>

#include "vtpm/attest/fore-public.h"

#define EVIDENCE_PCRS 0x0000ffffu
#define SHIM_TAIL     8 /* bytes, see data_fits() */

/* Variables of PCR 7, as bits */
static const char *const variables[] = {"SecureBoot", "PK", "KEK", "db", "dbx"};
enum { VAR_SECURE_BOOT, VAR_PK, VAR_KEK, VAR_DB, VAR_DBX, VAR_N };
#define VARS_ALL ((1u << VAR_N) - 1)
G_STATIC_ASSERT(G_N_ELEMENTS(variables) == VAR_N);

typedef struct {
    const ForeEventlogPolicy *policy;
    ForeEventlogResult *ret;
    ForeHash hash;
    uint8_t sep_zero[32], sep_ff[32];
    uint32_t listed;    /* PCRs for which policy->events has an entry */
    uint32_t separated; /* PCRs whose separator was seen */
    unsigned vars;      /* bits of variables seen in PCR 7 */
    bool pk_empty, on, off, audit;
    bool unprovable;   /* something in PCR 7 does not say what it is */
    unsigned handover; /* 1: ExitBootServices called, 2: returned with success */
    ForeEventlogReason finding;
} Judge;

int fore_pcr_digest_compare(const void *a, const void *b)
{
    const ForePcrDigest *x = a, *y = b;

    return x->pcr != y->pcr ? (x->pcr < y->pcr ? -1 : 1) : memcmp(x->digest, y->digest, 32);
}

static void find(Judge *j, const ForeEvent *event, ForeEventlogReason reason)
{
    if (j->finding == FORE_EVENTLOG_OK && reason != FORE_EVENTLOG_OK) {
        j->finding = reason;
        j->ret->pcr = event->pcr;
        j->ret->offset = event->offset;
    }
}

static bool hashes_to(Judge *j, const ForeEvent *event, size_t size)
{
    uint8_t digest[32];

    fore_hash_of(&j->hash, event->data, size, NULL, 0, digest);
    return memcmp(digest, event->digest, sizeof(digest)) == 0;
}

/* Old shims log up to 8 bytes more than the structure has, and measure all but the last of them.
 * What the structure declares is measured in any case. */
static bool authority_fits(Judge *j, const ForeEvent *event, const ForeEfiVariable *var)
{
    return hashes_to(j, event, event->size) ||
           (var->tail >= 1 && var->tail <= SHIM_TAIL && hashes_to(j, event, event->size - 1));
}

static bool says(const ForeEvent *event, const char *text)
{
    size_t n = strlen(text);

    return (event->size == n || (event->size == n + 1 && event->data[n] == 0)) &&
           memcmp(event->data, text, n) == 0;
}

/* --- PCR 7 --- */

static ForeEventlogReason on_config(Judge *j, const ForeEvent *event)
{
    ForeEfiVariable var;
    unsigned k = 0;

    if (!fore_efi_variable_init(&var, event->data, event->size) || var.tail != 0) {
        return FORE_EVENTLOG_DATA_MALFORMED;
    }
    if (!hashes_to(j, event, event->size)) {
        return FORE_EVENTLOG_DATA_MISMATCH;
    }
    if ((j->separated >> 7 & 1u) != 0) {
        return FORE_EVENTLOG_ORDER;
    }
    while (k < VAR_N && !fore_efi_variable_is(&var, variables[k])) {
        k++;
    }
    if (k < VAR_N && (j->vars >> k & 1u) != 0) {
        return FORE_EVENTLOG_ORDER;
    }
    j->vars |= k < VAR_N ? 1u << k : 0;
    if (k == VAR_SECURE_BOOT) {
        j->on = var.size == 1 && var.data[0] == 1;
        j->off = var.size == 1 && var.data[0] == 0;
    } else if (k == VAR_PK) {
        j->pk_empty = var.size == 0;
    } else if (fore_efi_variable_is(&var, "AuditMode")) {
        j->audit = j->audit || var.size != 1 || var.data[0] != 0;
    }
    return FORE_EVENTLOG_OK;
}

static ForeEventlogReason on_authority(Judge *j, const ForeEvent *event)
{
    const ForeDbx *dbx = j->policy->dbx;
    ForeEfiVariable var;

    if (!fore_efi_variable_init(&var, event->data, event->size) || var.tail > SHIM_TAIL) {
        return FORE_EVENTLOG_DATA_MALFORMED;
    }
    if (!authority_fits(j, event, &var)) {
        return FORE_EVENTLOG_DATA_MISMATCH;
    }
    /* EFI_SIGNATURE_DATA (owner and certificate), or what shim logs: the certificate alone.  Or the
     * digest of an image that db lists itself. */
    if (fore_dbx_has_cert(dbx, var.data, var.size) ||
        (var.size > 16 && fore_dbx_has_cert(dbx, var.data + 16, var.size - 16)) ||
        (var.size == 48 && fore_dbx_has_digest(dbx, var.data + 16))) {
        return FORE_EVENTLOG_FORBIDDEN;
    }
    return FORE_EVENTLOG_OK;
}

static ForeEventlogReason on_pcr7(Judge *j, const ForeEvent *event)
{
    switch (event->type) {
    case FORE_EV_SEPARATOR: /* judged for all PCRs alike */
        return FORE_EVENTLOG_OK;
    case FORE_EV_EFI_VARIABLE_DRIVER_CONFIG:
        return on_config(j, event);
    case FORE_EV_EFI_VARIABLE_AUTHORITY:
        return on_authority(j, event);
    case FORE_EV_EFI_ACTION:
        if (!hashes_to(j, event, event->size)) {
            return FORE_EVENTLOG_DATA_MISMATCH;
        }
        if (!says(event, "UEFI Debug Mode") && !says(event, "DMA Protection Disabled")) {
            return FORE_EVENTLOG_DISGUISED;
        }
        j->ret->debug = true;
        return j->policy->allow_debug ? FORE_EVENTLOG_OK : FORE_EVENTLOG_DEBUG;
    default:
        return FORE_EVENTLOG_DISGUISED;
    }
}

/* Refuses only where policy looks into PCR 7; else Secure Boot is simply not known. */
static void judge_pcr7(Judge *j, const ForeEvent *event)
{
    ForeEventlogReason reason = on_pcr7(j, event);

    if (reason == FORE_EVENTLOG_OK) {
        return;
    }
    j->unprovable = true;
    if (j->policy->require_secure_boot || j->policy->dbx != NULL) {
        find(j, event, reason);
    }
}

/* --- every measured PCR --- */

static ForeEventlogReason on_separator(Judge *j, const ForeEvent *event)
{
    bool again = (j->separated >> event->pcr & 1u) != 0;

    if (!hashes_to(j, event, event->size)) {
        return FORE_EVENTLOG_DISGUISED;
    }
    j->separated |= 1u << event->pcr;
    if (memcmp(event->digest, j->sep_zero, 32) != 0 &&
        (memcmp(event->digest, j->sep_ff, 32) != 0 || !j->policy->allow_separator_ff)) {
        return FORE_EVENTLOG_SEPARATOR_ERROR;
    }
    if (again && j->policy->allow_duplicate_separator) {
        j->ret->separator_odd = true;
        return FORE_EVENTLOG_OK;
    }
    return again ? FORE_EVENTLOG_SEPARATOR_TWICE : FORE_EVENTLOG_OK;
}

static ForeEventlogReason on_firmware_pcr(Judge *j, const ForeEvent *event)
{
    bool like_separator =
        memcmp(event->digest, j->sep_zero, 32) == 0 || memcmp(event->digest, j->sep_ff, 32) == 0;

    if (event->type == FORE_EV_SEPARATOR) {
        return on_separator(j, event);
    }
    if (like_separator) {
        return FORE_EVENTLOG_DISGUISED;
    }
    if (event->pcr == 4 && event->type == FORE_EV_EFI_BOOT_SERVICES_APPLICATION &&
        (j->separated >> 4 & 1u) == 0) {
        j->ret->early_application = true;
        return j->policy->allow_early_application ? FORE_EVENTLOG_OK : FORE_EVENTLOG_ORDER;
    }
    return FORE_EVENTLOG_OK;
}

static void on_handover(Judge *j, const ForeEvent *event)
{
    if (event->type != FORE_EV_EFI_ACTION || !hashes_to(j, event, event->size)) {
        return;
    }
    if (says(event, "Exit Boot Services Invocation")) {
        j->handover = 1;
    } else if (j->handover == 1 && says(event, "Exit Boot Services Returned with Success")) {
        j->handover = 2;
    }
}

static bool type_allowed(const ForeEventlogPolicy *policy, uint32_t type)
{
    for (size_t i = 0; i < policy->n_vendor_types; i++) {
        if (policy->vendor_types[i] == type) {
            return true;
        }
    }
    return fore_eventlog_type_known(type);
}

static void judge_event(Judge *j, const ForeEvent *event)
{
    ForePcrDigest key = {.pcr = (uint8_t)event->pcr};

    if (event->type == FORE_EV_NO_ACTION || (j->policy->pcr_mask >> event->pcr & 1u) == 0) {
        return;
    }
    if (!type_allowed(j->policy, event->type)) {
        find(j, event, FORE_EVENTLOG_UNKNOWN_TYPE);
    }
    if (fore_dbx_has_digest(j->policy->dbx, event->digest)) {
        find(j, event, FORE_EVENTLOG_FORBIDDEN);
    }
    if ((j->listed >> event->pcr & 1u) != 0) {
        memcpy(key.digest, event->digest, 32);
        if (bsearch(&key, j->policy->events, j->policy->n_events, sizeof(key),
                    fore_pcr_digest_compare) == NULL) {
            find(j, event, FORE_EVENTLOG_UNLISTED);
        }
    }
    if (event->pcr == 7) {
        judge_pcr7(j, event); /* before the separator is noted */
    }
    if (event->pcr < 8) {
        find(j, event, on_firmware_pcr(j, event));
    }
    if (event->pcr == 5) {
        on_handover(j, event);
    }
}

/* --- before and after --- */

static bool policy_usable(const ForeEventlogPolicy *policy, uint32_t *ret_listed)
{
    uint32_t listed = 0;

    if (policy->pcr_mask == 0 || (policy->pcr_mask & ~EVIDENCE_PCRS) != 0 ||
        (policy->require_secure_boot && (policy->pcr_mask >> 7 & 1u) == 0) ||
        (policy->require_exit_boot_services && (policy->pcr_mask >> 5 & 1u) == 0)) {
        return false;
    }
    for (size_t i = 0; i < policy->n_events; i++) {
        if (policy->events[i].pcr >= 16 || (policy->pcr_mask >> policy->events[i].pcr & 1u) == 0 ||
            (i > 0 && fore_pcr_digest_compare(&policy->events[i - 1], &policy->events[i]) > 0)) {
            return false; /* unsorted: a search would miss entries */
        }
        listed |= 1u << policy->events[i].pcr;
    }
    *ret_listed = listed;
    return true;
}

/* What replay gives must be what was proved. */
static ForeEventlogReason compare(const Judge *j, const uint8_t (*proved)[32],
                                  ForeEventlogResult *ret)
{
    for (uint32_t pcr = 0; pcr < 16; pcr++) {
        if ((j->policy->pcr_mask >> pcr & 1u) == 0 ||
            memcmp(ret->replay.pcrs[pcr], proved[pcr], 32) == 0) {
            continue;
        }
        ret->pcr = pcr;
        ret->offset = 0;
        return (ret->replay.extended >> pcr & 1u) != 0 ? FORE_EVENTLOG_REPLAY
                                                       : FORE_EVENTLOG_ABSENT;
    }
    return FORE_EVENTLOG_OK;
}

static void judge_whole(Judge *j)
{
    uint32_t missing = j->policy->pcr_mask & 0xffu & ~j->separated;
    ForeEvent whole = {.pcr = 7};

    if (j->ret->secure_boot != FORE_SECURE_BOOT_ON && j->policy->require_secure_boot) {
        find(j, &whole, FORE_EVENTLOG_SECURE_BOOT);
    }
    if (missing != 0) {
        j->ret->separator_odd = true;
        whole.pcr = (uint32_t)__builtin_ctz(missing);
        if (!j->policy->allow_missing_separator) {
            find(j, &whole, FORE_EVENTLOG_SEPARATOR_MISSING);
        }
    }
    whole.pcr = 5;
    if (j->policy->require_exit_boot_services && j->handover != 2) {
        find(j, &whole, FORE_EVENTLOG_NO_HANDOVER);
    }
}

static ForeSecureBoot secure_boot(const Judge *j)
{
    if ((j->policy->pcr_mask >> 7 & 1u) == 0 || j->unprovable || (j->separated >> 7 & 1u) == 0) {
        return FORE_SECURE_BOOT_UNKNOWN;
    }
    if (j->off || j->audit) {
        return FORE_SECURE_BOOT_OFF;
    }
    return j->on && j->vars == VARS_ALL && !j->pk_empty ? FORE_SECURE_BOOT_ON
                                                        : FORE_SECURE_BOOT_UNKNOWN;
}

static ForeEventlogReason run(Judge *j, ForeEventlogReader *reader, const uint8_t (*proved)[32])
{
    static const uint8_t zero[4], ff[4] = {0xff, 0xff, 0xff, 0xff};
    ForeEventlogReason reason = FORE_EVENTLOG_OK;
    ForeEvent event;

    fore_hash_of(&j->hash, zero, sizeof(zero), NULL, 0, j->sep_zero);
    fore_hash_of(&j->hash, ff, sizeof(ff), NULL, 0, j->sep_ff);
    fore_eventlog_replay_init(&j->ret->replay, 32, false);
    while (reason == FORE_EVENTLOG_OK && fore_eventlog_next(reader, &event)) {
        reason = fore_eventlog_replay_event(&j->ret->replay, &j->hash, &event);
        judge_event(j, &event);
    }
    if (reason == FORE_EVENTLOG_OK) {
        reason = reader->reason;
    }
    if (reason != FORE_EVENTLOG_OK) { /* where reading ended, not where policy would have */
        j->ret->pcr = 0;
        j->ret->offset = (size_t)(reader->at - reader->start);
    }
    if (reason == FORE_EVENTLOG_OK) {
        reason = compare(j, proved, j->ret);
    }
    if (reason != FORE_EVENTLOG_OK) {
        return reason;
    }
    j->ret->secure_boot = secure_boot(j);
    judge_whole(j);
    return j->finding;
}

ForeEventlogReason fore_eventlog_judge(GBytes *log, const ForeEventlogPolicy *policy,
                                       const uint8_t (*proved)[32], ForeEventlogResult *ret)
{
    Judge j = {.policy = policy, .ret = ret};
    ForeEventlogReader reader;
    ForeEventlogReason reason;

    memset(ret, 0, sizeof(*ret));
    if (!policy_usable(policy, &j.listed)) {
        return FORE_EVENTLOG_POLICY;
    }
    reason = fore_eventlog_reader_init(&reader, log, FORE_ALG_SHA256);
    if (reason != FORE_EVENTLOG_OK) {
        return reason;
    }
    if (!fore_hash_init(&j.hash, FORE_ALG_SHA256)) {
        return FORE_EVENTLOG_BANK;
    }
    reason = run(&j, &reader, proved);
    fore_hash_done(&j.hash);
    return reason;
}

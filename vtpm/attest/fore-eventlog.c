/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading and replaying.  The first event has the TPM 1.2 layout and declares the banks (PFP 1.06,
 * 10.4.5.1); all others are TCG_PCR_EVENT2 (10.2.2), whose digests can only be skipped with the
 * sizes of that declaration.  Every event must carry the bank that is read: an event that is
 * extended into SHA-1 only would leave no trace in the PCRs that a quote proves.
 */
#include "vtpm/attest/fore-eventlog.h"

#include <string.h>

#include "common/fore-bytes.h"
#include "vtpm/attest/fore-hash.h"
#include "vtpm/attest/fore-public.h"

#define LEGACY_DIGEST 20
#define MAX_DIGEST    128 /* of an algorithm that is only skipped */

static const char *const names[] = {
    [FORE_EVENTLOG_OK] = "ok",
    [FORE_EVENTLOG_MISSING] = "eventlog-missing",
    [FORE_EVENTLOG_TOO_LARGE] = "eventlog-too-large",
    [FORE_EVENTLOG_SPEC_ID] = "eventlog-spec-id",
    [FORE_EVENTLOG_LEGACY] = "eventlog-legacy",
    [FORE_EVENTLOG_BANK] = "eventlog-bank",
    [FORE_EVENTLOG_TRUNCATED] = "eventlog-truncated",
    [FORE_EVENTLOG_MALFORMED] = "eventlog-malformed",
    [FORE_EVENTLOG_LOCALITY] = "eventlog-locality",
    [FORE_EVENTLOG_UNKNOWN_TYPE] = "eventlog-unknown-type",
    [FORE_EVENTLOG_DISGUISED] = "eventlog-disguised",
    [FORE_EVENTLOG_DATA_MISMATCH] = "eventlog-data-mismatch",
    [FORE_EVENTLOG_DATA_MALFORMED] = "eventlog-data-malformed",
    [FORE_EVENTLOG_SEPARATOR_MISSING] = "eventlog-separator-missing",
    [FORE_EVENTLOG_SEPARATOR_TWICE] = "eventlog-separator-twice",
    [FORE_EVENTLOG_SEPARATOR_ERROR] = "eventlog-separator-error",
    [FORE_EVENTLOG_ORDER] = "eventlog-order",
    [FORE_EVENTLOG_SECURE_BOOT] = "eventlog-secure-boot",
    [FORE_EVENTLOG_DEBUG] = "eventlog-debug",
    [FORE_EVENTLOG_FORBIDDEN] = "eventlog-forbidden",
    [FORE_EVENTLOG_UNLISTED] = "eventlog-unlisted",
    [FORE_EVENTLOG_NO_HANDOVER] = "eventlog-no-handover",
    [FORE_EVENTLOG_ABSENT] = "eventlog-absent",
    [FORE_EVENTLOG_REPLAY] = "eventlog-replay-mismatch",
    [FORE_EVENTLOG_POLICY] = "eventlog-bad-policy",
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == FORE_EVENTLOG_N);

const char *fore_eventlog_reason_name(ForeEventlogReason reason)
{
    g_assert(reason < FORE_EVENTLOG_N);
    return names[reason];
}

/* PFP 1.06, tables 14 and 16, and what earlier editions defined.  EV_UNUSED (2) and EV_NO_ACTION
 * (3) are defined, but never extended. */
bool fore_eventlog_type_known(uint32_t type)
{
    if (type >= 0x80000000u) {
        return (type >= 0x80000001u && type <= 0x8000000du) || type == FORE_EV_EFI_HCRTM ||
               (type >= FORE_EV_EFI_VARIABLE_AUTHORITY && type <= 0x800000e4u);
    }
    return type == 0x01 || (type >= FORE_EV_SEPARATOR && type <= 0x13);
}

/* --- the Spec ID event --- */

static ForeEventlogReason read_algs(ForeEventlogReader *reader, ForeCursor *cur)
{
    uint32_t n = fore_cursor_le32(cur);

    if (!fore_cursor_ok(cur) || n == 0 || n > FORE_EVENTLOG_ALGS) {
        return FORE_EVENTLOG_SPEC_ID;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint16_t id = fore_cursor_le16(cur);
        uint16_t size = fore_cursor_le16(cur);
        size_t known = fore_hash_digest_size(id);

        if (!fore_cursor_ok(cur) || size == 0 || size > MAX_DIGEST ||
            (known != 0 && known != size)) {
            return FORE_EVENTLOG_SPEC_ID;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (reader->algs[k].id == id) {
                return FORE_EVENTLOG_SPEC_ID;
            }
        }
        reader->algs[i].id = id;
        reader->algs[i].size = size;
    }
    reader->n_algs = n;
    return FORE_EVENTLOG_OK;
}

static ForeEventlogReason read_spec_id(ForeEventlogReader *reader, const uint8_t *data, size_t size)
{
    ForeEventlogReason reason;
    uint32_t platform;
    uint8_t minor, major, uintn, vendor;
    ForeCursor cur;

    fore_cursor_init(&cur, data, size);
    (void)fore_cursor_take(&cur, 16); /* signature, compared by the caller */
    platform = fore_cursor_le32(&cur);
    minor = fore_cursor_u8(&cur);
    major = fore_cursor_u8(&cur);
    (void)fore_cursor_u8(&cur); /* errata */
    uintn = fore_cursor_u8(&cur);
    reason = read_algs(reader, &cur);
    if (reason != FORE_EVENTLOG_OK) {
        return reason;
    }
    vendor = fore_cursor_u8(&cur);
    (void)fore_cursor_take(&cur, vendor); /* vendor information: allowed, means nothing here */
    return fore_cursor_finished(&cur) && platform <= 1 && major == 2 && minor == 0 && uintn >= 1 &&
                   uintn <= 2
               ? FORE_EVENTLOG_OK
               : FORE_EVENTLOG_SPEC_ID;
}

/* The first event is no Spec ID event of version 2: a log of TPM 1.2 form, or no log at all? */
static ForeEventlogReason not_crypto_agile(uint32_t pcr, uint32_t type, const uint8_t *data,
                                           size_t size)
{
    bool older = type == FORE_EV_NO_ACTION && size >= 16 && memcmp(data, "Spec ID Event0", 14) == 0;

    return pcr < FORE_EVENTLOG_PCRS && (older || fore_eventlog_type_known(type))
               ? FORE_EVENTLOG_LEGACY
               : FORE_EVENTLOG_SPEC_ID;
}

static ForeEventlogReason read_header(ForeEventlogReader *reader)
{
    static const uint8_t zero[LEGACY_DIGEST];
    const uint8_t *digest, *data;
    uint32_t pcr, type, size;
    ForeEventlogReason reason;
    ForeCursor cur;

    fore_cursor_init(&cur, reader->at, reader->left);
    pcr = fore_cursor_le32(&cur);
    type = fore_cursor_le32(&cur);
    digest = fore_cursor_take(&cur, LEGACY_DIGEST);
    size = fore_cursor_le32(&cur);
    data = fore_cursor_take(&cur, size);
    if (!fore_cursor_ok(&cur)) {
        return FORE_EVENTLOG_SPEC_ID;
    }
    if (type != FORE_EV_NO_ACTION || size < 16 || memcmp(data, "Spec ID Event03", 16) != 0) {
        return not_crypto_agile(pcr, type, data, size);
    }
    /* PFP 1.06, 10.4.5.1: PCR 0; the log of a confidential guest has it at index 1. */
    if (pcr > 1 || memcmp(digest, zero, sizeof(zero)) != 0) {
        return FORE_EVENTLOG_SPEC_ID;
    }
    reader->spec_pcr = pcr;
    reason = read_spec_id(reader, data, size);
    reader->at = cur.at;
    reader->left = cur.left;
    return reason;
}

ForeEventlogReason fore_eventlog_reader_init(ForeEventlogReader *reader, GBytes *log, uint16_t bank)
{
    gsize size = 0;
    const uint8_t *data = log != NULL ? g_bytes_get_data(log, &size) : NULL;

    *reader = (ForeEventlogReader){.start = data, .at = data, .left = size, .bank = bank};
    if (size == 0) {
        reader->reason = FORE_EVENTLOG_MISSING;
    } else if (size > FORE_EVENTLOG_MAX) {
        reader->reason = FORE_EVENTLOG_TOO_LARGE;
    } else {
        reader->reason = read_header(reader);
    }
    for (unsigned i = 0; i < reader->n_algs; i++) {
        if (reader->algs[i].id == bank) {
            reader->digest_size = reader->algs[i].size;
        }
    }
    if (reader->reason == FORE_EVENTLOG_OK && reader->digest_size == 0) {
        reader->reason = FORE_EVENTLOG_BANK;
    }
    if (reader->reason != FORE_EVENTLOG_OK) {
        reader->left = 0;
    }
    return reader->reason;
}

void fore_eventlog_reader_allow_padding(ForeEventlogReader *reader)
{
    reader->confidential = true;
}

/* --- events --- */

static bool all(const uint8_t *data, size_t size, uint8_t value)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i] != value) {
            return false;
        }
    }
    return true;
}

static bool read_digests(ForeEventlogReader *reader, ForeCursor *cur, ForeEvent *event)
{
    uint32_t count = fore_cursor_le32(cur);
    unsigned seen = 0; /* bit n: algs[n] */

    if (!fore_cursor_ok(cur) || count == 0 || count > reader->n_algs) {
        reader->reason = FORE_EVENTLOG_MALFORMED;
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint16_t id = fore_cursor_le16(cur);
        unsigned k = 0;
        const uint8_t *digest;

        while (k < reader->n_algs && reader->algs[k].id != id) {
            k++;
        }
        if (!fore_cursor_ok(cur) || k == reader->n_algs || (seen >> k & 1u) != 0) {
            reader->reason = FORE_EVENTLOG_MALFORMED;
            return false;
        }
        seen |= 1u << k;
        digest = fore_cursor_take(cur, reader->algs[k].size);
        if (id == reader->bank) {
            event->digest = digest;
        }
    }
    return true;
}

static bool end_with(ForeEventlogReader *reader, ForeEventlogReason reason)
{
    reader->reason = reason;
    reader->left = 0;
    return false;
}

bool fore_eventlog_next(ForeEventlogReader *reader, ForeEvent *ret)
{
    ForeEvent event = {.offset = (size_t)(reader->at - reader->start)};
    ForeCursor cur;

    if (reader->spec_pcr != 0 && !reader->confidential) {
        return end_with(reader, reader->reason != FORE_EVENTLOG_OK ? reader->reason
                                                                   : FORE_EVENTLOG_SPEC_ID);
    }
    if (reader->left == 0 || (reader->confidential && (all(reader->at, reader->left, 0xff) ||
                                                       all(reader->at, reader->left, 0)))) {
        return end_with(reader, reader->reason);
    }
    fore_cursor_init(&cur, reader->at, reader->left);
    event.pcr = fore_cursor_le32(&cur);
    event.type = fore_cursor_le32(&cur);
    if (!read_digests(reader, &cur, &event)) {
        return end_with(reader, fore_cursor_ok(&cur) ? reader->reason : FORE_EVENTLOG_TRUNCATED);
    }
    event.size = fore_cursor_le32(&cur);
    event.data = fore_cursor_take(&cur, event.size);
    if (!fore_cursor_ok(&cur)) {
        return end_with(reader, FORE_EVENTLOG_TRUNCATED);
    }
    if (event.type == FORE_EV_NO_ACTION) {
        event.digest = NULL;
    } else if (event.digest == NULL) {
        return end_with(reader, FORE_EVENTLOG_BANK);
    } else if (event.pcr >= FORE_EVENTLOG_PCRS) {
        return end_with(reader, FORE_EVENTLOG_MALFORMED);
    }
    reader->at = cur.at;
    reader->left = cur.left;
    *ret = event;
    return true;
}

/* --- replay --- */

void fore_eventlog_pcr_initial(unsigned pcr, uint8_t locality, bool dynamic, uint8_t *ret,
                               size_t size)
{
    memset(ret, pcr >= 17 && pcr <= 22 && !dynamic ? 0xff : 0x00, size);
    if (pcr == 0) {
        ret[size - 1] = locality;
    }
}

void fore_eventlog_replay_init(ForeEventlogReplay *replay, size_t size, bool dynamic)
{
    memset(replay, 0, sizeof(*replay));
    for (unsigned pcr = 0; pcr < FORE_EVENTLOG_PCRS; pcr++) {
        fore_eventlog_pcr_initial(pcr, 0, dynamic, replay->pcrs[pcr], size);
    }
}

/* PFP 1.06, 10.4.5.3: once, before PCR 0 is extended. */
static ForeEventlogReason startup_locality(ForeEventlogReplay *replay, const ForeEvent *event,
                                           size_t size)
{
    uint8_t locality;

    if (event->size < 16 || memcmp(event->data, "StartupLocality", 16) != 0) {
        return FORE_EVENTLOG_OK; /* SP 800-155 references and the like */
    }
    locality = event->size == 17 ? event->data[16] : 0xff;
    if (event->pcr != 0 || replay->locality_told || (replay->extended & 1u) != 0 ||
        (locality != 0 && locality != 3 && locality != 4)) {
        return FORE_EVENTLOG_LOCALITY;
    }
    replay->locality_told = true;
    replay->startup_locality = locality;
    fore_eventlog_pcr_initial(0, locality, false, replay->pcrs[0], size);
    return FORE_EVENTLOG_OK;
}

ForeEventlogReason fore_eventlog_replay_event(ForeEventlogReplay *replay, ForeHash *hash,
                                              const ForeEvent *event)
{
    replay->n_events++;
    if (event->type == FORE_EV_NO_ACTION) {
        return startup_locality(replay, event, hash->size);
    }
    /* A hardware CRTM measures from locality 4 before the firmware could say so. */
    if (event->type == FORE_EV_EFI_HCRTM && event->pcr == 0 && !replay->locality_told &&
        (replay->extended & 1u) == 0) {
        replay->startup_locality = 4;
        fore_eventlog_pcr_initial(0, 4, false, replay->pcrs[0], hash->size);
    }
    replay->extended |= 1u << event->pcr;
    fore_hash_extend(hash, replay->pcrs[event->pcr], event->digest);
    return FORE_EVENTLOG_OK;
}

ForeEventlogReason fore_eventlog_replay(GBytes *log, uint16_t bank, bool dynamic, bool padded,
                                        ForeEventlogReplay *ret)
{
    g_auto(ForeHash) hash = {0};
    ForeEventlogReader reader;
    ForeEventlogReplay replay;
    ForeEvent event;
    ForeEventlogReason reason = fore_eventlog_reader_init(&reader, log, bank);

    if (reason != FORE_EVENTLOG_OK) {
        return reason;
    }
    if (!fore_hash_init(&hash, bank)) {
        return FORE_EVENTLOG_BANK;
    }
    if (padded) {
        fore_eventlog_reader_allow_padding(&reader);
    }
    fore_eventlog_replay_init(&replay, hash.size, dynamic);
    while (reason == FORE_EVENTLOG_OK && fore_eventlog_next(&reader, &event)) {
        reason = fore_eventlog_replay_event(&replay, &hash, &event);
    }
    if (reason == FORE_EVENTLOG_OK) {
        reason = reader.reason;
    }
    if (reason == FORE_EVENTLOG_OK) {
        *ret = replay;
    }
    return reason;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * TCG2 crypto-agile event log (TCG PC Client Platform Firmware Profile 1.06, chapter 10): read in
 * place, replayed into PCR values, and judged.  Nothing a log says of itself is believed: its
 * digests count because their replay must equal PCRs that a quote proves, its data only where it
 * hashes to its digest, and an event's type only as far as a wrong type could hide nothing.
 * Pure, no allocation, one pass.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vtpm/attest/fore-efi.h"
#include "vtpm/attest/fore-hash.h"

#define FORE_EVENTLOG_MAX  (16u << 20) /* bytes */
#define FORE_EVENTLOG_PCRS 24

typedef enum {
    FORE_EVENTLOG_OK,
    FORE_EVENTLOG_MISSING,        /* no log, or an empty one, and policy needs it */
    FORE_EVENTLOG_TOO_LARGE,      /* above FORE_EVENTLOG_MAX */
    FORE_EVENTLOG_SPEC_ID,        /* does not begin with a sound Spec ID event of version 2.0 */
    FORE_EVENTLOG_LEGACY,         /* a SHA-1 log of TPM 1.2 form */
    FORE_EVENTLOG_BANK,           /* the bank is not in the log, or an event lacks its digest */
    FORE_EVENTLOG_TRUNCATED,      /* ends within an event */
    FORE_EVENTLOG_MALFORMED,      /* digest count, unknown algorithm, duplicate, PCR number */
    FORE_EVENTLOG_LOCALITY,       /* StartupLocality late, twice or impossible */
    FORE_EVENTLOG_UNKNOWN_TYPE,   /* an event type nobody defined, or EV_UNUSED, was extended */
    FORE_EVENTLOG_DISGUISED,      /* type does not fit digest: e.g. a relabelled separator */
    FORE_EVENTLOG_DATA_MISMATCH,  /* data that policy uses does not hash to its digest */
    FORE_EVENTLOG_DATA_MALFORMED, /* data that policy uses does not parse */
    FORE_EVENTLOG_SEPARATOR_MISSING,
    FORE_EVENTLOG_SEPARATOR_TWICE,
    FORE_EVENTLOG_SEPARATOR_ERROR, /* firmware recorded an error */
    FORE_EVENTLOG_ORDER,           /* after the separator what belongs before it, or reverse */
    FORE_EVENTLOG_SECURE_BOOT,     /* off, undefined or unmeasured, and policy wants it on */
    FORE_EVENTLOG_DEBUG,           /* firmware debug mode or DMA protection off was measured */
    FORE_EVENTLOG_FORBIDDEN,       /* a measured image or signer is in the forbidden list */
    FORE_EVENTLOG_UNLISTED,        /* an event digest that the policy does not list */
    FORE_EVENTLOG_NO_HANDOVER,     /* ExitBootServices was not measured, and policy wants it */
    FORE_EVENTLOG_ABSENT,          /* PCR proved non-initial, but the log has no event for it */
    FORE_EVENTLOG_REPLAY,          /* replay does not give the proved PCR */
    FORE_EVENTLOG_POLICY,          /* the policy itself is unusable */
    FORE_EVENTLOG_N
} ForeEventlogReason;
/** fore_eventlog_reason_name: stable, e.g. "eventlog-replay-mismatch" */
const char *fore_eventlog_reason_name(ForeEventlogReason reason);

/* TCG event types (PFP 1.06, table 14) that are handled by name */
enum {
    FORE_EV_NO_ACTION = 0x00000003,
    FORE_EV_SEPARATOR = 0x00000004,
    FORE_EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001,
    FORE_EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003,
    FORE_EV_EFI_ACTION = 0x80000007,
    FORE_EV_EFI_HCRTM = 0x80000010,
    FORE_EV_EFI_VARIABLE_AUTHORITY = 0x800000e0,
};
/** fore_eventlog_type_known: defined by the profile, 1.06 or earlier, and allowed to be extended */
bool fore_eventlog_type_known(uint32_t type);

/* --- reading --- */

typedef struct {
    uint32_t pcr, type;
    const uint8_t *digest; /* of the reader's bank; borrowed; NULL for EV_NO_ACTION */
    const uint8_t *data;
    size_t size;   /* of data */
    size_t offset; /* of the event in the log */
} ForeEvent;

#define FORE_EVENTLOG_ALGS 8
typedef struct {
    const uint8_t *start, *at;
    size_t left;
    uint16_t bank;
    size_t digest_size;
    unsigned n_algs;
    struct {
        uint16_t id, size;
    } algs[FORE_EVENTLOG_ALGS]; /* from the Spec ID event */
    uint32_t spec_pcr;          /* of the Spec ID event: 1 in the log of a confidential guest */
    bool confidential;
    ForeEventlogReason reason; /* why reading ended; OK at the end of the log */
} ForeEventlogReader;

/**
 * fore_eventlog_reader_init: checks the Spec ID event
 * @log: borrowed, must outlive the reader and its events
 * @bank: TPM_ALG_ID of the digests to read; SHA-1 can be read for comparison, never judged
 */
ForeEventlogReason fore_eventlog_reader_init(ForeEventlogReader *reader, GBytes *log,
                                             uint16_t bank);
/** fore_eventlog_reader_allow_padding: the log lies in a fixed area (ACPI CCEL) that ends in 00 or
 *  ff bytes; without this they are refused */
void fore_eventlog_reader_allow_padding(ForeEventlogReader *reader);
/** fore_eventlog_next: false at the end or on an error: see @reader->reason */
bool fore_eventlog_next(ForeEventlogReader *reader, ForeEvent *ret);

/* --- replaying --- */

typedef struct {
    uint8_t pcrs[FORE_EVENTLOG_PCRS][64]; /* the bank's size counts */
    uint32_t extended;                    /* bit n: the log extends PCR n */
    unsigned n_events;                    /* the Spec ID event not counted */
    uint8_t startup_locality;
    bool locality_told; /* by the log, not by default */
} ForeEventlogReplay;

/** fore_eventlog_pcr_initial: value after TPM2_Startup(CLEAR): 17..22 ff, the rest 00, PCR 0 by
 *  locality (0, 3 or 4).  @dynamic: a dynamic launch happened: 17..22 begin at 00 */
void fore_eventlog_pcr_initial(unsigned pcr, uint8_t locality, bool dynamic, uint8_t *ret,
                               size_t size);
/** fore_eventlog_replay_init: PCRs as after a reset   @size: bytes of the bank's digest */
void fore_eventlog_replay_init(ForeEventlogReplay *replay, size_t size, bool dynamic);
/** fore_eventlog_replay_event: one more event; FORE_EVENTLOG_OK or FORE_EVENTLOG_LOCALITY */
ForeEventlogReason fore_eventlog_replay_event(ForeEventlogReplay *replay, ForeHash *hash,
                                              const ForeEvent *event);
/** fore_eventlog_replay: structure and PCR values only, no judgement.  @ret: written on OK only */
ForeEventlogReason fore_eventlog_replay(GBytes *log, uint16_t bank, bool dynamic, bool padded,
                                        ForeEventlogReplay *ret);

/* --- judging --- */

typedef struct {
    uint8_t pcr;
    uint8_t digest[32];
} ForePcrDigest;
/** fore_pcr_digest_compare: order for qsort(): PCR, then digest */
int fore_pcr_digest_compare(const void *a, const void *b);

typedef struct {
    uint32_t pcr_mask;               /* PCRs 0..15 that the log answers for; not 0 */
    bool require_secure_boot;        /* needs PCR 7 in @pcr_mask */
    bool require_exit_boot_services; /* needs PCR 5 in @pcr_mask */
    bool allow_missing_separator, allow_duplicate_separator, allow_early_application;
    bool allow_separator_ff; /* firmware that separates with ffffffff */
    bool allow_debug;
    const uint32_t *vendor_types; /* event types outside the profile that may be extended */
    size_t n_vendor_types;
    const ForeDbx *dbx; /* forbidden images and signers; NULL: none */
    /* What may be extended, sorted by fore_pcr_digest_compare().  A PCR that occurs here takes no
     * other digest; one that does not occur is not restricted here and needs PCR values. */
    const ForePcrDigest *events;
    size_t n_events;
} ForeEventlogPolicy;

typedef enum {
    FORE_SECURE_BOOT_UNKNOWN, /* not measured, empty, or not provable */
    FORE_SECURE_BOOT_OFF,
    FORE_SECURE_BOOT_ON
} ForeSecureBoot;

typedef struct {
    ForeEventlogReplay replay; /* SHA-256 bank */
    ForeSecureBoot secure_boot;
    bool early_application; /* allowed by policy, but seen: worth a warning */
    bool separator_odd;     /* the same, for missing or duplicate separators */
    bool debug;
    /* of a refusal */
    uint32_t pcr;
    size_t offset;
} ForeEventlogResult;

/**
 * fore_eventlog_judge: the SHA-256 bank
 * @proved: [24] PCR values proved by a quote over at least @policy->pcr_mask
 * @ret: always written, as far as it got
 */
ForeEventlogReason fore_eventlog_judge(GBytes *log, const ForeEventlogPolicy *policy,
                                       const uint8_t (*proved)[32], ForeEventlogResult *ret);

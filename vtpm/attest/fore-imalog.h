/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Linux IMA measurement list: read in slices by offset, replayed into PCR 10 up to the value that a
 * quote proves, each entry held against an allowlist, a reject list and a keyring.  Templates
 * ima-ng, ima-sig and ima-buf, as text (ascii_runtime_measurements) or binary
 * (binary_runtime_measurements, little-endian).  Pure.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_IMA_MAX         (16u << 20) /* bytes of one slice */
#define FORE_IMA_MAX_ENTRIES 2000000u    /* of a policy */
#define FORE_IMA_MAX_PATH    4096
#define FORE_IMA_PCR         10
#define FORE_IMA_SIGNATURES  4096 /* verified in one slice when the policy says nothing */

typedef enum {
    FORE_IMA_OK,
    FORE_IMA_MISSING,         /* no log, or an empty one, and PCR 10 is proved non-zero */
    FORE_IMA_TOO_LARGE,       /* slice above FORE_IMA_MAX */
    FORE_IMA_GAP,             /* slice begins behind the end of what was judged */
    FORE_IMA_OVERLAP,         /* slice begins before it */
    FORE_IMA_TRUNCATED,       /* ends within an entry before the proved PCR was reached */
    FORE_IMA_MALFORMED,       /* fields, spaces, hex, NUL, lengths */
    FORE_IMA_TEMPLATE,        /* not ima-ng, ima-sig or ima-buf */
    FORE_IMA_PCR_COLUMN,      /* an entry of another PCR than 10 */
    FORE_IMA_TEMPLATE_HASH,   /* does not recompute */
    FORE_IMA_HASH_ALGORITHM,  /* file digest of an unknown or weak algorithm */
    FORE_IMA_VIOLATION,       /* ToMToU, open-writers: content is unknown */
    FORE_IMA_BOOT_AGGREGATE,  /* missing, all zero, or not the hash of the proved PCR 0-9 */
    FORE_IMA_REJECTED,        /* digest on the reject list */
    FORE_IMA_DIGEST_MISMATCH, /* path listed, with other digests */
    FORE_IMA_UNLISTED,        /* neither listed nor signed */
    FORE_IMA_SIGNATURE_MALFORMED,
    FORE_IMA_SIGNATURE_KEY,   /* signed with a key that is not in the keyring */
    FORE_IMA_SIGNATURE,       /* does not verify */
    FORE_IMA_SIGNATURE_LIMIT, /* more signatures than one slice may cost */
    FORE_IMA_KEYRING,         /* a key was loaded that the policy does not list */
    FORE_IMA_BUFFER,          /* another buffer (kexec command line...) that is not listed */
    FORE_IMA_REPLAY,          /* replay never gives the proved PCR 10 */
    FORE_IMA_POLICY,          /* the policy itself is unusable: nothing listed, no key */
    FORE_IMA_N
} ForeImaReason;
/** fore_ima_reason_name: stable, e.g. "ima-unlisted" */
const char *fore_ima_reason_name(ForeImaReason reason);

/* --- policy: built once a manifest, then read-only and shared --- */

typedef struct ForeImaPolicy ForeImaPolicy;
ForeImaPolicy *fore_ima_policy_new(void);         /* accepts nothing */
void fore_ima_policy_free(ForeImaPolicy *policy); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeImaPolicy, fore_ima_policy_free)

/**
 * fore_ima_policy_allow: a file that may be measured
 * @path: absolute, or NULL: this content under any name
 * @digest: [@size] 32, 48 or 64 bytes (SHA-256, -384, -512); 20 (SHA-1) is refused
 * Errors: FORE_ERROR_INVALID, FORE_ERROR_LIMIT
 */
bool fore_ima_policy_allow(ForeImaPolicy *policy, const char *path, const uint8_t *digest,
                           size_t size, GError **error);
/** fore_ima_policy_reject: this content never, however listed or signed */
bool fore_ima_policy_reject(ForeImaPolicy *policy, const uint8_t *digest, size_t size,
                            GError **error);
/** fore_ima_policy_add_key: key for file signatures: PEM public key or certificate, or DER
 *  certificate; RSA from 2048 bits, P-256, P-384, P-521 or secp256k1 */
bool fore_ima_policy_add_key(ForeImaPolicy *policy, const void *data, size_t size, GError **error);
/** fore_ima_policy_allow_buffer: an ima-buf entry that may occur: @name is the keyring (".ima") or
 *  buffer ("kexec-cmdline"); certificates so loaded on ".ima", "_ima" or ".evm" become keys */
bool fore_ima_policy_allow_buffer(ForeImaPolicy *policy, const char *name, const uint8_t *digest,
                                  size_t size, GError **error);
/**
 * fore_ima_policy_exclude: files under this pattern are not held against the lists (a blind spot;
 * they are counted).  A pattern is an absolute path; '*' stands for any run of characters other
 * than '/', a last component that is exactly two '*' stands for everything below.
 * Errors: FORE_ERROR_INVALID: not absolute, a wildcard in the first component (it would match
 * everything), or a character of regular expressions ( ) [ ] { } ^ $ + ? | backslash
 */
bool fore_ima_policy_exclude(ForeImaPolicy *policy, const char *pattern, GError **error);
/** fore_ima_policy_set: @tolerate_violations: count them, warn, never believe their content
 *  @max_signatures: per slice; 0: FORE_IMA_SIGNATURES */
void fore_ima_policy_set(ForeImaPolicy *policy, bool tolerate_violations, unsigned max_signatures);
/** fore_ima_policy_usable: lists at least one file or one key; NULL is not usable */
bool fore_ima_policy_usable(const ForeImaPolicy *policy);

/* --- state of one boot of one node --- */

typedef struct ForeImaState ForeImaState;
ForeImaState *fore_ima_state_new(void);        /* nothing judged yet */
void fore_ima_state_free(ForeImaState *state); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeImaState, fore_ima_state_free)
void fore_ima_state_reset(ForeImaState *state);             /* the node rebooted */
uint64_t fore_ima_state_offset(const ForeImaState *state);  /* bytes judged: ask from here on */
uint64_t fore_ima_state_entries(const ForeImaState *state); /* entries judged */

uint64_t fore_ima_state_violations(const ForeImaState *state); /* tolerated ones */

typedef struct {
    GBytes *bytes;   /* may be NULL or empty: nothing new */
    uint64_t offset; /* of the first byte in the log */
    bool more;       /* the log goes on: not reaching the proved PCR in this slice is no failure */
} ForeImaSlice;

typedef struct {
    bool
        proved; /* the proved PCR was reached: the judgement holds for the whole list up to there */
    uint64_t consumed; /* bytes of the slice up to the proved PCR; later ones prove nothing yet */
    unsigned entries, excluded, violations, signatures; /* in this slice */
    char path[128]; /* of a refusal: start of the entry's path, printable ASCII */
    uint64_t at;    /* offset of that entry in the log */
} ForeImaResult;

/**
 * fore_ima_judge: one slice.  A log above FORE_IMA_MAX comes as several with @slice->more; only
 * when @ret->proved is set is anything proved, and until then the state stands on entries that are
 * unlisted nowhere but proved by nobody: reset it when that point is not reached
 * @state: moves on FORE_IMA_OK only, by @ret->consumed
 * @proved: [24] PCR values proved by one quote over 0-9 and 10
 * @ret: always written, as far as it got; may not be NULL
 */
ForeImaReason fore_ima_judge(ForeImaState *state, const ForeImaPolicy *policy,
                             const ForeImaSlice *slice, const uint8_t (*proved)[32],
                             ForeImaResult *ret);

/**
 * fore_ima_replay: structure, template hashes and PCR only: no policy, no proved value
 * @bank: FORE_ALG_SHA256; FORE_ALG_SHA1 for comparison, it proves nothing
 * @ret_pcr: [32 or 20] PCR 10 after the last entry; written on FORE_IMA_OK only; may be NULL
 * @ret: may not be NULL
 */
ForeImaReason fore_ima_replay(GBytes *bytes, uint16_t bank, uint8_t *ret_pcr, ForeImaResult *ret);

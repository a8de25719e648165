/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Two passes over a slice.  The first replays until PCR 10 has the proved value;
 * what comes after it was measured after the quote, proves nothing yet and is left for the next
 * time.  The second pass holds the entries before that point against the policy: only entries that
 * are proved are worth a signature check.  The state moves when both passes agree.
 *
 * For one file, in this order: rejected content fails; a listed (path, digest) or digest passes; an
 * excluded path is counted; a listed path with another digest fails, however it is signed; a
 * signature passes.  A signature that is there must hold wherever there is a keyring.
 */
#include <string.h>

#include "vtpm/attest/fore-imalog-internal.h"
#include "vtpm/attest/fore-imalog.h"
#include "vtpm/attest/fore-public.h"

#define MAX_LEARNED 256

struct ForeImaState {
    uint64_t offset, entries, violations;
    uint8_t pcr[32];
    GPtrArray *learned; /* of ForeImaKey: loaded on a trusted keyring by listed entries */
};

ForeImaState *fore_ima_state_new(void)
{
    ForeImaState *state = g_new0(ForeImaState, 1);

    state->learned = g_ptr_array_new_with_free_func(fore_ima_key_free);
    return state;
}

void fore_ima_state_free(ForeImaState *state)
{
    if (state != NULL) {
        g_ptr_array_unref(state->learned);
        g_free(state);
    }
}

void fore_ima_state_reset(ForeImaState *state)
{
    state->offset = state->entries = state->violations = 0;
    memset(state->pcr, 0, sizeof(state->pcr));
    g_ptr_array_set_size(state->learned, 0);
}

uint64_t fore_ima_state_offset(const ForeImaState *state)
{
    return state->offset;
}

uint64_t fore_ima_state_entries(const ForeImaState *state)
{
    return state->entries;
}

uint64_t fore_ima_state_violations(const ForeImaState *state)
{
    return state->violations;
}

/* --- first pass: up to the proved value --- */

typedef struct {
    uint8_t pcr[32];
    unsigned entries; /* until it was reached */
    size_t consumed;
    bool proved;
} Reached;

static ForeImaReason replay(const uint8_t *data, size_t size, const uint8_t target[32],
                            Reached *reached, ForeImaResult *ret, uint64_t base)
{
    g_auto(ForeImaHashes) hashes = {0};
    g_auto(ForeImaReader) reader = {0};
    ForeImaEntry entry;
    ForeImaReason reason;

    if (!fore_ima_hashes_init(&hashes, FORE_ALG_SHA256)) {
        return FORE_IMA_HASH_ALGORITHM;
    }
    fore_ima_reader_init(&reader, data, size);
    while (fore_ima_next(&reader, &entry)) {
        reason = fore_ima_extend(&hashes, &entry, reached->pcr);
        if (reason != FORE_IMA_OK) {
            fore_ima_result_name(ret, &entry, base);
            return reason;
        }
        reached->entries++;
        reached->consumed = (size_t)(reader.at - reader.start);
        if (memcmp(reached->pcr, target, 32) == 0) {
            reached->proved = true;
            return FORE_IMA_OK;
        }
    }
    ret->at = base + reached->consumed;
    return reader.reason != FORE_IMA_OK ? reader.reason : FORE_IMA_REPLAY;
}

/* --- second pass: policy --- */

typedef struct {
    const ForeImaState *state;
    const ForeImaPolicy *policy;
    uint8_t aggregate[32];
    GPtrArray *learned; /* in this slice; owned */
    ForeImaResult *ret;
    unsigned index; /* of the entry in the slice */
} Judge;

/* The hash of PCR 0 to 9 (ima_calc_boot_aggregate_tfm(), kernels from 5.8 on). */
static bool aggregate_of(const uint8_t (*proved)[32], uint8_t ret[32])
{
    g_auto(ForeHash) hash = {0};

    if (!fore_hash_init(&hash, FORE_ALG_SHA256)) {
        return false;
    }
    fore_hash_of(&hash, proved, 10 * sizeof(proved[0]), NULL, 0, ret);
    return true;
}

static bool is_aggregate(const ForeImaEntry *entry)
{
    return strcmp(entry->path, "boot_aggregate") == 0;
}

static ForeImaReason judge_aggregate(const Judge *j, const ForeImaEntry *entry)
{
    return !entry->violation && entry->template != FORE_IMA_BUF && entry->extra_size == 0 &&
                   entry->alg == FORE_ALG_SHA256 && memcmp(entry->digest, j->aggregate, 32) == 0
               ? FORE_IMA_OK
               : FORE_IMA_BOOT_AGGREGATE;
}

static bool is_keyring(const char *name)
{
    return name[0] == '.' || name[0] == '_';
}

static bool is_trusted_keyring(const char *name)
{
    return strcmp(name, ".ima") == 0 || strcmp(name, "_ima") == 0 || strcmp(name, ".evm") == 0;
}

/* A measured buffer: its digest must be its own, and listed; a certificate then becomes a key. */
static ForeImaReason judge_buffer(Judge *j, const ForeImaEntry *entry)
{
    g_auto(ForeHash) hash = {0};
    uint8_t digest[64];
    ForeImaKey *key;

    if (!fore_hash_init(&hash, entry->alg)) {
        return FORE_IMA_HASH_ALGORITHM;
    }
    fore_hash_of(&hash, entry->extra, entry->extra_size, NULL, 0, digest);
    if (memcmp(digest, entry->digest, hash.size) != 0 ||
        !fore_ima_policy_has_buffer(j->policy, entry)) {
        return is_keyring(entry->path) ? FORE_IMA_KEYRING : FORE_IMA_BUFFER;
    }
    if (is_trusted_keyring(entry->path)) {
        key = j->state->learned->len + j->learned->len < MAX_LEARNED
                  ? fore_ima_key_new(entry->extra, entry->extra_size)
                  : NULL;
        if (key == NULL) {
            return FORE_IMA_KEYRING;
        }
        g_ptr_array_add(j->learned, key);
    }
    return FORE_IMA_OK;
}

static bool has_keyring(const Judge *j)
{
    return fore_ima_policy_keys(j->policy)->len > 0 || j->state->learned->len > 0 ||
           j->learned->len > 0;
}

static ForeImaReason verify(Judge *j, const ForeImaEntry *entry)
{
    ForeImaReason reason;

    if (++j->ret->signatures > fore_ima_policy_signatures(j->policy)) {
        return FORE_IMA_SIGNATURE_LIMIT;
    }
    reason = fore_ima_signature_verify(entry, fore_ima_policy_keys(j->policy), j->state->learned);
    return reason == FORE_IMA_SIGNATURE_KEY ? fore_ima_signature_verify(entry, NULL, j->learned)
                                            : reason;
}

static ForeImaReason judge_file(Judge *j, const ForeImaEntry *entry)
{
    ForeImaListed listed = fore_ima_policy_lookup(j->policy, entry);
    bool is_signed = false;
    ForeImaReason reason = FORE_IMA_OK;

    if (fore_ima_policy_rejects(j->policy, entry->digest, entry->digest_size)) {
        return FORE_IMA_REJECTED;
    }
    if (listed != FORE_IMA_LISTED && fore_ima_policy_excludes(j->policy, entry->path)) {
        j->ret->excluded++;
        return FORE_IMA_OK;
    }
    if (entry->extra_size > 0) {
        reason = fore_ima_signature_form(entry, &is_signed);
    }
    if (reason != FORE_IMA_OK) {
        return reason;
    }
    if (listed == FORE_IMA_LISTED_OTHERWISE) {
        return FORE_IMA_DIGEST_MISMATCH;
    }
    if (is_signed && has_keyring(j)) {
        return verify(j, entry);
    }
    if (listed == FORE_IMA_LISTED) {
        return FORE_IMA_OK;
    }
    return is_signed ? FORE_IMA_SIGNATURE_KEY : FORE_IMA_UNLISTED;
}

static ForeImaReason judge_entry(Judge *j, const ForeImaEntry *entry)
{
    bool first = j->state->entries == 0 && j->index == 0;

    if (first || is_aggregate(entry)) {
        return is_aggregate(entry) ? judge_aggregate(j, entry) : FORE_IMA_BOOT_AGGREGATE;
    }
    if (entry->violation) {
        j->ret->violations++;
        return fore_ima_policy_tolerates(j->policy) ? FORE_IMA_OK : FORE_IMA_VIOLATION;
    }
    if (entry->alg == 0 || entry->alg == FORE_ALG_SHA1) {
        return FORE_IMA_HASH_ALGORITHM;
    }
    return entry->template == FORE_IMA_BUF ? judge_buffer(j, entry) : judge_file(j, entry);
}

static ForeImaReason judge_all(Judge *j, const uint8_t *data, const Reached *reached, uint64_t base)
{
    g_auto(ForeImaReader) reader = {0};
    ForeImaEntry entry;
    ForeImaReason reason = FORE_IMA_OK;

    fore_ima_reader_init(&reader, data, reached->consumed);
    for (; j->index < reached->entries && fore_ima_next(&reader, &entry); j->index++) {
        reason = judge_entry(j, &entry);
        if (reason != FORE_IMA_OK) {
            fore_ima_result_name(j->ret, &entry, base);
            return reason;
        }
    }
    j->ret->entries = j->index;
    return FORE_IMA_OK;
}

static void commit(ForeImaState *state, Judge *j, const Reached *reached)
{
    state->offset += reached->consumed;
    state->entries += reached->entries;
    state->violations += j->ret->violations;
    memcpy(state->pcr, reached->pcr, sizeof(state->pcr));
    while (j->learned->len > 0) {
        g_ptr_array_add(state->learned, g_ptr_array_steal_index(j->learned, 0));
    }
    j->ret->consumed = reached->consumed;
    j->ret->proved = reached->proved;
}

/* A slice that ends early, maybe within an entry, is what "more" announces. */
static bool goes_on(ForeImaReason reason, const ForeImaSlice *slice, const Reached *reached)
{
    return slice->more && reached->entries > 0 &&
           (reason == FORE_IMA_REPLAY || reason == FORE_IMA_TRUNCATED);
}

static ForeImaReason judge_slice(ForeImaState *state, Judge *j, const ForeImaSlice *slice,
                                 const uint8_t (*proved)[32])
{
    gsize size;
    const uint8_t *data = g_bytes_get_data(slice->bytes, &size);
    Reached reached = {0};
    ForeImaReason reason;

    memcpy(reached.pcr, state->pcr, sizeof(reached.pcr));
    reason = replay(data, size, proved[FORE_IMA_PCR], &reached, j->ret, state->offset);
    reason = goes_on(reason, slice, &reached) ? FORE_IMA_OK : reason;
    if (reason == FORE_IMA_OK && !aggregate_of(proved, j->aggregate)) {
        reason = FORE_IMA_BOOT_AGGREGATE;
    }
    if (reason == FORE_IMA_OK) {
        reason = judge_all(j, data, &reached, state->offset);
    }
    if (reason == FORE_IMA_OK) {
        commit(state, j, &reached);
    }
    return reason;
}

ForeImaReason fore_ima_judge(ForeImaState *state, const ForeImaPolicy *policy,
                             const ForeImaSlice *slice, const uint8_t (*proved)[32],
                             ForeImaResult *ret)
{
    g_autoptr(GPtrArray) learned = g_ptr_array_new_with_free_func(fore_ima_key_free);
    Judge j = {.state = state, .policy = policy, .learned = learned, .ret = ret};
    gsize size = 0;

    if (slice->bytes != NULL) {
        size = g_bytes_get_size(slice->bytes);
    }
    memset(ret, 0, sizeof(*ret));
    if (!fore_ima_policy_usable(policy)) {
        return FORE_IMA_POLICY;
    }
    if (slice->offset != state->offset && (size > 0 || slice->offset > state->offset)) {
        return slice->offset > state->offset ? FORE_IMA_GAP : FORE_IMA_OVERLAP;
    }
    if (size > FORE_IMA_MAX) {
        return FORE_IMA_TOO_LARGE;
    }
    /* Nothing was measured since: whatever the slice has was measured after the quote. */
    if (state->entries > 0 && memcmp(state->pcr, proved[FORE_IMA_PCR], 32) == 0) {
        ret->proved = true;
        return FORE_IMA_OK;
    }
    if (size == 0) {
        return state->entries == 0 ? FORE_IMA_MISSING : FORE_IMA_REPLAY;
    }
    return judge_slice(state, &j, slice, proved);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the files of the IMA judgement share: an entry as read, the lists, the keyring. */
#include <glib.h>
#include <openssl/evp.h>

#include "vtpm/attest/fore-hash.h"
#include "vtpm/attest/fore-imalog.h"

typedef enum { FORE_IMA_NG, FORE_IMA_SIG, FORE_IMA_BUF } ForeImaTemplate;

/* One entry; pointers into the slice or into the reader's scratch, good until the next one. */
typedef struct {
    ForeImaTemplate template;
    bool violation;      /* template hash all zero */
    const uint8_t *hash; /* template hash as told */
    size_t hash_size;    /* 20 or 32 */
    const uint8_t *data; /* template data, which is what was hashed and extended */
    size_t size;
    uint16_t alg; /* of the file digest; 0: an algorithm that is not known */
    const uint8_t *digest;
    size_t digest_size;
    const char *path;     /* terminated */
    size_t path_size;     /* without its NUL */
    const uint8_t *extra; /* signature or buffer; size 0: none */
    size_t extra_size;
    size_t offset; /* in the slice */
} ForeImaEntry;

typedef struct {
    const uint8_t *start, *at;
    size_t left;
    GByteArray *scratch; /* template data of a text entry */
    ForeImaReason reason;
} ForeImaReader;

void fore_ima_reader_init(ForeImaReader *reader, const uint8_t *data, size_t size);
void fore_ima_reader_done(ForeImaReader *reader);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ForeImaReader, fore_ima_reader_done)
/** fore_ima_next: false at the end or on an error: see @reader->reason */
bool fore_ima_next(ForeImaReader *reader, ForeImaEntry *ret);

/* Replays entries into PCR 10. */
typedef struct {
    ForeHash sha1, sha256;
    ForeHash *bank; /* one of the two */
} ForeImaHashes;
bool fore_ima_hashes_init(ForeImaHashes *hashes, uint16_t bank);
void fore_ima_hashes_done(ForeImaHashes *hashes);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ForeImaHashes, fore_ima_hashes_done)
/** fore_ima_extend: FORE_IMA_TEMPLATE_HASH when the told hash does not recompute */
ForeImaReason fore_ima_extend(ForeImaHashes *hashes, const ForeImaEntry *entry, uint8_t *pcr);

/** fore_ima_result_name: the entry that @ret tells of */
void fore_ima_result_name(ForeImaResult *ret, const ForeImaEntry *entry, uint64_t base);

/* --- lists --- */

typedef enum {
    FORE_IMA_LISTED,
    FORE_IMA_LISTED_OTHERWISE, /* the path is listed, with other digests */
    FORE_IMA_NOT_LISTED
} ForeImaListed;
ForeImaListed fore_ima_policy_lookup(const ForeImaPolicy *policy, const ForeImaEntry *entry);
bool fore_ima_policy_rejects(const ForeImaPolicy *policy, const uint8_t *digest, size_t size);
bool fore_ima_policy_excludes(const ForeImaPolicy *policy, const char *path);
bool fore_ima_policy_has_buffer(const ForeImaPolicy *policy, const ForeImaEntry *entry);
bool fore_ima_policy_tolerates(const ForeImaPolicy *policy);
unsigned fore_ima_policy_signatures(const ForeImaPolicy *policy);
const GPtrArray *fore_ima_policy_keys(const ForeImaPolicy *policy); /* of ForeImaKey */

/* --- keyring --- */

typedef struct {
    EVP_PKEY *pkey;
    uint8_t ids[2][4]; /* by key bits, by subject key identifier; equal when there is only one */
} ForeImaKey;
void fore_ima_key_free(gpointer key);
/** fore_ima_key_new: PEM key or certificate, or DER certificate; NULL: none of these, or weak */
ForeImaKey *fore_ima_key_new(const void *data, size_t size);

/** fore_ima_signature_form: FORE_IMA_OK, or FORE_IMA_SIGNATURE_MALFORMED
 *  @ret_signs: false for what is well-formed but does not sign content (EVM portable) */
ForeImaReason fore_ima_signature_form(const ForeImaEntry *entry, bool *ret_signs);
/** fore_ima_signature_verify: against the keys of both rings; NULL allowed */
ForeImaReason fore_ima_signature_verify(const ForeImaEntry *entry, const GPtrArray *ring,
                                        const GPtrArray *learned);

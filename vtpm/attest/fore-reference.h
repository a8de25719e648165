/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Reference values: which PCR values a node or VM may report.  A person reviews them as text, one
 * value a line, signs them, and the PAM takes only the signed form (docs/policy.md):
 *
 *     foresee-reference 1
 *     version 7
 *     node hv1 pcr sha256:7 65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e614eb3068
 *     vm 6b9f... pcr sha256:0 ...
 *
 * Several lines for one PCR are alternatives.  What is not listed is not accepted.  Beside values
 * there are rules (fore-rule.h), for a subject or for a profile that subjects share:
 *
 *     profile debian ima file sha256:HEX /usr/bin/true
 *     vm 6b9f... profile debian
 */
#include <glib.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_REFERENCE_MAX         (768u << 10) /* bytes of the text and of the signed form */
#define FORE_REFERENCE_MAX_ENTRIES 6144u
#define FORE_REFERENCE_MAX_VERSION (G_GUINT64_CONSTANT(1) << 53)

typedef enum { FORE_SUBJECT_NODE, FORE_SUBJECT_VM, FORE_SUBJECT_N } ForeSubject;
extern const char *const fore_subject_names[FORE_SUBJECT_N]; /* "node", "vm" */

/* Whose rules; the first two are the subjects. */
typedef enum {
    FORE_SCOPE_NODE,
    FORE_SCOPE_VM,
    FORE_SCOPE_PROFILE,
    FORE_SCOPE_N
} ForeReferenceScope;
extern const char *const fore_reference_scope_names[FORE_SCOPE_N]; /* "node", "vm", "profile" */

typedef struct ForeReference ForeReference;

/** fore_reference_new: a manifest of @version without a value; it accepts nothing */
ForeReference *fore_reference_new(uint64_t version);
void fore_reference_free(ForeReference *ref); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeReference, fore_reference_free)

/**
 * fore_reference_add: one more accepted value
 * @id: node id or VM UUID   @pcr: 0..15, SHA-256 bank (16..23 can be reset and prove nothing)
 * Errors: FORE_ERROR_INVALID (id, PCR), FORE_ERROR_EXISTS (the same line twice), FORE_ERROR_LIMIT
 */
bool fore_reference_add(ForeReference *ref, ForeSubject subject, const char *id, unsigned pcr,
                        const uint8_t digest[32], GError **error);

/**
 * fore_reference_add_rule: one more rule
 * @words: NULL-terminated, without scope and id; checked by fore_rule_check()
 * Errors: as there, and FORE_ERROR_EXISTS, FORE_ERROR_LIMIT
 */
bool fore_reference_add_rule(ForeReference *ref, ForeReferenceScope scope, const char *id,
                             char *const *words, GError **error);
/** ForeReferenceRule: @words as above; false ends the walk */
typedef bool (*ForeReferenceRule)(ForeReferenceScope scope, const char *id, char *const *words,
                                  gpointer data);
/** fore_reference_each_rule: in canonical order; false when @each ended it */
bool fore_reference_each_rule(const ForeReference *ref, ForeReferenceRule each, gpointer data);
typedef void (*ForeReferenceValue)(ForeSubject subject, const char *id, unsigned pcr,
                                   const uint8_t digest[32], gpointer data);
void fore_reference_each_value(const ForeReference *ref, ForeReferenceValue each, gpointer data);

/**
 * fore_reference_parse: the text form; empty lines and lines that begin with '#' are skipped
 * @text: @size bytes, need not be terminated
 * Errors: FORE_ERROR_INVALID, FORE_ERROR_EXISTS, FORE_ERROR_LIMIT; the message names the line
 */
ForeReference *fore_reference_parse(const char *text, size_t size, GError **error);
/** fore_reference_format: canonical text, sorted, parses to the same manifest (transfer full) */
char *fore_reference_format(const ForeReference *ref);

/** fore_reference_sign: JWS (typ "foresee-reference+jws") over canonical JSON. @key: P-256 private
 */
char *fore_reference_sign(const ForeReference *ref, EVP_PKEY *key, GError **error);
/**
 * fore_reference_verify: @jws: text from outside   @key: public policy key
 * Errors: FORE_ERROR_UNTRUSTED (signature, type, algorithm), FORE_ERROR_INVALID, FORE_ERROR_LIMIT
 */
ForeReference *fore_reference_verify(const char *jws, EVP_PKEY *key, GError **error);

uint64_t fore_reference_version(const ForeReference *ref);
size_t fore_reference_size(const ForeReference *ref); /* lines with values or rules */
/** fore_reference_mask: bit n = PCR n of that subject is listed; 0 when unknown or @ref is NULL */
uint32_t fore_reference_mask(const ForeReference *ref, ForeSubject subject, const char *id);

typedef enum {
    FORE_REFERENCE_OK,
    FORE_REFERENCE_NONE,    /* no manifest, the subject is not in it, or a PCR of @mask is not */
    FORE_REFERENCE_MISMATCH /* a listed PCR has another value */
} ForeReferenceMatch;
/**
 * fore_reference_match: are all PCRs of @mask listed, and is each value one of those listed?
 * @ref: NULL matches nothing   @mask: not 0   @pcrs: [24], as proved by a quote over exactly @mask
 * @ret_pcr: the first PCR that was not as it should be; untouched on FORE_REFERENCE_OK; may be NULL
 */
ForeReferenceMatch fore_reference_match(const ForeReference *ref, ForeSubject subject,
                                        const char *id, uint32_t mask, const uint8_t (*pcrs)[32],
                                        unsigned *ret_pcr);

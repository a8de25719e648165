/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lists.  Millions of measured entries meet hundreds of thousands of listed ones, so a lookup
 * is one probe of an open table whose slot follows from digest and path together: an allowlist
 * names one empty file under thousands of paths.  Only what the operator listed decides how long a
 * probe can get, not what a node sends.
 *
 * Exclusions are globs, not regular expressions: matching takes at most pattern times path steps,
 * there is nothing to backtrack exponentially, and a pattern that would match everything is refused
 * when the policy is loaded.
 */
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "vtpm/attest/fore-imalog-internal.h"
#include "vtpm/attest/fore-imalog.h"

#define KEY_SIZE     32 /* bytes of a digest that are kept; longer ones are cut, which keeps 2^128 */
#define MAX_PATTERNS 64
#define MAX_PATTERN  256
#define MAX_KEYS     1024
#define REGEX_CHARS  "()[]{}^$+?|\\"

typedef struct {
    uint8_t digest[KEY_SIZE];
    uint32_t path; /* offset in the pool; 0: any */
    uint8_t size;  /* of the whole digest; 0: free slot */
} Entry;

typedef struct {
    Entry *slots; /* a power of two */
    size_t n_slots, n;
    GByteArray *pool; /* paths, each terminated; offset 0 is "" */
} Table;

struct ForeImaPolicy {
    Table allow, reject, buffers;
    GHashTable *paths; /* set of listed paths, owned */
    GPtrArray *keys;   /* of ForeImaKey */
    GPtrArray *patterns;
    bool tolerate_violations;
    unsigned max_signatures;
};

/* --- the table --- */

static void table_init(Table *table)
{
    table->n_slots = 64;
    table->slots = g_new0(Entry, table->n_slots);
    table->pool = g_byte_array_new();
    g_byte_array_append(table->pool, (const uint8_t *)"", 1);
}

static void table_done(Table *table)
{
    g_free(table->slots);
    g_byte_array_unref(table->pool);
}

static uint64_t mix(uint64_t v, uint64_t word)
{
    v = (v ^ word) * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15);
    return v ^ v >> 29;
}

/* Eight bytes a step: paths are long, and this is asked for every entry of a list. */
static size_t slot_of(const Table *table, const uint8_t *digest, const char *path)
{
    size_t left = strlen(path);
    uint64_t v, word;

    memcpy(&v, digest, sizeof(v));
    for (; left >= sizeof(word); left -= sizeof(word), path += sizeof(word)) {
        memcpy(&word, path, sizeof(word));
        v = mix(v, word);
    }
    word = left;
    memcpy(&word, path, left);
    return (size_t)mix(v, word) & (table->n_slots - 1);
}

static const char *path_of(const Table *table, const Entry *entry)
{
    return (const char *)table->pool->data + entry->path;
}

/* The entry, or the free slot where it belongs.  @digest: cut to KEY_SIZE, padded */
static Entry *table_find(const Table *table, const uint8_t digest[KEY_SIZE], size_t size,
                         const char *path)
{
    size_t at = slot_of(table, digest, path);

    for (;; at = (at + 1) & (table->n_slots - 1)) {
        Entry *e = &table->slots[at];

        if (e->size == 0 || (e->size == size && memcmp(e->digest, digest, KEY_SIZE) == 0 &&
                             strcmp(path_of(table, e), path) == 0)) {
            return e;
        }
    }
}

static void table_grow(Table *table)
{
    Table grown = *table;

    grown.n_slots = table->n_slots * 2;
    grown.slots = g_new0(Entry, grown.n_slots);
    for (size_t i = 0; i < table->n_slots; i++) {
        const Entry *e = &table->slots[i];

        if (e->size != 0) {
            *table_find(&grown, e->digest, e->size, path_of(table, e)) = *e;
        }
    }
    g_free(table->slots);
    *table = grown;
}

static bool table_has(const Table *table, const uint8_t *digest, size_t size, const char *path)
{
    return (size == 32 || size == 48 || size == 64) &&
           table_find(table, digest, size, path)->size != 0;
}

static bool table_add(Table *table, const char *path, const uint8_t *digest, size_t size,
                      GError **error)
{
    size_t length = strlen(path);
    Entry *e;

    if (size != 32 && size != 48 && size != 64) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "IMA list: a digest of %zu bytes for '%s'; list SHA-256, -384 or -512", size,
                    path);
        return false;
    }
    if (table->n >= FORE_IMA_MAX_ENTRIES || table->pool->len > G_MAXUINT32 / 4 ||
        length > FORE_IMA_MAX_PATH) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "IMA list: more than %u entries, or a path above %d bytes",
                    FORE_IMA_MAX_ENTRIES, FORE_IMA_MAX_PATH);
        return false;
    }
    if (2 * (table->n + 1) > table->n_slots) {
        table_grow(table);
    }
    e = table_find(table, digest, size, path);
    if (e->size == 0) {
        memcpy(e->digest, digest, KEY_SIZE);
        e->size = (uint8_t)size;
        e->path = length > 0 ? table->pool->len : 0;
        if (length > 0) {
            g_byte_array_append(table->pool, (const uint8_t *)path, (guint)length + 1);
        }
        table->n++;
    }
    return true;
}

/* --- building --- */

ForeImaPolicy *fore_ima_policy_new(void)
{
    ForeImaPolicy *policy = g_new0(ForeImaPolicy, 1);

    table_init(&policy->allow);
    table_init(&policy->reject);
    table_init(&policy->buffers);
    policy->paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    policy->keys = g_ptr_array_new_with_free_func(fore_ima_key_free);
    policy->patterns = g_ptr_array_new_with_free_func(g_free);
    return policy;
}

void fore_ima_policy_free(ForeImaPolicy *policy)
{
    if (policy == NULL) {
        return;
    }
    table_done(&policy->allow);
    table_done(&policy->reject);
    table_done(&policy->buffers);
    g_hash_table_unref(policy->paths);
    g_ptr_array_unref(policy->keys);
    g_ptr_array_unref(policy->patterns);
    g_free(policy);
}

bool fore_ima_policy_allow(ForeImaPolicy *policy, const char *path, const uint8_t *digest,
                           size_t size, GError **error)
{
    if (path != NULL && path[0] == '\0') {
        g_set_error_literal(error, FORE_ERROR, FORE_ERROR_INVALID,
                            "IMA list: an empty path; leave the path out to mean any");
        return false;
    }
    if (!table_add(&policy->allow, path != NULL ? path : "", digest, size, error)) {
        return false;
    }
    if (path != NULL && !g_hash_table_contains(policy->paths, path)) {
        g_hash_table_add(policy->paths, g_strdup(path));
    }
    return true;
}

bool fore_ima_policy_reject(ForeImaPolicy *policy, const uint8_t *digest, size_t size,
                            GError **error)
{
    return table_add(&policy->reject, "", digest, size, error);
}

bool fore_ima_policy_allow_buffer(ForeImaPolicy *policy, const char *name, const uint8_t *digest,
                                  size_t size, GError **error)
{
    if (name == NULL || name[0] == '\0') {
        g_set_error_literal(error, FORE_ERROR, FORE_ERROR_INVALID,
                            "IMA list: a buffer needs the name of its keyring");
        return false;
    }
    return table_add(&policy->buffers, name, digest, size, error);
}

bool fore_ima_policy_add_key(ForeImaPolicy *policy, const void *data, size_t size, GError **error)
{
    ForeImaKey *key = policy->keys->len < MAX_KEYS ? fore_ima_key_new(data, size) : NULL;

    if (key == NULL) {
        g_set_error(error, FORE_ERROR,
                    policy->keys->len < MAX_KEYS ? FORE_ERROR_INVALID : FORE_ERROR_LIMIT,
                    "IMA keyring: key %u of at most %d is no public key or certificate, or weak "
                    "(RSA from 2048 bits, curves from 256)",
                    policy->keys->len + 1, MAX_KEYS);
        return false;
    }
    g_ptr_array_add(policy->keys, key);
    return true;
}

/* What is wrong with a pattern, or NULL. */
static const char *pattern_fault(const char *pattern)
{
    size_t length = strlen(pattern), first = 0;
    const char *twice = strstr(pattern, "**");

    while (length > 1 && pattern[1 + first] != '/' && pattern[1 + first] != '\0') {
        first++; /* bytes of the first component */
    }
    if (pattern[0] != '/' || length > MAX_PATTERN || first == 0) {
        return "is no absolute path of at most 256 bytes";
    }
    if (pattern[1 + first] == '\0' || memchr(pattern + 1, '*', first) != NULL) {
        return "would match nearly everything: name the first folder in full, and something in it";
    }
    if (strpbrk(pattern, REGEX_CHARS) != NULL) {
        return "looks like a regular expression: only '*' has a meaning";
    }
    if (twice != NULL && (strcmp(twice, "**") != 0 || twice[-1] != '/')) {
        return "has '**' elsewhere than as its last component";
    }
    for (size_t i = 0; i < length; i++) {
        if (!g_ascii_isprint(pattern[i])) {
            return "has characters that are not printable ASCII";
        }
    }
    return NULL;
}

bool fore_ima_policy_exclude(ForeImaPolicy *policy, const char *pattern, GError **error)
{
    const char *fault = pattern_fault(pattern);

    if (fault == NULL && policy->patterns->len >= MAX_PATTERNS) {
        fault = "is one too many: at most 64 patterns";
    }
    if (fault != NULL) {
        g_autofree char *shown = g_strndup(pattern, MAX_PATTERN);

        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "IMA exclusion '%s' %s",
                    fore_text_plain(shown), fault);
        return false;
    }
    g_ptr_array_add(policy->patterns, g_strdup(pattern));
    return true;
}

void fore_ima_policy_set(ForeImaPolicy *policy, bool tolerate_violations, unsigned max_signatures)
{
    policy->tolerate_violations = tolerate_violations;
    policy->max_signatures = max_signatures;
}

bool fore_ima_policy_usable(const ForeImaPolicy *policy)
{
    return policy != NULL && (policy->allow.n > 0 || policy->keys->len > 0);
}

/* --- asking --- */

ForeImaListed fore_ima_policy_lookup(const ForeImaPolicy *policy, const ForeImaEntry *entry)
{
    if (table_has(&policy->allow, entry->digest, entry->digest_size, entry->path) ||
        table_has(&policy->allow, entry->digest, entry->digest_size, "")) {
        return FORE_IMA_LISTED;
    }
    return g_hash_table_contains(policy->paths, entry->path) ? FORE_IMA_LISTED_OTHERWISE
                                                             : FORE_IMA_NOT_LISTED;
}

bool fore_ima_policy_rejects(const ForeImaPolicy *policy, const uint8_t *digest, size_t size)
{
    return policy->reject.n > 0 && table_has(&policy->reject, digest, size, "");
}

bool fore_ima_policy_has_buffer(const ForeImaPolicy *policy, const ForeImaEntry *entry)
{
    return table_has(&policy->buffers, entry->digest, entry->digest_size, entry->path);
}

/* '*' stands for any run without '/'.  On a mismatch only the last '*' can be widened, so this is
 * at most pattern times path steps. */
static bool glob(const char *pattern, const char *text)
{
    const char *star = NULL, *from = NULL;

    while (*text != '\0') {
        if (strcmp(pattern, "**") == 0) {
            return true;
        }
        if (*pattern == '*') {
            star = pattern++;
            from = text;
        } else if (*pattern == *text) {
            pattern++;
            text++;
        } else if (star != NULL && *from != '/') {
            pattern = star + 1;
            text = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}

bool fore_ima_policy_excludes(const ForeImaPolicy *policy, const char *path)
{
    for (guint i = 0; i < policy->patterns->len; i++) {
        if (glob(policy->patterns->pdata[i], path)) {
            return true;
        }
    }
    return false;
}

bool fore_ima_policy_tolerates(const ForeImaPolicy *policy)
{
    return policy->tolerate_violations;
}

unsigned fore_ima_policy_signatures(const ForeImaPolicy *policy)
{
    return policy->max_signatures != 0 ? policy->max_signatures : FORE_IMA_SIGNATURES;
}

const GPtrArray *fore_ima_policy_keys(const ForeImaPolicy *policy)
{
    return policy->keys;
}

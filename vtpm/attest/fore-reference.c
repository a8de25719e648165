/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/attest/fore-reference.h"

#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "common/fore-flow.h"
#include "common/fore-json.h"
#include "vtpm/attest/fore-jws.h"
#include "vtpm/attest/fore-rule.h"

#define JWS_TYPE       "foresee-reference+jws"
#define FORMAT         1
#define PCR_MAX        15
#define LINE_BYTES_MAX 16384 /* a certificate is one word */

const char *const fore_subject_names[] = {"node", "vm"};
G_STATIC_ASSERT(G_N_ELEMENTS(fore_subject_names) == FORE_SUBJECT_N);
const char *const fore_reference_scope_names[] = {"node", "vm", "profile"};
G_STATIC_ASSERT(G_N_ELEMENTS(fore_reference_scope_names) == FORE_SCOPE_N);
static const char *const json_groups[] = {"nodes", "vms"};
G_STATIC_ASSERT(G_N_ELEMENTS(json_groups) == FORE_SUBJECT_N);

typedef struct {
    ForeSubject subject;
    char id[FORE_NAME_MAX + 1];
    unsigned pcr;
    uint8_t digest[32];
} Entry;

struct ForeReference {
    uint64_t version;
    GArray *entries; /* of Entry, in the order of compare(), each once */
    GTree *rules;    /* line, words joined by single blanks; each once */
};

static gint compare_lines(gconstpointer a, gconstpointer b, gpointer data)
{
    return strcmp(a, b);
}

static int compare_subject(const Entry *e, ForeSubject subject, const char *id)
{
    return e->subject != subject ? (int)e->subject - (int)subject : strcmp(e->id, id);
}

static int compare(const Entry *a, const Entry *b)
{
    int by = compare_subject(a, b->subject, b->id);

    if (by == 0) {
        by = (int)a->pcr - (int)b->pcr;
    }
    return by != 0 ? by : memcmp(a->digest, b->digest, sizeof(a->digest));
}

/* Index of the first entry that is not before @key. */
static guint lower_bound(const ForeReference *ref, const Entry *key)
{
    guint low = 0, high = ref->entries->len;

    while (low < high) {
        guint middle = low + (high - low) / 2;
        if (compare(&g_array_index(ref->entries, Entry, middle), key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

ForeReference *fore_reference_new(uint64_t version)
{
    ForeReference *ref = g_new0(ForeReference, 1);

    ref->version = version;
    ref->entries = g_array_new(FALSE, FALSE, sizeof(Entry));
    ref->rules = g_tree_new_full(compare_lines, NULL, g_free, NULL);
    return ref;
}

void fore_reference_free(ForeReference *ref)
{
    if (ref != NULL) {
        g_array_unref(ref->entries);
        g_tree_unref(ref->rules);
        g_free(ref);
    }
}

static bool id_is_valid(ForeSubject subject, const char *id)
{
    return subject == FORE_SUBJECT_VM ? fore_uuid_is_valid(id) : fore_name_is_valid(id);
}

bool fore_reference_add(ForeReference *ref, ForeSubject subject, const char *id, unsigned pcr,
                        const uint8_t digest[32], GError **error)
{
    Entry entry = {.subject = subject, .pcr = pcr};
    guint at;

    if (!id_is_valid(subject, id)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "'%.64s' is no %s", id,
                    subject == FORE_SUBJECT_VM ? "lower-case VM UUID" : "node id");
        return false;
    }
    if (pcr > PCR_MAX) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "PCR %u cannot be a reference: only 0 to %d prove anything", pcr, PCR_MAX);
        return false;
    }
    if (fore_reference_size(ref) >= FORE_REFERENCE_MAX_ENTRIES) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT, "more than %u reference values",
                    FORE_REFERENCE_MAX_ENTRIES);
        return false;
    }
    g_strlcpy(entry.id, id, sizeof(entry.id));
    memcpy(entry.digest, digest, sizeof(entry.digest));
    at = lower_bound(ref, &entry);
    if (at < ref->entries->len && compare(&g_array_index(ref->entries, Entry, at), &entry) == 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS, "%s %s lists PCR %u twice with one value",
                    fore_subject_names[subject], id, pcr);
        return false;
    }
    g_array_insert_val(ref->entries, at, entry);
    return true;
}

/* --- rules --- */

static bool scope_from_name(const char *name, ForeReferenceScope *ret)
{
    for (ForeReferenceScope scope = 0; scope < FORE_SCOPE_N; scope++) {
        if (strcmp(name, fore_reference_scope_names[scope]) == 0) {
            *ret = scope;
            return true;
        }
    }
    return false;
}

bool fore_reference_add_rule(ForeReference *ref, ForeReferenceScope scope, const char *id,
                             char *const *words, GError **error)
{
    g_autofree char *joined = g_strjoinv(" ", (char **)words);
    g_autofree char *line =
        g_strdup_printf("%s %s %s", fore_reference_scope_names[scope], id, joined);

    if (scope == FORE_SCOPE_VM ? !fore_uuid_is_valid(id) : !fore_name_is_valid(id)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "'%.64s' is no %s", id,
                    scope == FORE_SCOPE_VM ? "lower-case VM UUID" : "name");
        return false;
    }
    if (!fore_rule_check(scope, words, error)) {
        return false;
    }
    if (fore_reference_size(ref) >= FORE_REFERENCE_MAX_ENTRIES) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT, "more than %u lines",
                    FORE_REFERENCE_MAX_ENTRIES);
        return false;
    }
    if (g_tree_lookup_node(ref->rules, line) != NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS, "the same rule twice: '%.200s'", line);
        return false;
    }
    g_tree_insert(ref->rules, g_steal_pointer(&line), NULL);
    return true;
}

bool fore_reference_each_rule(const ForeReference *ref, ForeReferenceRule each, gpointer data)
{
    for (GTreeNode *node = g_tree_node_first(ref->rules); node != NULL;
         node = g_tree_node_next(node)) {
        g_auto(GStrv) words = g_strsplit(g_tree_node_key(node), " ", -1);
        ForeReferenceScope scope = FORE_SCOPE_NODE;

        g_assert(scope_from_name(words[0], &scope));
        if (!each(scope, words[1], words + 2, data)) {
            return false;
        }
    }
    return true;
}

void fore_reference_each_value(const ForeReference *ref, ForeReferenceValue each, gpointer data)
{
    for (guint i = 0; i < ref->entries->len; i++) {
        const Entry *e = &g_array_index(ref->entries, Entry, i);

        each(e->subject, e->id, e->pcr, e->digest, data);
    }
}

/* --- text --- */

static bool parse_number(const char *text, uint64_t max, uint64_t *ret)
{
    /* one text for one value: no sign, no leading zero, no blank */
    return text != NULL && g_ascii_isdigit(text[0]) && !(text[0] == '0' && text[1] != '\0') &&
           g_ascii_string_to_unsigned(text, 10, 0, max, ret, NULL);
}

static bool parse_digest(const char *hex, uint8_t ret[32])
{
    g_autoptr(GBytes) bytes = fore_hex_decode(hex, 32);

    if (bytes == NULL || g_bytes_get_size(bytes) != 32) {
        return false;
    }
    memcpy(ret, g_bytes_get_data(bytes, NULL), 32);
    return true;
}

static bool parse_value_line(ForeReference *ref, char **words, GError **error)
{
    static const char bank[] = "sha256:";
    ForeReferenceScope scope = FORE_SCOPE_N;
    uint64_t pcr;
    uint8_t digest[32];

    if (g_strv_length(words) < 3 || !scope_from_name(words[0], &scope)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "want 'node ID ...', 'vm UUID ...' or 'profile NAME ...'");
        return false;
    }
    if (strcmp(words[2], "pcr") != 0) {
        return fore_reference_add_rule(ref, scope, words[1], words + 2, error);
    }
    if (scope == FORE_SCOPE_PROFILE || g_strv_length(words) != 5) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "want 'node ID pcr sha256:N HEX' or 'vm UUID pcr sha256:N HEX'");
        return false;
    }
    if (!g_str_has_prefix(words[3], bank) || !parse_number(words[3] + strlen(bank), 23, &pcr)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "'%.32s' is no PCR; want sha256:0..15",
                    words[3]);
        return false;
    }
    if (!parse_digest(words[4], digest)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "'%.70s' is no SHA-256 value of 64 hex digits", words[4]);
        return false;
    }
    return fore_reference_add(ref, (ForeSubject)scope, words[1], (unsigned)pcr, digest, error);
}

/* The first two lines that count are the format and the version. */
static bool parse_line(ForeReference *ref, unsigned nth, char **words, GError **error)
{
    uint64_t format;

    if (nth == 0) {
        if (g_strv_length(words) == 2 && strcmp(words[0], "foresee-reference") == 0 &&
            parse_number(words[1], FORMAT, &format) && format == FORMAT) {
            return true;
        }
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "want 'foresee-reference %d' first",
                    FORMAT);
        return false;
    }
    if (nth == 1) {
        if (g_strv_length(words) == 2 && strcmp(words[0], "version") == 0 &&
            parse_number(words[1], FORE_REFERENCE_MAX_VERSION, &ref->version)) {
            return true;
        }
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "want 'version NUMBER' second");
        return false;
    }
    return parse_value_line(ref, words, error);
}

/* Words between single blanks or tabs; runs of them count as one. */
static char **split_words(const char *line)
{
    g_auto(GStrv) raw = g_strsplit_set(line, " \t", -1);
    GStrvBuilder *builder = g_strv_builder_new();
    char **words;

    for (unsigned i = 0; raw[i] != NULL; i++) {
        if (raw[i][0] != '\0') {
            g_strv_builder_add(builder, raw[i]);
        }
    }
    words = g_strv_builder_end(builder);
    g_strv_builder_unref(builder);
    return words;
}

static bool take_line(ForeReference *ref, const char *line, size_t size, unsigned *nth,
                      GError **error)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) words = NULL;

    if (size > LINE_BYTES_MAX || memchr(line, '\0', size) != NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "longer than %d bytes or binary",
                    LINE_BYTES_MAX);
        return false;
    }
    text = g_strndup(line, size);
    if (!g_str_is_ascii(text)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "not plain ASCII");
        return false;
    }
    g_strchomp(text);
    words = split_words(text);
    if (words[0] == NULL || words[0][0] == '#') {
        return true;
    }
    return parse_line(ref, (*nth)++, words, error);
}

ForeReference *fore_reference_parse(const char *text, size_t size, GError **error)
{
    g_autoptr(ForeReference) ref = fore_reference_new(0);
    unsigned nth = 0, line_number = 0;

    if (size > FORE_REFERENCE_MAX) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "reference text of %zu bytes; at most %u are taken", size, FORE_REFERENCE_MAX);
        return NULL;
    }
    while (size > 0) {
        const char *end = memchr(text, '\n', size);
        size_t n = end != NULL ? (size_t)(end - text) : size;

        line_number++;
        if (!take_line(ref, text, n, &nth, error)) {
            g_prefix_error(error, "reference text, line %u: ", line_number);
            return NULL;
        }
        text += end != NULL ? n + 1 : n;
        size -= end != NULL ? n + 1 : n;
    }
    if (nth < 2) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "reference text ends before 'foresee-reference %d' and 'version NUMBER'",
                    FORMAT);
        return NULL;
    }
    return g_steal_pointer(&ref);
}

char *fore_reference_format(const ForeReference *ref)
{
    GString *out = g_string_new(NULL);

    g_string_printf(out, "foresee-reference %d\nversion %" G_GUINT64_FORMAT "\n", FORMAT,
                    ref->version);
    for (guint i = 0; i < ref->entries->len; i++) {
        const Entry *e = &g_array_index(ref->entries, Entry, i);
        g_autofree char *hex = fore_hex_encode(e->digest, sizeof(e->digest));

        g_string_append_printf(out, "%s %s pcr sha256:%u %s\n", fore_subject_names[e->subject],
                               e->id, e->pcr, hex);
    }
    for (GTreeNode *node = g_tree_node_first(ref->rules); node != NULL;
         node = g_tree_node_next(node)) {
        g_string_append_printf(out, "%s\n", (const char *)g_tree_node_key(node));
    }
    return g_string_free(out, FALSE);
}

/* --- signed form ---
 * {"foresee-reference":1,"version":N,"nodes":{ID:{"7":[HEX,...]}},"vms":{...},"rules":[LINE,...]},
 * "rules" being absent when there is none */

static json_t *child(json_t *parent, const char *key, json_t *made(void))
{
    json_t *value = json_object_get(parent, key);

    if (value == NULL) {
        value = made();
        json_object_set_new(parent, key, value);
    }
    return value;
}

static json_t *to_json(const ForeReference *ref)
{
    json_t *doc = json_pack("{s:i, s:I, s:{}, s:{}}", "foresee-reference", FORMAT, "version",
                            (json_int_t)ref->version, json_groups[0], json_groups[1]);

    for (guint i = 0; i < ref->entries->len; i++) {
        const Entry *e = &g_array_index(ref->entries, Entry, i);
        g_autofree char *hex = fore_hex_encode(e->digest, sizeof(e->digest));
        g_autofree char *pcr = g_strdup_printf("%u", e->pcr);
        json_t *group = json_object_get(doc, json_groups[e->subject]);
        json_t *subject = child(group, e->id, json_object);

        json_array_append_new(child(subject, pcr, json_array), json_string(hex));
    }
    for (GTreeNode *node = g_tree_node_first(ref->rules); node != NULL;
         node = g_tree_node_next(node)) {
        json_array_append_new(child(doc, "rules", json_array), json_string(g_tree_node_key(node)));
    }
    return doc;
}

char *fore_reference_sign(const ForeReference *ref, EVP_PKEY *key, GError **error)
{
    g_autoptr(json_t) doc = to_json(ref);
    g_autofree char *jws = fore_jws_sign(JWS_TYPE, doc, key, error);

    if (jws != NULL && strlen(jws) > FORE_REFERENCE_MAX) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "the signed reference would have %zu bytes; at most %u are taken", strlen(jws),
                    FORE_REFERENCE_MAX);
        return NULL;
    }
    return g_steal_pointer(&jws);
}

static bool add_pcr(ForeReference *ref, ForeSubject subject, const char *id, const char *pcr_text,
                    json_t *values, GError **error)
{
    uint64_t pcr;

    if (!parse_number(pcr_text, 23, &pcr) || !json_is_array(values) ||
        json_array_size(values) == 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "reference of %s %.64s: PCR '%.16s' is not a number with a list of values",
                    fore_subject_names[subject], id, pcr_text);
        return false;
    }
    for (size_t i = 0; i < json_array_size(values); i++) {
        const char *hex = json_string_value(json_array_get(values, i));
        uint8_t digest[32];

        if (hex == NULL || !parse_digest(hex, digest)) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                        "reference of %s %.64s, PCR %.16s: a value is no SHA-256 in hex",
                        fore_subject_names[subject], id, pcr_text);
            return false;
        }
        if (!fore_reference_add(ref, subject, id, (unsigned)pcr, digest, error)) {
            return false;
        }
    }
    return true;
}

static bool add_group(ForeReference *ref, ForeSubject subject, json_t *group, GError **error)
{
    const char *id, *pcr;
    json_t *pcrs, *values;

    json_object_foreach (group, id, pcrs) {
        if (!json_is_object(pcrs) || json_object_size(pcrs) == 0) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "reference of %s %.64s has no PCR",
                        fore_subject_names[subject], id);
            return false;
        }
        json_object_foreach (pcrs, pcr, values) {
            if (!add_pcr(ref, subject, id, pcr, values, error)) {
                return false;
            }
        }
    }
    return true;
}

/* Signed lines go through the same parser as the text. */
static bool add_rules(ForeReference *ref, const json_t *doc, GError **error)
{
    json_t *rules;

    if (json_object_get(doc, "rules") == NULL) {
        return true;
    }
    if (!fore_json_get_array(doc, "rules", FORE_REFERENCE_MAX_ENTRIES, &rules, error)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(rules); i++) {
        const char *line = json_string_value(json_array_get(rules, i));
        g_auto(GStrv) words = line != NULL ? split_words(line) : NULL;

        if (words == NULL || g_strv_length(words) < 3 || strcmp(words[2], "pcr") == 0) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "rule %zu is no rule", i);
            return false;
        }
        if (!parse_value_line(ref, words, error)) {
            g_prefix_error(error, "rule '%.100s': ", line);
            return false;
        }
    }
    return true;
}

ForeReference *fore_reference_verify(const char *jws, EVP_PKEY *key, GError **error)
{
    g_autoptr(json_t) doc = NULL;
    g_autoptr(ForeReference) ref = fore_reference_new(0);
    ForeJwsReason reason = fore_jws_verify(jws, FORE_REFERENCE_MAX, JWS_TYPE, key, &doc);
    int64_t format, version;

    if (reason != FORE_JWS_OK) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "reference document refused: %s; sign it with the policy key",
                    fore_jws_reason_name(reason));
        return NULL;
    }
    if (!fore_json_get_int(doc, "foresee-reference", FORMAT, FORMAT, &format, error) ||
        !fore_json_get_int(doc, "version", 0, (int64_t)FORE_REFERENCE_MAX_VERSION, &version,
                           error)) {
        return NULL;
    }
    ref->version = (uint64_t)version;
    for (ForeSubject subject = 0; subject < FORE_SUBJECT_N; subject++) {
        json_t *group;

        if (!fore_json_get_object(doc, json_groups[subject], &group, error) ||
            !add_group(ref, subject, group, error)) {
            return NULL;
        }
    }
    if (!add_rules(ref, doc, error)) {
        return NULL;
    }
    return g_steal_pointer(&ref);
}

/* --- judging --- */

uint64_t fore_reference_version(const ForeReference *ref)
{
    return ref->version;
}

size_t fore_reference_size(const ForeReference *ref)
{
    return ref->entries->len + (size_t)g_tree_nnodes(ref->rules);
}

/* First entry of a subject; NULL when it has none.  Its entries lie together. */
static const Entry *first_of(const ForeReference *ref, ForeSubject subject, const char *id)
{
    Entry key = {.subject = subject};
    guint at;

    if (ref == NULL || !id_is_valid(subject, id)) {
        return NULL;
    }
    g_strlcpy(key.id, id, sizeof(key.id));
    at = lower_bound(ref, &key);
    if (at == ref->entries->len ||
        compare_subject(&g_array_index(ref->entries, Entry, at), subject, id) != 0) {
        return NULL;
    }
    return &g_array_index(ref->entries, Entry, at);
}

static const Entry *next_of(const ForeReference *ref, const Entry *e)
{
    const Entry *end = &g_array_index(ref->entries, Entry, 0) + ref->entries->len;

    return e + 1 < end && compare_subject(e + 1, e->subject, e->id) == 0 ? e + 1 : NULL;
}

uint32_t fore_reference_mask(const ForeReference *ref, ForeSubject subject, const char *id)
{
    uint32_t mask = 0;

    for (const Entry *e = first_of(ref, subject, id); e != NULL; e = next_of(ref, e)) {
        mask |= 1u << e->pcr;
    }
    return mask;
}

ForeReferenceMatch fore_reference_match(const ForeReference *ref, ForeSubject subject,
                                        const char *id, uint32_t mask, const uint8_t (*pcrs)[32],
                                        unsigned *ret_pcr)
{
    uint32_t good = 0, listed = fore_reference_mask(ref, subject, id);
    uint32_t bad;

    for (const Entry *e = first_of(ref, subject, id); e != NULL; e = next_of(ref, e)) {
        if ((mask >> e->pcr & 1u) != 0 && memcmp(pcrs[e->pcr], e->digest, 32) == 0) {
            good |= 1u << e->pcr;
        }
    }
    if (mask != 0 && good == mask) {
        return FORE_REFERENCE_OK;
    }
    /* a wrong value says more than a missing one */
    bad = mask & listed & ~good;
    bad = bad != 0 ? bad : mask & ~listed;
    if (ret_pcr != NULL && bad != 0) {
        *ret_pcr = (unsigned)__builtin_ctz(bad);
    }
    return (mask & listed & ~good) != 0 ? FORE_REFERENCE_MISMATCH : FORE_REFERENCE_NONE;
}

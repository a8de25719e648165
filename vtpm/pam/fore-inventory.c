/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  A change is first a line in the audit log, then a new inventory that carries the
 * log's head.  A crash in between leaves the log one line ahead, which is noticed and noted at the
 * next start.  A log that is further ahead, or that lacks the head, means that somebody put an old
 * inventory or an old log back: then nothing opens.  (Old copies of both together look right; only
 * a counter in a TPM can tell them.)
 */
#include "vtpm/pam/fore-inventory.h"

#include <openssl/crypto.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "common/fore-json.h"
#include "vtpm/pam/fore-audit.h"
#include "vtpm/pam/fore-inventory-file.h"

#define FORMAT 2

struct ForeInventory {
    char *path, *audit_path;
    guint8 key[FORE_INVENTORY_KEY_SIZE];
    GHashTable *records; /* id (in the record) -> ForeRecord */
    char *reference;
    GTree *revoked; /* hex */
    bool anchored;
    ForeAudit *audit;
    ForeAuditHead saved_head; /* what the file on disk says */
    bool stuck;               /* disk and memory may differ: refuse until a restart */
};

/* --- records --- */

ForeRecord *fore_record_new(ForeSubject subject, const char *id)
{
    ForeRecord *record = g_new0(ForeRecord, 1);

    record->subject = subject;
    g_strlcpy(record->id, id, sizeof(record->id));
    g_strlcpy(record->name, id, sizeof(record->name));
    record->ima_state = fore_ima_state_new();
    return record;
}

void fore_record_free(ForeRecord *record)
{
    if (record == NULL) {
        return;
    }
    g_free(record->address);
    g_free(record->pin);
    g_strfreev(record->pathway);
    g_clear_pointer(&record->ek_public, g_bytes_unref);
    g_clear_pointer(&record->ak_public, g_bytes_unref);
    g_clear_pointer(&record->ak_name, g_bytes_unref);
    g_free(record->ak_name_hex);
    fore_ima_state_free(record->ima_state);
    g_free(record);
}

static json_t *clock_to_json(const ForeTpmClock *clock)
{
    return json_pack("{s:I, s:I, s:I, s:b}", "clock-ms", (json_int_t)clock->clock_ms, "resets",
                     (json_int_t)clock->reset_count, "restarts", (json_int_t)clock->restart_count,
                     "safe", clock->safe);
}

static json_t *record_to_json(const ForeRecord *r)
{
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:I, s:b, s:I, s:s, s:s}", "subject",
                  fore_subject_names[r->subject], "id", r->id, "name", r->name, "role",
                  fore_role_names[r->role], "ek-public", fore_json_bytes(r->ek_public), "ak-public",
                  fore_json_bytes(r->ak_public), "ak-name", fore_json_bytes(r->ak_name),
                  "enrolled-at", (json_int_t)r->enrolled_s, "software-tpm", r->software_tpm, "seq",
                  (json_int_t)r->seq, "sticky", r->sticky, "owner", r->owner);

    if (r->has_clock) {
        json_object_set_new(json, "clock", clock_to_json(&r->clock));
    }
    if (r->subject == FORE_SUBJECT_NODE) {
        json_object_set_new(json, "address", json_string(r->address));
        json_object_set_new(json, "pin", json_string(r->pin));
    } else {
        json_t *pathway = json_array();
        for (unsigned i = 0; r->pathway != NULL && r->pathway[i] != NULL; i++) {
            json_array_append_new(pathway, json_string(r->pathway[i]));
        }
        json_object_set_new(json, "pathway", pathway);
    }
    return json;
}

static bool clock_from_json(const json_t *json, ForeRecord *r, GError **error)
{
    json_t *clock;
    int64_t ms, resets, restarts;

    if (json_object_get(json, "clock") == NULL) {
        return true;
    }
    if (!fore_json_get_object(json, "clock", &clock, error) ||
        !fore_json_get_int(clock, "clock-ms", 0, INT64_MAX, &ms, error) ||
        !fore_json_get_int(clock, "resets", 0, UINT32_MAX, &resets, error) ||
        !fore_json_get_int(clock, "restarts", 0, UINT32_MAX, &restarts, error) ||
        !fore_json_get_bool(clock, "safe", &r->clock.safe, error)) {
        return false;
    }
    r->clock.clock_ms = (uint64_t)ms;
    r->clock.reset_count = (uint32_t)resets;
    r->clock.restart_count = (uint32_t)restarts;
    r->has_clock = true;
    return true;
}

static bool place_from_json(const json_t *json, ForeRecord *r, GError **error)
{
    const char *address, *pin;
    json_t *pathway;

    if (r->subject == FORE_SUBJECT_NODE) {
        if (!fore_json_get_string(json, "address", &address, error) ||
            !fore_json_get_string(json, "pin", &pin, error)) {
            return false;
        }
        r->address = g_strdup(address);
        r->pin = g_strdup(pin);
        return true;
    }
    if (!fore_json_get_array(json, "pathway", FORE_PATHWAY_MAX, &pathway, error)) {
        return false;
    }
    r->pathway = g_new0(char *, json_array_size(pathway) + 1);
    for (size_t i = 0; i < json_array_size(pathway); i++) {
        r->pathway[i] = g_strdup(json_string_value(json_array_get(pathway, i)));
    }
    return true;
}

static ForeRecord *record_from_json(const json_t *json, GError **error)
{
    const char *subject, *id, *name, *role, *sticky, *owner;
    int64_t seq;
    g_autoptr(ForeRecord) r = NULL;

    if (!fore_json_get_string(json, "subject", &subject, error) ||
        !fore_json_get_string(json, "id", &id, error)) {
        return NULL;
    }
    r = fore_record_new(strcmp(subject, "vm") == 0 ? FORE_SUBJECT_VM : FORE_SUBJECT_NODE, id);
    if (!fore_json_get_string(json, "name", &name, error) ||
        !fore_json_get_string(json, "role", &role, error) ||
        !fore_json_get_string(json, "sticky", &sticky, error) ||
        !fore_json_get_string(json, "owner", &owner, error) ||
        !fore_json_get_bytes(json, "ek-public", 1024, &r->ek_public, error) ||
        !fore_json_get_bytes(json, "ak-public", 1024, &r->ak_public, error) ||
        !fore_json_get_bytes(json, "ak-name", 66, &r->ak_name, error) ||
        !fore_json_get_int(json, "enrolled-at", 0, INT64_MAX, &r->enrolled_s, error) ||
        !fore_json_get_bool(json, "software-tpm", &r->software_tpm, error) ||
        !fore_json_get_int(json, "seq", 0, INT64_MAX, &seq, error) ||
        !clock_from_json(json, r, error) || !place_from_json(json, r, error)) {
        return NULL;
    }
    r->seq = (uint64_t)seq;
    r->role = fore_role_from_name(role);
    if (r->role == FORE_ROLE_N) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "'%s' has an unknown role", r->id);
        return NULL;
    }
    g_strlcpy(r->name, name, sizeof(r->name));
    g_strlcpy(r->sticky, sticky, sizeof(r->sticky));
    g_strlcpy(r->owner, owner, sizeof(r->owner));
    r->ak_name_hex =
        fore_hex_encode(g_bytes_get_data(r->ak_name, NULL), g_bytes_get_size(r->ak_name));
    return g_steal_pointer(&r);
}

/* --- the file --- */

static char *to_text(const ForeInventory *inv, const ForeAuditHead *head)
{
    g_autoptr(json_t) doc = NULL;
    json_t *records = json_array(), *revoked = json_array();
    GHashTableIter iter;
    gpointer value;

    for (GTreeNode *node = g_tree_node_first(inv->revoked); node != NULL;
         node = g_tree_node_next(node)) {
        json_array_append_new(revoked, json_string(g_tree_node_key(node)));
    }
    g_hash_table_iter_init(&iter, inv->records);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        json_array_append_new(records, record_to_json(value));
    }
    doc = json_pack("{s:i, s:{s:I, s:s}, s:s?, s:o, s:o, s:b}", "format", FORMAT, "audit", "lines",
                    (json_int_t)head->lines, "hash", head->hash, "reference", inv->reference,
                    "records", records, "revoked", revoked, "anchored", inv->anchored);
    return fore_json_dump_line(doc);
}

static bool write_file(ForeInventory *inv, GError **error)
{
    ForeAuditHead head;
    g_autofree char *text = NULL;
    g_autoptr(GBytes) sealed = NULL;
    bool replaced = false, good;

    fore_audit_head(inv->audit, &head);
    text = to_text(inv, &head);
    sealed = fore_inventory_encrypt(inv->key, text, error);
    OPENSSL_cleanse(text, strlen(text));
    good = sealed != NULL && fore_file_replace(inv->path, g_bytes_get_data(sealed, NULL),
                                               g_bytes_get_size(sealed), &replaced, error);
    if (replaced) {
        inv->saved_head = head;
    }
    /* In place, but a power cut might undo it: neither true nor false can be promised. */
    inv->stuck = inv->stuck || (replaced && !good);
    return good;
}

static bool records_from_json(ForeInventory *inv, const json_t *doc, GError **error)
{
    json_t *records;

    if (!fore_json_get_array(doc, "records", FORE_INVENTORY_MAX, &records, error)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(records); i++) {
        ForeRecord *record = record_from_json(json_array_get(records, i), error);

        if (record == NULL) {
            return false;
        }
        g_hash_table_replace(inv->records, record->id, record);
    }
    return true;
}

static bool revoked_from_json(ForeInventory *inv, const json_t *doc, GError **error)
{
    json_t *revoked;

    if (!fore_json_get_array(doc, "revoked", FORE_INVENTORY_MAX, &revoked, error)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(revoked); i++) {
        const char *key = json_string_value(json_array_get(revoked, i));

        if (key != NULL) {
            g_tree_insert(inv->revoked, g_strdup(key), NULL);
        }
    }
    return true;
}

static bool from_text(ForeInventory *inv, const char *text, GError **error)
{
    static const ForeJsonLimits limits = {FORE_INVENTORY_FILE_MAX, 8, 1u << 20, 1u << 20};
    g_autoptr(json_t) doc = fore_json_parse(text, strlen(text), &limits, error);
    json_t *audit;
    const char *hash;
    int64_t format, lines;

    if (doc == NULL || !fore_json_get_int(doc, "format", FORMAT, FORMAT, &format, error) ||
        !fore_json_get_object(doc, "audit", &audit, error) ||
        !fore_json_get_int(audit, "lines", 0, INT64_MAX, &lines, error) ||
        !fore_json_get_string(audit, "hash", &hash, error)) {
        return false;
    }
    inv->saved_head.lines = (uint64_t)lines;
    g_strlcpy(inv->saved_head.hash, hash, sizeof(inv->saved_head.hash));
    inv->reference = g_strdup(json_string_value(json_object_get(doc, "reference")));
    return fore_json_get_bool(doc, "anchored", &inv->anchored, error) &&
           records_from_json(inv, doc, error) && revoked_from_json(inv, doc, error);
}

static bool read_file(ForeInventory *inv, GError **error)
{
    g_autofree char *bytes = NULL;
    g_autofree char *text = NULL;
    gsize size;
    bool good;

    if (!g_file_get_contents(inv->path, &bytes, &size, error)) {
        return false;
    }
    text = fore_inventory_decrypt(inv->key, bytes, size, error);
    good = text != NULL && from_text(inv, text, error);
    if (text != NULL) {
        OPENSSL_cleanse(text, strlen(text));
    }
    if (!good) {
        g_prefix_error(error, "inventory '%s': ", inv->path);
    }
    return good;
}

/* --- open and close --- */

void fore_inventory_close(ForeInventory *inv)
{
    if (inv == NULL) {
        return;
    }
    OPENSSL_cleanse(inv->key, sizeof(inv->key));
    g_hash_table_unref(inv->records);
    g_tree_unref(inv->revoked);
    fore_audit_close(inv->audit);
    g_free(inv->path);
    g_free(inv->audit_path);
    g_free(inv->reference);
    g_free(inv);
}

static gint compare_text(gconstpointer a, gconstpointer b, gpointer data)
{
    return strcmp(a, b);
}

/* Everything but the audit log. */
static ForeInventory *load(const char *dir, const char *tcti, bool may_create, GError **error)
{
    g_autoptr(ForeInventory) inv = g_new0(ForeInventory, 1);
    bool exists;

    inv->path = g_build_filename(dir, "inventory", NULL);
    inv->audit_path = g_build_filename(dir, "audit.log", NULL);
    inv->records =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)fore_record_free);
    inv->revoked = g_tree_new_full(compare_text, NULL, g_free, NULL);
    exists = g_file_test(inv->path, G_FILE_TEST_EXISTS);
    if (!fore_inventory_key(dir, tcti, may_create && !exists, inv->key, error) ||
        (exists && !read_file(inv, error))) {
        return NULL;
    }
    return g_steal_pointer(&inv);
}

/* Does the log fit the inventory?  @ret_note: one line ahead, which a crash explains. */
static bool check_head(ForeInventory *inv, bool torn, char **ret_note, GError **error)
{
    ForeAuditHead head;

    if (!fore_audit_verify(inv->audit_path, &inv->saved_head, &head, error)) {
        return false;
    }
    if (head.lines > inv->saved_head.lines + 1) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "inventory '%s' knows %" G_GUINT64_FORMAT
                    " audit lines, the log has %" G_GUINT64_FORMAT
                    ": the inventory is an old copy or was removed",
                    inv->path, inv->saved_head.lines, head.lines);
        return false;
    }
    if (head.lines > inv->saved_head.lines) {
        *ret_note = g_strdup_printf(
            "audit line %" G_GUINT64_FORMAT " tells of a change that a crash undid", head.lines);
    } else if (torn) {
        *ret_note = g_strdup("a half-written audit line was cut off");
    }
    return true;
}

ForeInventory *fore_inventory_open(const char *dir, const char *tcti, char **ret_note,
                                   GError **error)
{
    g_autoptr(ForeInventory) inv = load(dir, tcti, true, error);
    g_autofree char *note = NULL;
    bool torn = false;

    if (inv == NULL) {
        return NULL;
    }
    inv->audit = fore_audit_open(inv->audit_path, &torn, error);
    if (inv->audit == NULL || !check_head(inv, torn, &note, error)) {
        return NULL;
    }
    if (note != NULL && (!fore_audit_append(inv->audit, "recovered", "", "", note, error) ||
                         !write_file(inv, error))) {
        return NULL;
    }
    *ret_note = g_steal_pointer(&note);
    return g_steal_pointer(&inv);
}

bool fore_inventory_verify_audit(const char *dir, const char *tcti, uint64_t *ret_lines,
                                 GError **error)
{
    g_autoptr(ForeInventory) inv = load(dir, tcti, false, error);
    ForeAuditHead head;

    if (inv == NULL || !fore_audit_verify(inv->audit_path, &inv->saved_head, &head, error)) {
        return false;
    }
    *ret_lines = head.lines;
    return true;
}

/* --- changes --- */

bool fore_inventory_save(ForeInventory *inv, const ForeChange *change, GError **error)
{
    if (inv->stuck) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "an earlier write failed half-way; restart foresee-pam when the disk is well");
        return false;
    }
    if (change != NULL && !fore_audit_append(inv->audit, change->what, change->id, change->peer,
                                             change->detail, error)) {
        return false;
    }
    if (!write_file(inv, error)) {
        if (!inv->stuck && change != NULL) {
            inv->stuck = !fore_audit_rewind(inv->audit, NULL);
        }
        return false;
    }
    return true;
}

bool fore_inventory_add(ForeInventory *inv, ForeRecord *record, const ForeChange *change,
                        GError **error)
{
    if (g_hash_table_contains(inv->records, record->id)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS, "'%s' is enrolled already", record->id);
        fore_record_free(record);
        return false;
    }
    if (g_hash_table_size(inv->records) >= FORE_INVENTORY_MAX) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT, "%d nodes and VMs are enrolled already",
                    FORE_INVENTORY_MAX);
        fore_record_free(record);
        return false;
    }
    g_hash_table_insert(inv->records, record->id, record);
    if (!fore_inventory_save(inv, change, error)) {
        g_hash_table_remove(inv->records, record->id);
        return false;
    }
    return true;
}

bool fore_inventory_remove(ForeInventory *inv, const char *id, const ForeChange *change,
                           GError **error)
{
    ForeRecord *record = g_hash_table_lookup(inv->records, id);

    if (record == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND, "'%s' is not enrolled", id);
        return false;
    }
    g_hash_table_steal(inv->records, id);
    if (!fore_inventory_save(inv, change, error)) {
        g_hash_table_insert(inv->records, record->id, record);
        return false;
    }
    fore_record_free(record);
    return true;
}

/* --- anchors --- */

void fore_inventory_audit_head(const ForeInventory *inv, ForeAuditHead *ret)
{
    fore_audit_head(inv->audit, ret);
}

bool fore_inventory_is_anchored(const ForeInventory *inv)
{
    return inv->anchored;
}

bool fore_inventory_set_anchored(ForeInventory *inv, const ForeChange *change, GError **error)
{
    bool before = inv->anchored;

    inv->anchored = true;
    if (!fore_inventory_save(inv, change, error)) {
        inv->anchored = before;
        return false;
    }
    return true;
}

/* --- revocation --- */

bool fore_inventory_revoke(ForeInventory *inv, const char *key, const ForeChange *change,
                           GError **error)
{
    if (g_tree_lookup_node(inv->revoked, key) != NULL) {
        return true;
    }
    if (g_tree_nnodes(inv->revoked) >= FORE_INVENTORY_MAX) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT, "%d keys are revoked already",
                    FORE_INVENTORY_MAX);
        return false;
    }
    g_tree_insert(inv->revoked, g_strdup(key), NULL);
    if (!fore_inventory_save(inv, change, error)) {
        g_tree_remove(inv->revoked, key);
        return false;
    }
    return true;
}

bool fore_inventory_is_revoked(const ForeInventory *inv, const ForeRecord *record)
{
    g_autofree char *ek = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, record->ek_public);

    return g_tree_lookup_node(inv->revoked, record->ak_name_hex) != NULL ||
           g_tree_lookup_node(inv->revoked, ek) != NULL;
}

GPtrArray *fore_inventory_revoked(const ForeInventory *inv)
{
    GPtrArray *keys = g_ptr_array_new();

    for (GTreeNode *node = g_tree_node_first(inv->revoked); node != NULL;
         node = g_tree_node_next(node)) {
        g_ptr_array_add(keys, g_tree_node_key(node));
    }
    return keys;
}

bool fore_inventory_set_reference(ForeInventory *inv, const char *jws, const ForeChange *change,
                                  GError **error)
{
    char *before = inv->reference;

    inv->reference = g_strdup(jws);
    if (!fore_inventory_save(inv, change, error)) {
        g_free(inv->reference);
        inv->reference = before;
        return false;
    }
    g_free(before);
    return true;
}

/* --- look-up --- */

ForeRecord *fore_inventory_find(ForeInventory *inv, const char *id)
{
    return g_hash_table_lookup(inv->records, id);
}

ForeRecord *fore_inventory_find_key(ForeInventory *inv, GBytes *ek_public, GBytes *ak_name)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, inv->records);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        ForeRecord *record = value;

        if (g_bytes_equal(record->ek_public, ek_public) ||
            g_bytes_equal(record->ak_name, ak_name)) {
            return record;
        }
    }
    return NULL;
}

static gint compare_ids(gconstpointer a, gconstpointer b)
{
    return strcmp((*(ForeRecord *const *)a)->id, (*(ForeRecord *const *)b)->id);
}

GPtrArray *fore_inventory_records(ForeInventory *inv)
{
    GPtrArray *records = g_ptr_array_new();
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, inv->records);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        g_ptr_array_add(records, value);
    }
    g_ptr_array_sort(records, compare_ids);
    return records;
}

const char *fore_inventory_reference(const ForeInventory *inv)
{
    return inv->reference;
}

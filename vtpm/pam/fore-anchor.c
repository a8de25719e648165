/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/pam/fore-anchor.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "common/fore-json.h"
#include "vtpm/attest/fore-ak.h"
#include "vtpm/attest/fore-nvcert.h"

#define FILE_MAX    (16u << 20)
#define ANCHORS_MAX 131072u
#define DOMAIN      "foresee-audit-anchor-v1"
#define NV_INDEX    0x01800F12u /* FORE_TPM_AUDIT_INDEX */

static const ForeJsonLimits line_limits = {512, 2, 8, 256};
static const ForeJsonLimits proof_limits = {32768, 2, 16, 8192};

static bool set_errno_error(GError **error, const char *doing, const char *path)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot %s '%s': %s", doing, path,
                g_strerror(errno));
    return false;
}

static bool is_hash(const char *hex)
{
    return strlen(hex) == 64 && strspn(hex, "0123456789abcdef") == 64;
}

static void from_hex(const char *hex, uint8_t ret[32])
{
    g_autoptr(GBytes) bytes = fore_hex_decode(hex, 32);

    memcpy(ret, g_bytes_get_data(bytes, NULL), 32);
}

/* --- the file --- */

void fore_anchor_list_free(ForeAnchorList *anchors)
{
    if (anchors != NULL) {
        g_array_unref(anchors->heads);
        g_free(anchors);
    }
}

static bool read_base(ForeAnchorList *anchors, const json_t *line)
{
    const char *hex;

    if (!fore_json_get_string(line, "base", &hex, NULL) || !is_hash(hex)) {
        return false;
    }
    from_hex(hex, anchors->base);
    return true;
}

static bool read_anchor(ForeAnchorList *anchors, const json_t *line)
{
    const ForeAuditHead *last =
        anchors->heads->len > 0
            ? &g_array_index(anchors->heads, ForeAuditHead, anchors->heads->len - 1)
            : NULL;
    ForeAuditHead head;
    const char *hex;
    int64_t n;

    if (anchors->heads->len >= ANCHORS_MAX ||
        !fore_json_get_int(line, "n", last != NULL ? (int64_t)last->lines + 1 : 1, INT64_MAX, &n,
                           NULL) ||
        !fore_json_get_string(line, "hash", &hex, NULL) || !is_hash(hex)) {
        return false;
    }
    head.lines = (uint64_t)n;
    g_strlcpy(head.hash, hex, sizeof(head.hash));
    g_array_append_val(anchors->heads, head);
    return true;
}

static bool read_line(ForeAnchorList *anchors, unsigned nth, const char *text, size_t size)
{
    g_autoptr(json_t) line = fore_json_parse(text, size, &line_limits, NULL);

    return line != NULL && (nth == 0 ? read_base(anchors, line) : read_anchor(anchors, line));
}

ForeAnchorList *fore_anchor_list_load(const char *path, GError **error)
{
    g_autoptr(ForeAnchorList) anchors = g_new0(ForeAnchorList, 1);
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;
    const char *at, *end;
    unsigned nth = 0;
    gsize size;

    anchors->heads = g_array_new(FALSE, FALSE, sizeof(ForeAuditHead));
    if (!g_file_get_contents(path, &text, &size, &why)) {
        bool none = g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT);

        g_set_error(error, FORE_ERROR, none ? FORE_ERROR_NOT_FOUND : FORE_ERROR_UNAVAILABLE, "%s",
                    why->message);
        return NULL;
    }
    for (at = text; size <= FILE_MAX && (end = memchr(at, '\n', size - (gsize)(at - text))) != NULL;
         at = end + 1) {
        if (!read_line(anchors, nth++, at, (gsize)(end - at))) {
            nth = 0;
            break;
        }
    }
    if (nth == 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "'%s' is no list of anchors", path);
        return NULL;
    }
    return g_steal_pointer(&anchors);
}

static bool write_line(const char *path, int flags, const char *line, GError **error)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    size_t size = strlen(line);
    off_t before = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    bool good;

    if (fd < 0) {
        return set_errno_error(error, "open", path);
    }
    good = write(fd, line, size) == (ssize_t)size && fsync(fd) == 0;
    if (!good) {
        set_errno_error(error, "write", path);
        if (ftruncate(fd, before) != 0) {
            g_prefix_error(error, "(and a part of a line is left) ");
        }
    }
    close(fd);
    return good;
}

bool fore_anchor_list_create(const char *path, const uint8_t base[32], GError **error)
{
    g_autofree char *hex = fore_hex_encode(base, 32);
    g_autofree char *line = g_strdup_printf("{\"base\":\"%s\"}\n", hex);

    return write_line(path, O_CREAT | O_EXCL, line, error);
}

bool fore_anchor_list_append(const char *path, const ForeAuditHead *head, GError **error)
{
    g_autofree char *line =
        g_strdup_printf("{\"n\":%" G_GUINT64_FORMAT ",\"hash\":\"%s\"}\n", head->lines, head->hash);

    return write_line(path, 0, line, error);
}

/* --- what they add up to --- */

void fore_anchor_list_value(const ForeAnchorList *anchors, guint n, uint8_t ret[32])
{
    uint8_t both[64];

    memcpy(ret, anchors->base, 32);
    for (guint i = 0; i < n; i++) {
        memcpy(both, ret, 32);
        from_hex(g_array_index(anchors->heads, ForeAuditHead, i).hash, both + 32);
        g_assert(EVP_Digest(both, sizeof(both), ret, NULL, EVP_sha256(), NULL) == 1);
    }
}

bool fore_anchor_list_check(const ForeAnchorList *anchors, const char *log_path,
                            const uint8_t index[32], ForeAuditHead *ret_head, bool *ret_pending,
                            GError **error)
{
    const guint n = anchors->heads->len;
    uint8_t value[32];

    if (!fore_audit_verify_all(log_path, (const ForeAuditHead *)(void *)anchors->heads->data, n,
                               ret_head, error)) {
        return false;
    }
    *ret_pending = false;
    fore_anchor_list_value(anchors, n, value);
    if (memcmp(value, index, 32) == 0) {
        return true;
    }
    if (n > 0) {
        fore_anchor_list_value(anchors, n - 1, value);
        *ret_pending = memcmp(value, index, 32) == 0;
    }
    if (!*ret_pending) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "the %u anchors of audit log '%s' do not add up to what the TPM's index 0x%08x "
                    "holds: log and anchors are an old copy, or the index was written by others",
                    n, log_path, NV_INDEX);
    }
    return *ret_pending;
}

/* --- proof --- */

void fore_anchor_proof_done(ForeAnchorProof *proof)
{
    g_clear_pointer(&proof->attest, g_bytes_unref);
    g_clear_pointer(&proof->signature, g_bytes_unref);
    g_clear_pointer(&proof->ak_public, g_bytes_unref);
}

GBytes *fore_anchor_proof_extra(const ForeAuditHead *head)
{
    g_autofree char *text =
        g_strdup_printf(DOMAIN ":%" G_GUINT64_FORMAT ":%s", head->lines, head->hash);
    uint8_t digest[32];

    g_assert(EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL) == 1);
    return g_bytes_new(digest, sizeof(digest));
}

bool fore_anchor_proof_save(const char *path, const ForeAnchorProof *proof,
                            const ForeAuditHead *head, GError **error)
{
    g_autoptr(json_t) json = json_pack("{s:I, s:s, s:o, s:o, s:o}", "n", (json_int_t)head->lines,
                                       "hash", head->hash, "attest", fore_json_bytes(proof->attest),
                                       "signature", fore_json_bytes(proof->signature), "ak-public",
                                       fore_json_bytes(proof->ak_public));
    g_autofree char *text = fore_json_dump_line(json);
    g_autoptr(GError) why = NULL;

    if (!g_file_set_contents_full(path, text, -1,
                                  G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                  0600, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "%s", why->message);
        return false;
    }
    return true;
}

static bool read_proof(const char *path, ForeAnchorProof *ret, ForeAuditHead *ret_head,
                       GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    g_autoptr(json_t) json = NULL;
    const char *hash;
    int64_t n;
    gsize size;

    if (!g_file_get_contents(path, &text, &size, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "%s", why->message);
        return false;
    }
    json = fore_json_parse(text, size, &proof_limits, error);
    if (json == NULL || !fore_json_get_int(json, "n", 0, INT64_MAX, &n, error) ||
        !fore_json_get_string(json, "hash", &hash, error) ||
        !fore_json_get_bytes(json, "attest", FORE_QUOTE_MAX_ATTEST, &ret->attest, error) ||
        !fore_json_get_bytes(json, "signature", FORE_QUOTE_MAX_SIGNATURE, &ret->signature, error) ||
        !fore_json_get_bytes(json, "ak-public", 1024, &ret->ak_public, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    ret_head->lines = (uint64_t)n;
    g_strlcpy(ret_head->hash, hash, sizeof(ret_head->hash));
    return true;
}

/* The statement's key: one that signs nothing but its TPM's own statements, and the one wanted. */
static bool check_key(const ForeAnchorProof *proof, const char *ak_name, GError **error)
{
    ForeAkReason reason = fore_ak_check(proof->ak_public, NULL);
    g_autoptr(GBytes) name = reason == FORE_AK_OK ? fore_ak_name(proof->ak_public) : NULL;
    g_autofree char *hex =
        name != NULL ? fore_hex_encode(g_bytes_get_data(name, NULL), g_bytes_get_size(name)) : NULL;

    if (reason != FORE_AK_OK || (ak_name != NULL && strcmp(hex, ak_name) != 0)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "the proof's key %s%s",
                    reason != FORE_AK_OK ? "is refused: " : "has another name: ",
                    reason != FORE_AK_OK ? fore_ak_reason_name(reason) : hex);
        return false;
    }
    return true;
}

bool fore_anchor_proof_check(const char *path, const char *ak_name, uint8_t ret_index[32],
                             ForeAuditHead *ret_head, GError **error)
{
    g_auto(ForeAnchorProof) proof = {NULL, NULL, NULL};
    g_autoptr(GBytes) extra = NULL;
    ForeNvcertExpect expect = {.index = NV_INDEX};
    ForeNvcertReason reason;
    ForeQuoteReason why = FORE_QUOTE_OK;

    if (!read_proof(path, &proof, ret_head, error) || !check_key(&proof, ak_name, error)) {
        return false;
    }
    extra = fore_anchor_proof_extra(ret_head);
    expect.ak_public = proof.ak_public;
    expect.extra = extra;
    reason = fore_nvcert_verify(&expect, proof.attest, proof.signature, ret_index, NULL, &why);
    if (reason != FORE_NVCERT_OK) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "proof '%s' refused: %s %s", path,
                    fore_nvcert_reason_name(reason),
                    reason == FORE_NVCERT_STATEMENT ? fore_quote_reason_name(why) : "");
        return false;
    }
    return true;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  hash(n) = SHA-256(hash(n-1) in hex, LF, the line without its "hash" member).  The
 * member is always last and always 64 digits, so it is cut off by its place and no JSON needs to be
 * re-formatted. Only a line that ends in LF counts: what a crash left behind after the last LF was
 * never promised to anybody and is cut off.
 */
#include "vtpm/pam/fore-audit.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "common/fore-json.h"

#define TAIL_PREFIX    ",\"hash\":\""
#define TAIL_SIZE      (sizeof(TAIL_PREFIX) - 1 + 64 + 2) /* ..."} */
#define LINE_BYTES_MAX 16384

struct ForeAudit {
    int fd;
    char *path;
    off_t size;
    ForeAuditHead head;
    off_t previous_size; /* before the last append; -1: nothing to take back */
    ForeAuditHead previous;
};

static void set_errno_error(GError **error, const char *doing, const char *path)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot %s '%s': %s", doing, path,
                g_strerror(errno));
}

static void empty_head(ForeAuditHead *head)
{
    head->lines = 0;
    memset(head->hash, '0', 64);
    head->hash[64] = '\0';
}

static void chain(const char before[65], const char *body, size_t size, char ret[65])
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);

    g_checksum_update(sum, (const guchar *)before, 64);
    g_checksum_update(sum, (const guchar *)"\n", 1);
    g_checksum_update(sum, (const guchar *)body, (gssize)size);
    g_strlcpy(ret, g_checksum_get_string(sum), 65);
}

/* @line without its LF. */
static bool take_line(ForeAuditHead *head, const char *line, size_t size)
{
    g_autofree char *begin = g_strdup_printf("{\"n\":%" G_GUINT64_FORMAT ",", head->lines + 1);
    const char *tail = line + size - TAIL_SIZE;
    char hash[65];

    if (size < TAIL_SIZE + strlen(begin) || size > LINE_BYTES_MAX ||
        strncmp(line, begin, strlen(begin)) != 0 ||
        memcmp(tail, TAIL_PREFIX, sizeof(TAIL_PREFIX) - 1) != 0 ||
        memcmp(line + size - 2, "\"}", 2) != 0) {
        return false;
    }
    chain(head->hash, line, size - TAIL_SIZE, hash);
    if (memcmp(hash, tail + sizeof(TAIL_PREFIX) - 1, 64) != 0) {
        return false;
    }
    memcpy(head->hash, hash, sizeof(hash));
    head->lines++;
    return true;
}

typedef struct {
    const ForeAuditHead *anchors; /* heads that must lie on the chain, lines growing */
    size_t n, at;                 /* of them; those before @at were met */
    off_t end;                    /* of the last whole line */
    bool torn;
} Walk;

static bool walk(FILE *file, const char *path, Walk *w, ForeAuditHead *head, GError **error)
{
    g_autofree char *line = g_malloc(LINE_BYTES_MAX + 2);

    empty_head(head);
    while (w->at < w->n && w->anchors[w->at].lines == 0) {
        w->at++; /* of an empty log */
    }
    while (fgets(line, LINE_BYTES_MAX + 2, file) != NULL) {
        size_t size = strlen(line);

        if (size == 0 || line[size - 1] != '\n') {
            w->torn = feof(file) != 0 || fgetc(file) == EOF;
            if (w->torn) {
                break;
            }
        }
        if (!take_line(head, line, size - (size > 0))) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                        "audit log '%s' was changed: line %" G_GUINT64_FORMAT
                        " does not follow from the one before",
                        path, head->lines + 1);
            return false;
        }
        w->end += (off_t)size;
        if (w->at < w->n && head->lines == w->anchors[w->at].lines) {
            if (strcmp(head->hash, w->anchors[w->at].hash) != 0) {
                break; /* told below */
            }
            w->at++;
        }
    }
    if (ferror(file)) {
        set_errno_error(error, "read", path);
        return false;
    }
    if (w->at < w->n) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "audit log '%s' does not hold line %" G_GUINT64_FORMAT
                    " as it was written down elsewhere: it was cut or replaced",
                    path, w->anchors[w->at].lines);
        return false;
    }
    return true;
}

bool fore_audit_verify(const char *path, const ForeAuditHead *anchor, ForeAuditHead *ret,
                       GError **error)
{
    return fore_audit_verify_all(path, anchor, anchor != NULL, ret, error);
}

bool fore_audit_verify_all(const char *path, const ForeAuditHead *anchors, size_t n,
                           ForeAuditHead *ret, GError **error)
{
    FILE *file = fopen(path, "re");
    Walk w = {.anchors = anchors, .n = n};
    bool good;

    if (file == NULL) {
        set_errno_error(error, "open", path);
        return false;
    }
    good = walk(file, path, &w, ret, error);
    fclose(file);
    return good;
}

ForeAudit *fore_audit_open(const char *path, bool *ret_torn, GError **error)
{
    g_autoptr(ForeAudit) audit = g_new0(ForeAudit, 1);
    Walk w = {0};
    FILE *file;
    bool good;

    audit->path = g_strdup(path);
    audit->previous_size = -1;
    audit->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    file = audit->fd >= 0 ? fdopen(dup(audit->fd), "r") : NULL;
    if (file == NULL) {
        set_errno_error(error, "open", path);
        return NULL;
    }
    good = walk(file, path, &w, &audit->head, error);
    fclose(file);
    if (!good) {
        return NULL;
    }
    if (w.torn && ftruncate(audit->fd, w.end) != 0) {
        set_errno_error(error, "repair", path);
        return NULL;
    }
    audit->size = w.end;
    *ret_torn = w.torn;
    return g_steal_pointer(&audit);
}

void fore_audit_close(ForeAudit *audit)
{
    if (audit == NULL) {
        return;
    }
    if (audit->fd >= 0) {
        close(audit->fd);
    }
    g_free(audit->path);
    g_free(audit);
}

void fore_audit_head(const ForeAudit *audit, ForeAuditHead *ret)
{
    *ret = audit->head;
}

/* JSON by hand in a fixed order, because the order is part of the hash; strings are escaped by
 * jansson. */
static char *format_body(const ForeAuditHead *head, const char *what, const char *id,
                         const char *peer, const char *detail)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *at = g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");
    const char *const texts[] = {at, what, id, peer, detail};
    static const char *const keys[] = {"at", "what", "id", "peer", "detail"};
    GString *body = g_string_new(NULL);

    g_string_printf(body, "{\"n\":%" G_GUINT64_FORMAT, head->lines + 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_autofree char *valid = g_utf8_make_valid(texts[i], -1);
        g_autofree char *bounded = g_utf8_substring(valid, 0, MIN(g_utf8_strlen(valid, -1), 200));
        g_autoptr(json_t) text = json_string(bounded);
        char *quoted = json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

        g_string_append_printf(body, ",\"%s\":%s", keys[i], quoted);
        free(quoted);
    }
    return g_string_free(body, FALSE);
}

/* Back to a whole number of lines, whatever was written. */
static bool cut(ForeAudit *audit, off_t size, GError **error)
{
    if (ftruncate(audit->fd, size) != 0 || fsync(audit->fd) != 0) {
        set_errno_error(error, "take a line back in", audit->path);
        return false;
    }
    audit->size = size;
    return true;
}

bool fore_audit_append(ForeAudit *audit, const char *what, const char *id, const char *peer,
                       const char *detail, GError **error)
{
    g_autofree char *body = format_body(&audit->head, what, id, peer, detail);
    g_autofree char *line = NULL;
    ForeAuditHead next = {.lines = audit->head.lines + 1};
    size_t size;
    ssize_t n;

    chain(audit->head.hash, body, strlen(body), next.hash);
    line = g_strconcat(body, TAIL_PREFIX, next.hash, "\"}\n", NULL);
    size = strlen(line);
    g_assert(size <= LINE_BYTES_MAX + 1);
    n = write(audit->fd, line, size);
    if (n != (ssize_t)size || fsync(audit->fd) != 0) {
        if (n >= 0 && n != (ssize_t)size) {
            errno = ENOSPC;
        }
        set_errno_error(error, "append to", audit->path);
        cut(audit, audit->size, NULL);
        return false;
    }
    audit->previous = audit->head;
    audit->previous_size = audit->size;
    audit->head = next;
    audit->size += (off_t)size;
    return true;
}

bool fore_audit_rewind(ForeAudit *audit, GError **error)
{
    g_assert(audit->previous_size >= 0);
    if (!cut(audit, audit->previous_size, error)) {
        return false;
    }
    audit->head = audit->previous;
    audit->previous_size = -1;
    return true;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/attester/fore-attester-log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "common/fore-json.h"

const char *const fore_attester_log_names[] = {"firmware", "ima", "launch"};
G_STATIC_ASSERT(G_N_ELEMENTS(fore_attester_log_names) == FORE_ATTESTER_LOG_N);

struct ForeAttesterLogs {
    char *paths[FORE_ATTESTER_LOG_N];
    GByteArray *kept[FORE_ATTESTER_LOG_N];
};

ForeAttesterLogs *fore_attester_logs_new(const char *const paths[FORE_ATTESTER_LOG_N])
{
    ForeAttesterLogs *logs = g_new0(ForeAttesterLogs, 1);

    for (unsigned i = 0; i < FORE_ATTESTER_LOG_N; i++) {
        logs->paths[i] = g_strdup(paths[i]);
        logs->kept[i] = g_byte_array_new();
    }
    return logs;
}

void fore_attester_logs_free(ForeAttesterLogs *logs)
{
    if (logs == NULL) {
        return;
    }
    for (unsigned i = 0; i < FORE_ATTESTER_LOG_N; i++) {
        g_free(logs->paths[i]);
        g_byte_array_unref(logs->kept[i]);
    }
    g_free(logs);
}

static bool set_errno_error(GError **error, const char *path)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot read '%s': %s", path,
                g_strerror(errno));
    return false;
}

static bool read_rest(int fd, const char *path, GByteArray *kept, GError **error)
{
    uint8_t chunk[16384];
    ssize_t n;

    while ((n = pread(fd, chunk, sizeof(chunk), (off_t)kept->len)) != 0) {
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return set_errno_error(error, path);
        }
        if (kept->len + (size_t)n > FORE_ATTESTER_LOG_MAX) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                        "'%s' is longer than %u bytes; reboot the node, or measure less", path,
                        FORE_ATTESTER_LOG_MAX);
            return false;
        }
        g_byte_array_append(kept, chunk, (guint)n);
    }
    return true;
}

static bool read_on(const char *path, GByteArray *kept, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool good;

    if (fd < 0) {
        return errno == ENOENT || set_errno_error(error, path);
    }
    good = read_rest(fd, path, kept, error);
    close(fd);
    return good;
}

json_t *fore_attester_logs_sizes(ForeAttesterLogs *logs, GError **error)
{
    g_autoptr(json_t) sizes = json_object();

    g_byte_array_set_size(logs->kept[FORE_ATTESTER_LAUNCH], 0);
    for (unsigned i = 0; i < FORE_ATTESTER_LOG_N; i++) {
        if (!read_on(logs->paths[i], logs->kept[i], error)) {
            return NULL;
        }
        json_object_set_new(sizes, fore_attester_log_names[i],
                            json_integer((json_int_t)logs->kept[i]->len));
    }
    return g_steal_pointer(&sizes);
}

static bool find_kind(const char *name, unsigned *ret, GError **error)
{
    for (unsigned i = 0; i < FORE_ATTESTER_LOG_N; i++) {
        if (strcmp(name, fore_attester_log_names[i]) == 0) {
            *ret = i;
            return true;
        }
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "log '%.32s': want firmware, ima or launch",
                name);
    return false;
}

json_t *fore_attester_logs_chunk(ForeAttesterLogs *logs, const json_t *arguments, GError **error)
{
    g_autoptr(GBytes) data = NULL;
    const GByteArray *kept;
    const char *name;
    int64_t offset, length;
    unsigned kind = 0;

    if (!fore_json_get_string(arguments, "log", &name, error) || !find_kind(name, &kind, error) ||
        !fore_json_get_int(arguments, "offset", 0, FORE_ATTESTER_LOG_MAX, &offset, error) ||
        !fore_json_get_int(arguments, "length", 1, FORE_ATTESTER_CHUNK_MAX, &length, error)) {
        return NULL;
    }
    kept = logs->kept[kind];
    if ((size_t)offset > kept->len) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "offset %" G_GINT64_FORMAT " is past the end of the %s log, %u", offset, name,
                    kept->len);
        return NULL;
    }
    data = g_bytes_new(kept->data + offset, MIN((size_t)length, kept->len - (size_t)offset));
    return json_pack("{s:o, s:I, s:I}", "data", fore_json_bytes(data), "offset", (json_int_t)offset,
                     "size", (json_int_t)kept->len);
}

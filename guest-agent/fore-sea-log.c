/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works: securityfs tells no size and walks its list for every offset, so a log is read
 * whole once, kept while its chunks are fetched and dropped with the last one.
 */
#include "guest-agent/fore-sea-log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/fore-error.h"

const char *const fore_sea_log_names[] = {"firmware", "ima"};
G_STATIC_ASSERT(G_N_ELEMENTS(fore_sea_log_names) == FORE_SEA_LOG_N);

static const char *const log_files[] = {"kernel/security/tpm0/binary_bios_measurements",
                                        "kernel/security/ima/binary_runtime_measurements"};
G_STATIC_ASSERT(G_N_ELEMENTS(log_files) == FORE_SEA_LOG_N);

struct ForeSeaLogs {
    char *path[FORE_SEA_LOG_N];
    GByteArray *kept[FORE_SEA_LOG_N]; /* NULL: not being fetched */
};

ForeSeaLogs *fore_sea_logs_new(const char *sysfs_root)
{
    ForeSeaLogs *logs = g_new0(ForeSeaLogs, 1);

    for (unsigned i = 0; i < FORE_SEA_LOG_N; i++) {
        logs->path[i] = g_build_filename(sysfs_root, log_files[i], NULL);
    }
    return logs;
}

void fore_sea_logs_free(ForeSeaLogs *logs)
{
    if (!logs) {
        return;
    }
    for (unsigned i = 0; i < FORE_SEA_LOG_N; i++) {
        g_clear_pointer(&logs->kept[i], g_byte_array_unref);
        g_free(logs->path[i]);
    }
    g_free(logs);
}

/* The whole file into @out, or only its size when @out is NULL.  Returns: bytes, -1 with errno */
static ssize_t read_all(const char *path, GByteArray *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t chunk[16384];
    size_t total = 0;
    ssize_t n = 0;

    if (fd < 0) {
        return -1;
    }
    while (total <= FORE_SEA_LOG_MAX && (n = read(fd, chunk, sizeof chunk)) > 0) {
        total += (size_t)n;
        if (out) {
            g_byte_array_append(out, chunk, (guint)n);
        }
    }
    close(fd);
    return n < 0 ? -1 : (ssize_t)total;
}

size_t fore_sea_logs_size(ForeSeaLogs *logs, ForeSeaLogKind kind)
{
    ssize_t n = read_all(logs->path[kind], NULL);

    return n < 0 ? 0 : (size_t)n;
}

static bool keep(ForeSeaLogs *logs, ForeSeaLogKind kind, GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    ssize_t n;

    g_clear_pointer(&logs->kept[kind], g_byte_array_unref);
    n = read_all(logs->path[kind], bytes);
    if (n < 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND,
                    "%s log %s: %s; is securityfs mounted, and does the kernel measure?",
                    fore_sea_log_names[kind], logs->path[kind], g_strerror(errno));
        return false;
    }
    if (n > FORE_SEA_LOG_MAX) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "%s log %s: longer than %u bytes; reboot the guest or measure less",
                    fore_sea_log_names[kind], logs->path[kind], FORE_SEA_LOG_MAX);
        return false;
    }
    logs->kept[kind] = g_steal_pointer(&bytes);
    return true;
}

bool fore_sea_logs_read(ForeSeaLogs *logs, ForeSeaLogKind kind, size_t offset, size_t length,
                        GBytes **ret_data, size_t *ret_size, GError **error)
{
    GByteArray *bytes = logs->kept[kind];

    if (!bytes || offset == 0 || offset >= bytes->len) {
        if (!keep(logs, kind, error)) {
            return false;
        }
        bytes = logs->kept[kind];
    }
    if (offset > bytes->len) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "offset %zu: the %s log has %u bytes; start again at 0", offset,
                    fore_sea_log_names[kind], bytes->len);
        g_clear_pointer(&logs->kept[kind], g_byte_array_unref);
        return false;
    }
    length = MIN(MIN(length, FORE_SEA_CHUNK_MAX), bytes->len - offset);
    *ret_data = g_bytes_new(bytes->data + offset, length);
    *ret_size = bytes->len;
    if (offset + length == bytes->len) {
        g_clear_pointer(&logs->kept[kind], g_byte_array_unref);
    }
    return true;
}

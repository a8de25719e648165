/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The measurement logs that the guest's kernel keeps, handed out in chunks by offset.  Both only
 * grow. Blocking; used by one thread at a time.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_SEA_LOG_MAX   (16u << 20) /* bytes of a log that are handed out */
#define FORE_SEA_CHUNK_MAX 32768       /* bytes in one answer */

typedef enum { FORE_SEA_LOG_FIRMWARE, FORE_SEA_LOG_IMA, FORE_SEA_LOG_N } ForeSeaLogKind;
extern const char *const fore_sea_log_names[FORE_SEA_LOG_N]; /* "firmware", "ima" */

typedef struct ForeSeaLogs ForeSeaLogs;

ForeSeaLogs *fore_sea_logs_new(const char *sysfs_root);
void fore_sea_logs_free(ForeSeaLogs *logs); /* NULL allowed */

/** fore_sea_logs_size: bytes now; 0 when the kernel keeps no such log */
size_t fore_sea_logs_size(ForeSeaLogs *logs, ForeSeaLogKind kind);

/**
 * fore_sea_logs_read: a chunk
 * @offset: 0..size; from 0 on, or at the end of what was known, the log is read anew
 * @length: at most FORE_SEA_CHUNK_MAX
 * @ret_data: (transfer full), empty at the end   @ret_size: bytes of the whole log as read
 * Errors: FORE_ERROR_NOT_FOUND (the kernel keeps none, or securityfs is not mounted),
 *         FORE_ERROR_INVALID (offset past the end), FORE_ERROR_LIMIT (longer than FORE_SEA_LOG_MAX)
 */
bool fore_sea_logs_read(ForeSeaLogs *logs, ForeSeaLogKind kind, size_t offset, size_t length,
                        GBytes **ret_data, size_t *ret_size, GError **error);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The node's measurement lists, by offset.  They only grow while the node runs, so what was read
 * once is kept and only the rest is read anew: securityfs walks its list for every offset.
 * Blocking, and used by the worker thread only.
 */
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#define FORE_ATTESTER_LOG_MAX   (16u << 20) /* bytes of one list; a longer one is an error */
#define FORE_ATTESTER_CHUNK_MAX 32768u

typedef enum {
    FORE_ATTESTER_FIRMWARE, /* TCG2 event log */
    FORE_ATTESTER_IMA,      /* binary_runtime_measurements */
    FORE_ATTESTER_LAUNCH,   /* foresee-vtpm's; may be cut and written anew, so it is read whole */
    FORE_ATTESTER_LOG_N
} ForeAttesterLogKind;
extern const char *const fore_attester_log_names[FORE_ATTESTER_LOG_N]; /* "firmware", "ima",
                                                                       "launch" */

typedef struct ForeAttesterLogs ForeAttesterLogs;

/** fore_attester_logs_new: @paths: of the lists; a file that is missing is an empty list */
ForeAttesterLogs *fore_attester_logs_new(const char *const paths[FORE_ATTESTER_LOG_N]);
void fore_attester_logs_free(ForeAttesterLogs *logs); /* NULL allowed */

/** fore_attester_logs_sizes: reads on to the present ends; {"firmware": bytes, ...}
 *  Errors: FORE_ERROR_LIMIT (a list past its bound), FORE_ERROR_UNAVAILABLE (does not read) */
json_t *fore_attester_logs_sizes(ForeAttesterLogs *logs, GError **error);
/** fore_attester_logs_chunk: @arguments of attester-get-log, any content; what the newest
 *  _sizes() saw.  {"data", "offset", "size"} */
json_t *fore_attester_logs_chunk(ForeAttesterLogs *logs, const json_t *arguments, GError **error);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the files of the store share: fore-store.c (samples in), -window.c (out), -record.c (the
 * rest). */
#include "profile/fore-ring.h"
#include "profile/fore-store-db.h"
#include "profile/fore-store.h"

/* How far the samples of a VM are on disk; replaced as a whole when a transaction has committed. */
typedef struct {
    int64_t vm_id;                   /* 0: not known yet */
    int64_t span_id;                 /* the span that still grows; 0: the next sample starts one */
    uint64_t span_first;             /* ring sequence number of its first sample */
    uint64_t flushed;                /* ring samples below this sequence number are on disk */
    int64_t span_chunks, span_bytes; /* of the growing span, as last written */
} ForeProgress;

typedef struct {
    char *name;
    ForeRing *ring;
    ForeProgress done, next; /* @next is scratch of a running transaction */
    int64_t older_ms; /* newest wall_ms of any sample that is not in the ring; INT64_MIN: none */
} ForeSeries;

struct ForeStore {
    ForeDb *db;
    GHashTable *series; /* name -> ForeSeries */
    bool disk_ok;
    char reason[160];
    uint64_t lost_samples;
    bool clock_started;
    uint64_t last_flush_ns, last_try_ns; /* mono_ns of the sample that caused it */
};

/** fore_store_note: remember how the disk did; @why NULL: well.  Only UNAVAILABLE counts against
 * it. */
void fore_store_note(ForeStore *store, const GError *why);
/** fore_store_ready: the file is there and still the one at its path, else it is opened anew */
bool fore_store_ready(ForeStore *store, GError **error);
/** fore_store_vm_id: row of @vm; 0 when the disk does not know it */
bool fore_store_vm_id(ForeStore *store, const char *vm, int64_t *ret_id, GError **error);
/** fore_store_run_write: run @stmt, a transaction of its own, and remember how the disk did */
bool fore_store_run_write(ForeStore *store, sqlite3_stmt *stmt, const char *doing, GError **error);

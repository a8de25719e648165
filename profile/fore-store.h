/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * History on disk, encrypted (SQLCipher, WAL): samples in compressed chunks, ledger entries, events
 * and settings.  All calls are made from one thread.  See docs/decisions/ for what lives where.
 */
#include "common/fore-flow.h"

#define FORE_STORE_KEY_BYTES 32
typedef struct ForeStore ForeStore;

/**
 * fore_store_open: open or create
 * @path: database file (mode 0600)   @key: [FORE_STORE_KEY_BYTES] raw key, not kept
 * Errors: FORE_ERROR_UNTRUSTED (wrong key, or a page fails its HMAC), FORE_ERROR_UNAVAILABLE (disk
 * full, read-only, locked by another process), FORE_ERROR_INVALID (newer schema)
 */
ForeStore *fore_store_open(const char *path, const uint8_t *key, GError **error);
void fore_store_close(ForeStore *store); /* flushes; NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeStore, fore_store_close)

/**
 * fore_store_append: one sample of @vm; kept in memory (ring of 15 min) and written in chunks
 * Never fails: when the disk does, see fore_store_health(); the ring still has the sample.
 */
void fore_store_append(ForeStore *store, const char *vm, const ForeSample *sample);
/** fore_store_flush: write all open chunks now. Errors: FORE_ERROR_UNAVAILABLE */
bool fore_store_flush(ForeStore *store, GError **error);
#define FORE_STORE_WINDOW_MAX 2000000 /* samples in one answer */
/**
 * fore_store_window: samples of @vm with from_ms <= wall_ms <= to_ms, oldest first, gaps left out
 * Returns: (transfer full) GArray of ForeSample; while the disk is away, what memory holds
 * Errors: FORE_ERROR_UNTRUSTED (a page or chunk was changed), FORE_ERROR_LIMIT (too many samples)
 */
GArray *fore_store_window(ForeStore *store, const char *vm, int64_t from_ms, int64_t to_ms,
                          GError **error);
/** fore_store_vms: (transfer full) NULL-terminated names that have samples */
char **fore_store_vms(ForeStore *store, GError **error);

/**
 * fore_store_import: many samples at once, oldest first, in one transaction; not bound to the ring
 * @samples: [n]
 * Errors: FORE_ERROR_UNAVAILABLE (nothing was stored), FORE_ERROR_INVALID (name of @vm)
 */
bool fore_store_import(ForeStore *store, const char *vm, const ForeSample *samples, size_t n,
                       GError **error);

/* Records: durable (fsync) when the call returns.  @kind "ledger", "vm", "event", "meta"...
 * A record is JSON text; the same (kind, key) replaces. */
bool fore_store_put(ForeStore *store, const char *kind, const char *key, const char *json,
                    GError **error);
bool fore_store_delete(ForeStore *store, const char *kind, const char *key, GError **error);
typedef void (*ForeStoreRecord)(const char *key, const char *json, gpointer data);
bool fore_store_each(ForeStore *store, const char *kind, ForeStoreRecord fn, gpointer data,
                     GError **error);
/** fore_store_event: append an event (JSON text) to the log, bounded to the newest 100,000 */
bool fore_store_event(ForeStore *store, int64_t wall_ms, const char *vm, const char *json,
                      GError **error);

typedef void (*ForeStoreEvent)(int64_t id, int64_t wall_ms, const char *vm, const char *json,
                               gpointer data);
/**
 * fore_store_each_event: events of the log with an id above @after_id, oldest first
 * @after_id: 0 for all; ids only grow   @limit: at most so many
 */
bool fore_store_each_event(ForeStore *store, int64_t after_id, unsigned limit, ForeStoreEvent fn,
                           gpointer data, GError **error);

/* An unusual stretch of one series.  Texts are borrowed: by the store while it is put, by the
 * callee while it is told. */
typedef struct {
    int64_t id;                       /* 0: a new one; else the row that is replaced (it grew) */
    const char *vm, *source, *metric; /* the series; @metric may be "" for a view over several */
    int64_t from_ms, to_ms;           /* UTC ms; from <= to */
    double score;                     /* 0..1, the highest within */
    const char *reason;               /* in words, at most FORE_STORE_REASON_MAX bytes */
} ForeStoreAnomaly;
#define FORE_STORE_REASON_MAX 1023

/**
 * fore_store_anomaly_put: record it; durable (fsync) when the call returns
 * @ret_id: NULL, or (out): its row, to replace it by when it goes on
 * Errors: FORE_ERROR_INVALID (score, order of times, names), FORE_ERROR_LIMIT (reason too long),
 *         FORE_ERROR_UNAVAILABLE (disk)
 */
bool fore_store_anomaly_put(ForeStore *store, const ForeStoreAnomaly *anomaly, int64_t *ret_id,
                            GError **error);
typedef void (*ForeStoreAnomalyFn)(const ForeStoreAnomaly *anomaly, gpointer data);
#define FORE_STORE_ANOMALIES_MAX 100000 /* in one answer, and kept: the newest */
/**
 * fore_store_each_anomaly: those that began in from_ms..to_ms with at least @min_score, oldest
 * first
 * @vm: NULL for all VMs   @limit: at most so many, 1..FORE_STORE_ANOMALIES_MAX
 * One range of one index (tests/unit/test-store-anomaly.c shows the plan).
 */
bool fore_store_each_anomaly(ForeStore *store, const char *vm, int64_t from_ms, int64_t to_ms,
                             double min_score, unsigned limit, ForeStoreAnomalyFn fn, gpointer data,
                             GError **error);

typedef struct {
    bool disk_ok; /* false: memory only, @reason says why */
    char reason[160];
    uint64_t samples, chunks, bytes; /* on disk; bytes of chunk payloads */
    uint64_t lost_samples;           /* fell out of the ring before the disk came back */
} ForeStoreHealth;
void fore_store_health(ForeStore *store, ForeStoreHealth *ret);
/** fore_store_verify: integrity_check, cipher_integrity_check and every chunk decodes */
bool fore_store_verify(ForeStore *store, GError **error);

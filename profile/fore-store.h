/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * History on disk, encrypted (SQLCipher, WAL): samples in compressed chunks, ledger entries, events
 * and settings.  All calls are made from one thread.  See docs/decisions/ for what lives where.
 */
#include "common/fore-flow.h"
#include "profile/fore-rollup.h"

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
 * A chunk or page that is damaged is left out, as a gap, and named in fore_store_health().
 * Errors: FORE_ERROR_UNTRUSTED (the index is damaged), FORE_ERROR_LIMIT (too many samples)
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

/* --- any series: VM, source and metric --- */

/* The series of a sample's fields have the names in fore_field_names as metric, and as source: */
#define FORE_SOURCE_GUEST    "guest"    /* what the SEA reports, checked against the host */
#define FORE_SOURCE_DEMAND   "demand"   /* usage with censoring undone */
#define FORE_SOURCE_PROFILER "profiler" /* the profile page */
/** fore_store_field_source: static string */
const char *fore_store_field_source(ForeField field);

#define FORE_STORE_SERIES_MAX 65536 /* open at once, by fore_store_series_append() */
/**
 * fore_store_series_append: one value of a series; written in chunks as samples are
 * @vm, @source, @metric: names (fore_name_is_valid)   @t_ms: UTC   @value: not finite: a gap,
 * nothing is kept
 * Disk: as fore_store_append()
 * Errors: FORE_ERROR_INVALID (a name), FORE_ERROR_LIMIT (too many series)
 */
bool fore_store_series_append(ForeStore *store, const char *vm, const char *source,
                              const char *metric, int64_t t_ms, double value, GError **error);

typedef struct {
    int64_t t_ms;
    double value;
} ForeSeriesPoint;
/**
 * fore_store_series_read: what was measured, from_ms <= t_ms <= to_ms, oldest first; gaps left out
 * Returns: (transfer full) GArray of ForeSeriesPoint; empty for an unknown series
 * Errors: as fore_store_window()
 */
GArray *fore_store_series_read(ForeStore *store, const char *vm, const char *source,
                               const char *metric, int64_t from_ms, int64_t to_ms, GError **error);
/**
 * fore_store_tier_read: the same, downsampled; the points of one interval merged
 * @tier: 0..FORE_ROLLUP_TIERS-1
 * Returns: (transfer full) GArray of ForeTierPoint whose interval begins in from_ms..to_ms
 */
GArray *fore_store_tier_read(ForeStore *store, const char *vm, const char *source,
                             const char *metric, unsigned tier, int64_t from_ms, int64_t to_ms,
                             GError **error);

/* Borrowed while it is told. */
typedef struct {
    const char *vm, *source, *metric;
    ForeRunning running; /* of all samples of the series, also those that are no longer kept */
} ForeSeriesInfo;
typedef void (*ForeSeriesFn)(const ForeSeriesInfo *info, gpointer data);
/** fore_store_each_series: @vm: NULL for all; in order of VM, source, metric */
bool fore_store_each_series(ForeStore *store, const char *vm, ForeSeriesFn fn, gpointer data,
                            GError **error);

/* --- how long what is kept --- */

typedef struct {
    int64_t raw_keep_ms; /* samples as they came */
    struct {
        int64_t width_ms, keep_ms;
    } tier[FORE_ROLLUP_TIERS]; /* rising widths */
} ForeStoreTiers;
#define FORE_STORE_TIERS_DEFAULT "1s:1d 10s:7d 5min:13mo"

/**
 * fore_store_tiers_parse: "raw:KEEP WIDTH:KEEP WIDTH:KEEP", as FORE_STORE_TIERS_DEFAULT
 * Units: s, min, h, d, mo (30.44 days), y.  The first width is that of the samples and only for the
 * reader.
 * Errors: FORE_ERROR_INVALID (names the text and what is wanted)
 */
bool fore_store_tiers_parse(const char *text, ForeStoreTiers *ret, GError **error);
/** fore_store_set_tiers: before the first sample; the default holds otherwise */
void fore_store_set_tiers(ForeStore *store, const ForeStoreTiers *tiers);

/**
 * fore_store_expire: drop what is older than its tier is kept, at most so many chunks of each
 * series
 * @now_ms: UTC   @ret_dropped: (out): chunks, 0: nothing is left to drop
 * fore_store_append() does this by itself, in steps, once the wall clock has run with the monotonic
 * clock for an hour: a clock that jumps deletes nothing.
 * Errors: FORE_ERROR_UNAVAILABLE
 */
bool fore_store_expire(ForeStore *store, int64_t now_ms, uint64_t *ret_dropped, GError **error);

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
    uint64_t damaged;                /* chunks found damaged since the store was opened */
    uint64_t quarantined;            /* chunks in quarantine, see fore_store_each_damage() */
    char damage[160];                /* the newest of them, in words; "" */
} ForeStoreHealth;
void fore_store_health(ForeStore *store, ForeStoreHealth *ret);
typedef struct {
    int64_t width_ms; /* 0: series of fore_store_series_append() as they came */
    uint64_t points, blocks, bytes;
} ForeStoreTierTotal;
/** fore_store_tier_totals: @ret: [*n]; in: room, out: rows */
bool fore_store_tier_totals(ForeStore *store, ForeStoreTierTotal *ret, size_t *n, GError **error);

typedef void (*ForeStoreDamage)(const char *what, int64_t from_ms, int64_t to_ms, int64_t samples,
                                int64_t found_ms, gpointer data);
/** fore_store_each_damage: what was taken out because it did not decode, newest first */
bool fore_store_each_damage(ForeStore *store, ForeStoreDamage fn, gpointer data, GError **error);

/* A new key, in steps between two samples (fore-store-rekey.c).  At every point one key opens the
 * file: the old one until the step that says done, the new one from then on. */
/**
 * fore_store_rekey_begin: needs room for a second file of the same size beside the first
 * @new_key: [FORE_STORE_KEY_BYTES], copied
 * Errors: FORE_ERROR_EXISTS (one is running), FORE_ERROR_UNAVAILABLE
 */
bool fore_store_rekey_begin(ForeStore *store, const uint8_t *new_key, GError **error);
/**
 * fore_store_rekey_step: copy about @rows rows more; on an error the old key stays and it has ended
 */
bool fore_store_rekey_step(ForeStore *store, unsigned rows, bool *ret_done, GError **error);
/** fore_store_rekey_progress: 0..1 */
double fore_store_rekey_progress(const ForeStore *store);
void fore_store_rekey_cancel(ForeStore *store);
/** fore_store_rekey_point: for tests: called with the name of each point where a crash may strike
 */
extern void (*fore_store_rekey_point)(const char *point);

/**
 * fore_store_vacuum_step: give up to @pages free pages (16 KiB) at the end of the file back
 * @ret_left: free pages that are left
 */
bool fore_store_vacuum_step(ForeStore *store, unsigned pages, uint64_t *ret_left, GError **error);

/* Verification in steps, between two samples: every chunk is read and decoded. */
typedef struct ForeStoreCheck ForeStoreCheck;
ForeStoreCheck *fore_store_check_new(void);
void fore_store_check_free(ForeStoreCheck *check);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeStoreCheck, fore_store_check_free)
/**
 * fore_store_check_step: go on for @rows rows; what does not decode is moved into quarantine
 * Errors: FORE_ERROR_UNTRUSTED (a page failed its HMAC), FORE_ERROR_UNAVAILABLE
 */
bool fore_store_check_step(ForeStore *store, ForeStoreCheck *check, unsigned rows, bool *ret_done,
                           GError **error);
/** fore_store_check_result: rows seen, and how many of them were damaged */
void fore_store_check_result(const ForeStoreCheck *check, uint64_t *ret_rows, uint64_t *ret_bad);

/** fore_store_verify: integrity_check, cipher_integrity_check and every chunk decodes */
bool fore_store_verify(ForeStore *store, GError **error);

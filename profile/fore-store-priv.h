/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What the files of the store share: fore-store.c (life, samples in), -span.c (samples to disk),
 * -window.c (samples out), -line.c (other series), -tiers.c (roll-up and retention), -check.c
 * (damage), -rekey.c (a new key), -record.c and -anomaly.c (the rest).
 */
#include "profile/fore-chunk.h"
#include "profile/fore-ring.h"
#include "profile/fore-store-db.h"
#include "profile/fore-store-seal.h"
#include "profile/fore-store.h"

#define FORE_SPAN_SAMPLES 240 /* a live span grows up to so many */
#define FORE_LINE_SAMPLES 512 /* and a chunk of another series */
#define FORE_LINE_ROOM    1024

/* How far the samples of a VM are on disk; replaced as a whole when a transaction has committed. */
typedef struct {
    int64_t vm_id;                   /* 0: not known yet */
    int64_t span_id;                 /* the span that still grows; 0: the next sample starts one */
    uint64_t span_first;             /* ring sequence number of its first sample */
    uint64_t flushed;                /* ring samples below this sequence number are on disk */
    int64_t span_chunks, span_bytes; /* of the growing span, as last written */
    guint rolled;                    /* ready blocks that were written */
} ForeProgress;

typedef struct {
    char *name;
    ForeRing *ring;
    ForeProgress done, next; /* @next is scratch of a running transaction */
    int64_t older_ms;   /* newest wall_ms of any sample that is not in the ring; INT64_MIN: none */
    ForeRollup *rollup; /* NULL: the disk has not said yet where to go on */
    uint64_t base;      /* sample number of ring sequence number 0; holds with @rollup */
} ForeSeries;

/* A series of fore_store_series_append(). */
typedef struct {
    int64_t id;      /* row; 0: not known yet */
    int64_t part_id; /* the chunk that still grows; 0: none */
    size_t flushed;  /* values in memory that are on disk */
    guint rolled;
} ForeLineProgress;

typedef struct {
    char *vm, *source, *metric;
    int64_t *t_ms; /* [room] from the beginning of the open chunk */
    double *value; /* [room] */
    size_t n, room;
    uint64_t first; /* sample number of the first of them; holds with @rollup */
    ForeLineProgress done, next;
    ForeRollup *rollup; /* NULL: the disk has not said yet where to go on */
} ForeLine;

struct ForeStore {
    ForeDb *db;
    GHashTable *series; /* name -> ForeSeries */
    GHashTable *lines;  /* "vm source metric" -> ForeLine */
    ForeStoreTiers tiers;
    bool disk_ok;
    char reason[160];
    uint64_t lost_samples;
    bool clock_started;
    uint64_t last_flush_ns, last_try_ns; /* mono_ns of the sample that caused it */
    int64_t clock_offset_ms;             /* wall minus monotonic */
    uint64_t settled_ns;                 /* since then the two clocks run together */
    int64_t swept_vm, swept_series;      /* where retention goes on */
    uint64_t damaged;
    char damage[160];
    struct ForeRekey *rekey; /* running, or NULL */
};

/** fore_store_note: remember how the disk did; @why NULL: well.  Only UNAVAILABLE counts against
 * it. */
void fore_store_note(ForeStore *store, const GError *why);
/** fore_store_ready: the file is there and still the one at its path, else it is opened anew */
bool fore_store_ready(ForeStore *store, GError **error);
/** fore_store_vm_id: row of @vm; 0 when the disk does not know it */
bool fore_store_vm_id(ForeStore *store, const char *vm, int64_t *ret_id, GError **error);
bool fore_store_find_or_add_vm(ForeStore *store, const char *vm, int64_t *ret_id, GError **error);
/** fore_store_series_id: row of a series; 0 when the disk does not know it; @add: make it */
bool fore_store_series_id(ForeStore *store, int64_t vm_id, const char *source, const char *metric,
                          bool add, int64_t *ret_id, GError **error);
/** fore_store_run_write: run @stmt, a transaction of its own, and remember how the disk did */
bool fore_store_run_write(ForeStore *store, sqlite3_stmt *stmt, const char *doing, GError **error);
/** fore_store_series_of: of a VM, made when it is not there */
ForeSeries *fore_store_series_of(ForeStore *store, const char *vm);

/* --- -span.c --- */
/** fore_store_write_series: what the ring has and the disk has not; s->next tells how far */
bool fore_store_write_series(ForeStore *store, ForeSeries *series, GError **error);

/* --- -window.c --- */
typedef struct {
    int64_t id;
    size_t n;
    int64_t wall_ms[FORE_CHUNK_MAX];
    int64_t mono_ns[FORE_CHUNK_MAX];
} ForeSpan;
/**
 * fore_store_read_span: append the samples of span @id to @out
 * Returns: 1, 0 when it is damaged (said in the health, and nothing is appended), -1 with @error
 */
int fore_store_read_span(ForeStore *store, int64_t id, ForeSpan *scratch, GArray *out,
                         GError **error);

/* --- -line.c --- */
void fore_line_free(gpointer line);
void fore_line_move_on(ForeLine *line);
/** fore_line_roll: a chunk of a series, [n] points from sample number @seq on */
void fore_line_roll(const ForeStore *store, ForeRollup *rollup, uint64_t seq,
                    const ForeSeriesPoint *points, size_t n);
bool fore_store_write_line(ForeStore *store, ForeLine *line, GError **error);
ForeLine *fore_store_find_line(ForeStore *store, const char *vm, const char *source,
                               const char *metric);
/** fore_store_line_of: made when it is not there; NULL: too many, or a bad name */
ForeLine *fore_store_line_of(ForeStore *store, const char *vm, const char *source,
                             const char *metric, GError **error);
/** fore_store_read_part: 1 with the points appended to @out (GArray of ForeSeriesPoint), 0 damaged
 */
int fore_store_read_part(ForeStore *store, int64_t id, GArray *out, GError **error);

/** fore_store_decode_part: @data: [size] without its checksum; @n: points that must be in it */
bool fore_store_decode_part(const void *data, size_t size, int64_t n, GArray *out);

/* --- -tiers.c --- */
/** fore_store_restore: make @series' roll-up go on where the disk says */
bool fore_store_restore(ForeStore *store, ForeSeries *series, GError **error);
bool fore_store_restore_line(ForeStore *store, ForeLine *line, GError **error);
void fore_store_roll_sample(ForeRollup *rollup, uint64_t seq, const ForeSample *sample);
ForeRollup *fore_store_new_rollup(ForeStore *store, unsigned columns, const uint64_t *from_seq,
                                  const ForeRunning *running, bool whole_blocks);
/**
 * fore_store_write_ready: blocks that are ready and end by @end_seq
 * @vm_id: of the VM whose fields are the columns; @series_id: of the one series, else 0
 * @ret_n: how many were written
 */
bool fore_store_write_ready(ForeStore *store, ForeRollup *rollup, int64_t vm_id, int64_t series_id,
                            bool advance, uint64_t end_seq, guint *ret_n, GError **error);
/** fore_store_too_coarse: tiers (bit k) no wider than the step of such samples: not made for them
 */
unsigned fore_store_too_coarse(const ForeStore *store, int64_t t0_ms, int64_t t1_ms, size_t n);
/** fore_store_sweep: a step of retention within a transaction; @all: visit every series */
bool fore_store_sweep(ForeStore *store, int64_t now_ms, bool all, uint64_t *ret_dropped,
                      GError **error);

/* --- -rekey.c --- */
/** fore_store_rekey_sweep: drop what an interrupted change of key left beside @store_path */
void fore_store_rekey_sweep(const char *store_path);

/* --- -check.c --- */
/** fore_store_is_damage: @error tells of a page or chunk that is not as it was written */
bool fore_store_is_damage(const GError *error);
/**
 * fore_store_set_aside: the file cannot be written to because it is damaged: move it to
 * FILE.damaged-TIME and begin a new one with the records that can still be read
 */
bool fore_store_set_aside(ForeStore *store, const char *why);
/**
 * fore_store_damage_span: note it; and move the row into quarantine, unless it is a page that
 * cannot be read: that may be the disk, and come back
 * @chunk: row of the one chunk, or 0: the times of the span, and with them all of it
 */
void fore_store_damage_span(ForeStore *store, int64_t span, int64_t chunk, bool page);
void fore_store_damage_part(ForeStore *store, int64_t part, bool page);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The SQLCipher file under the store: open with a raw key, schema, statements, error codes.
 * Internal to profile/.  The file is held exclusively while it is open (locking_mode=EXCLUSIVE), so
 * the WAL index lives in memory and not in a mapped file, which a full tmpfs could turn into
 * SIGBUS.
 */
#define SQLITE_HAS_CODEC 1
#include <glib.h>
#include <sqlcipher/sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_DB_SCHEMA 2

typedef enum {
    FORE_SQL_BEGIN,
    FORE_SQL_COMMIT,
    FORE_SQL_ROLLBACK,
    FORE_SQL_VM_ADD,       /* name */
    FORE_SQL_VM_ID,        /* name -> id */
    FORE_SQL_VMS,          /* -> name */
    FORE_SQL_VM_STATE,     /* vm -> stats, roll1, roll2, end of the highest seq or NULL */
    FORE_SQL_VM_ROLL1,     /* seq, stats, vm */
    FORE_SQL_VM_ROLL2,     /* seq, vm */
    FORE_SQL_VM_AFTER,     /* id, limit -> ids above it */
    FORE_SQL_SPAN_ADD,     /* vm, t0, t1, n, wall, mono, seq or NULL */
    FORE_SQL_SPAN_SET,     /* t0, t1, n, wall, mono, id */
    FORE_SQL_SPANS,        /* vm, from, to -> id, oldest first; reads the index only */
    FORE_SQL_SPANS_SEQ,    /* vm, seq -> id, seq of spans that reach above it, in order */
    FORE_SQL_SPAN_GET,     /* id -> wall, mono, n, t0, t1, vm */
    FORE_SQL_SPANS_OLD,    /* vm, before, limit -> id of rolled-up spans that end before */
    FORE_SQL_SPAN_DROP,    /* id */
    FORE_SQL_SPAN_AFTER,   /* id -> the next one, and wall, mono, n */
    FORE_SQL_CHUNK_SET,    /* id, body */
    FORE_SQL_CHUNKS,       /* id from, to -> id, body */
    FORE_SQL_CHUNK_GET,    /* id -> body */
    FORE_SQL_CHUNK_DROP,   /* id from, to */
    FORE_SQL_CHUNK_AFTER,  /* id -> the next one, body, n of its span or NULL */
    FORE_SQL_NEWEST,       /* vm -> t1 of the latest span, or NULL */
    FORE_SQL_TOTAL_ADD,    /* samples, chunks, bytes */
    FORE_SQL_TOTAL,        /* -> samples, chunks, bytes */
    FORE_SQL_TIER_TOTAL,   /* -> width, points, blocks, bytes */
    FORE_SQL_SERIES_ADD,   /* vm, source, metric */
    FORE_SQL_SERIES_ID,    /* vm, source, metric -> id */
    FORE_SQL_SERIES_ALL,   /* -> id, VM's name, source, metric, stats */
    FORE_SQL_SERIES_STATE, /* series -> stats, roll1, roll2, end of the highest seq or NULL */
    FORE_SQL_SERIES_ROLL1, /* seq, stats, series */
    FORE_SQL_SERIES_ROLL2, /* seq, series */
    FORE_SQL_SERIES_AFTER, /* id, limit -> ids above it */
    FORE_SQL_PART_ADD,     /* series, width, seq or NULL, t0, t1, n, body */
    FORE_SQL_PART_SET,     /* t0, t1, n, body, id */
    FORE_SQL_PARTS,        /* series, width, from, to -> id, oldest first; reads the index only */
    FORE_SQL_PARTS_SEQ,    /* series, seq -> id, seq of raw parts that reach above it, in order */
    FORE_SQL_PART_GET,     /* id -> body, n, t0, t1, series, width */
    FORE_SQL_PARTS_OLD,    /* series, limit, 3 times, 2 widths -> id of raw parts that may go */
    FORE_SQL_BLOCKS_OLD,   /* series, width, before, limit -> id */
    FORE_SQL_PART_DROP,    /* id */
    FORE_SQL_PART_AFTER,   /* id -> the next one, body, n, width */
    FORE_SQL_QUARANTINE,   /* what, t0, t1, n, body */
    FORE_SQL_QUARANTINED,  /* -> what, t0, t1, n, at, newest first */
    FORE_SQL_QUARANTINE_N, /* -> how many */
    FORE_SQL_PUT,          /* kind, key, json */
    FORE_SQL_DELETE,       /* kind, key */
    FORE_SQL_EACH,         /* kind -> key, json */
    FORE_SQL_EVENT_ADD,    /* wall_ms, vm, json */
    FORE_SQL_EVENTS,       /* after id, limit -> id, wall_ms, vm, json */
    FORE_SQL_ANOMALY_PUT,  /* id or NULL, vm, source, metric, from, to, score, reason */
    FORE_SQL_ANOMALIES,    /* from, to, score, limit -> the same columns */
    FORE_SQL_ANOMALIES_OF, /* the same and vm */
    FORE_SQL_N
} ForeSql;

/* A chunk's id is its span's times FORE_DB_FIELDS plus its field: those of a span lie side by side.
 */
#define FORE_DB_FIELDS 32 /* ForeSample.valid has so many bits */

typedef struct ForeDb ForeDb;

/** fore_db_open: as fore_store_open(); @key is copied into memory that is locked and left out of
 * dumps */
ForeDb *fore_db_open(const char *path, const uint8_t *key, GError **error);
void fore_db_close(ForeDb *db);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeDb, fore_db_close)
const char *fore_db_path(const ForeDb *db);
sqlite3 *fore_db_handle(ForeDb *db);

/**
 * fore_db_renew: when the file is no longer at its path (removed, replaced), open or create it anew
 * @ret_renewed: whether that happened
 */
bool fore_db_renew(ForeDb *db, bool *ret_renewed, GError **error);

/**
 * fore_db_recover: after a page failed its HMAC: SQLCipher then refuses every page until the file
 * is opened anew, which this does; nothing happens within a transaction
 */
void fore_db_recover(ForeDb *db);

/* For a change of key: close it but keep it, give it another key, open it again; and have a second
 * file, with its key in hex, under the name "next". */
void fore_db_suspend(ForeDb *db);
void fore_db_set_key(ForeDb *db, const uint8_t *key);
bool fore_db_resume(ForeDb *db, GError **error);
bool fore_db_attach(ForeDb *db, const char *path, const char *hex_key, GError **error);

/** fore_db_fail: set @error from the handle's last result @rc; returns false */
bool fore_db_fail(ForeDb *db, int rc, const char *doing, GError **error);

/** fore_db_ready: statement @which, reset and with all parameters NULL; NULL and @error when it
 * cannot be */
sqlite3_stmt *fore_db_ready(ForeDb *db, ForeSql which, GError **error);
/** fore_db_run: step a statement that gives no rows, then reset it */
bool fore_db_run(ForeDb *db, sqlite3_stmt *stmt, const char *doing, GError **error);
/**
 * fore_db_next: step to the next row
 * Returns: 1 a row, 0 the end (the statement is reset), -1 @error (reset as well)
 */
int fore_db_next(ForeDb *db, sqlite3_stmt *stmt, const char *doing, GError **error);

/** fore_db_sql: the text of a statement, for a look at its plan */
const char *fore_db_sql(ForeSql which);

bool fore_db_begin(ForeDb *db, GError **error);
/** fore_db_commit: durable when true; rolled back when false */
bool fore_db_commit(ForeDb *db, GError **error);
void fore_db_rollback(ForeDb *db);

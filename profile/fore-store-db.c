/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "profile/fore-store-db.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "profile/fore-store-seal.h"
#include "profile/fore-store.h"

#define APPLICATION_ID 0x466f7265 /* "Fore", in the file header */

struct ForeDb {
    char *path;
    sqlite3 *handle; /* NULL only while a renewal failed */
    sqlite3_stmt *stmt[FORE_SQL_N];
    dev_t dev; /* of the file that is open */
    ino_t ino;
    uint8_t *key; /* [KEY_ROOM] mapped: locked, not dumped, not inherited */
};
#define KEY_ROOM 4096

/* Of 16 KiB less is lost to cells that do not fit: 2.0 instead of 2.2 bytes a sample. */
#define PAGE_BYTES     16384
#define OLD_PAGE_BYTES 4096 /* version 1 */

static const char schema_1[] =
    "CREATE TABLE vm(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"
    "CREATE TABLE span(id INTEGER PRIMARY KEY, vm INTEGER NOT NULL, t0 INTEGER NOT NULL,"
    " t1 INTEGER NOT NULL, n INTEGER NOT NULL, wall BLOB NOT NULL, mono BLOB NOT NULL);"
    "CREATE INDEX span_time ON span(vm, t1, t0);"
    "CREATE TABLE chunk(id INTEGER PRIMARY KEY, body BLOB NOT NULL);"
    "CREATE TABLE total(samples INTEGER, chunks INTEGER, bytes INTEGER);"
    "INSERT INTO total VALUES(0,0,0);"
    "CREATE TABLE record(kind TEXT, key TEXT, json TEXT NOT NULL, PRIMARY KEY(kind, key))"
    " WITHOUT ROWID;"
    "CREATE TABLE event(id INTEGER PRIMARY KEY AUTOINCREMENT, wall_ms INTEGER NOT NULL, vm TEXT,"
    " json TEXT NOT NULL);"
    "CREATE TRIGGER event_bound AFTER INSERT ON event"
    " BEGIN DELETE FROM event WHERE id<=NEW.id-100000; END;";

/* What version 2 adds: series with tiers, checksums of chunks, quarantine, anomalies. */
static const char schema_2[] =
    "ALTER TABLE vm ADD COLUMN stats BLOB;"
    "ALTER TABLE vm ADD COLUMN roll1 INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE vm ADD COLUMN roll2 INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE span ADD COLUMN seq INTEGER;"
    "UPDATE span SET wall=fore_seal(wall),mono=fore_seal(mono),seq=w.s FROM (SELECT id AS i,"
    " sum(n) OVER (PARTITION BY vm ORDER BY id ROWS UNBOUNDED PRECEDING)-n AS s FROM span) w"
    " WHERE w.i=span.id;"
    "UPDATE chunk SET body=fore_seal(body);"
    "CREATE TRIGGER span_gone AFTER DELETE ON span BEGIN UPDATE total SET samples=samples-OLD.n,"
    "bytes=bytes-length(OLD.wall)-length(OLD.mono); END;"
    "CREATE TRIGGER chunk_gone AFTER DELETE ON chunk BEGIN UPDATE total SET chunks=chunks-1,"
    "bytes=bytes-length(OLD.body); END;"
    "CREATE TABLE series(id INTEGER PRIMARY KEY, vm INTEGER NOT NULL, source TEXT NOT NULL,"
    " metric TEXT NOT NULL, stats BLOB, roll1 INTEGER NOT NULL DEFAULT 0,"
    " roll2 INTEGER NOT NULL DEFAULT 0, UNIQUE(vm,source,metric));"
    "CREATE TABLE part(id INTEGER PRIMARY KEY, series INTEGER NOT NULL, width INTEGER NOT NULL,"
    " seq INTEGER, t0 INTEGER NOT NULL, t1 INTEGER NOT NULL, n INTEGER NOT NULL,"
    " body BLOB NOT NULL);"
    "CREATE INDEX part_time ON part(series, width, t1, t0);"
    "CREATE TABLE tier_total(width INTEGER PRIMARY KEY, points INTEGER, blocks INTEGER,"
    " bytes INTEGER);"
    "CREATE TRIGGER part_new AFTER INSERT ON part BEGIN INSERT INTO tier_total"
    " VALUES(NEW.width,NEW.n,1,length(NEW.body)) ON CONFLICT(width) DO UPDATE SET"
    " points=points+NEW.n,blocks=blocks+1,bytes=bytes+length(NEW.body); END;"
    "CREATE TRIGGER part_grown AFTER UPDATE ON part BEGIN UPDATE tier_total SET"
    " points=points+NEW.n-OLD.n,bytes=bytes+length(NEW.body)-length(OLD.body)"
    " WHERE width=NEW.width; END;"
    "CREATE TRIGGER part_gone AFTER DELETE ON part BEGIN UPDATE tier_total SET"
    " points=points-OLD.n,blocks=blocks-1,bytes=bytes-length(OLD.body) WHERE width=OLD.width; END;"
    "CREATE TABLE quarantine(id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL,"
    " what TEXT NOT NULL, t0 INTEGER, t1 INTEGER, n INTEGER, body BLOB);"
    "CREATE TRIGGER quarantine_bound AFTER INSERT ON quarantine"
    " BEGIN DELETE FROM quarantine WHERE id<=NEW.id-1000; END;"
    "CREATE TABLE anomaly(id INTEGER PRIMARY KEY AUTOINCREMENT, vm TEXT NOT NULL,"
    " source TEXT NOT NULL, metric TEXT NOT NULL, t0 INTEGER NOT NULL, t1 INTEGER NOT NULL,"
    " score REAL NOT NULL, reason TEXT NOT NULL);"
    "CREATE INDEX anomaly_time ON anomaly(t0, score);"
    "CREATE INDEX anomaly_vm_time ON anomaly(vm, t0, score);"
    "CREATE TRIGGER anomaly_bound AFTER INSERT ON anomaly"
    " BEGIN DELETE FROM anomaly WHERE id<=NEW.id-100000; END;"
    "PRAGMA user_version=" G_STRINGIFY(FORE_DB_SCHEMA) ";";

/* Of a span or part @x with parameters ?3..?5: drop raw, tier 1, tier 2 before; ?6, ?7: their
 * widths */
#define COARSE(x, width) "(" x ".t1-" x ".t0>=(" x ".n-1)*" width ")"
#define OLD_ENOUGH(x)                                                                              \
    "CASE WHEN " COARSE(x, "?7") " THEN ?5 WHEN " COARSE(x, "?6") " THEN ?4 ELSE ?3 END"
#define ROLLED_UP(x, v) "(" x ".seq IS NULL OR " x ".seq+" x ".n<=min(" v ".roll1," v ".roll2))"

static const char *const sql_text[] = {
    [FORE_SQL_BEGIN] = "BEGIN IMMEDIATE",
    [FORE_SQL_COMMIT] = "COMMIT",
    [FORE_SQL_ROLLBACK] = "ROLLBACK",
    [FORE_SQL_VM_ADD] = "INSERT OR IGNORE INTO vm(name) VALUES(?1)",
    [FORE_SQL_VM_ID] = "SELECT id FROM vm WHERE name=?1",
    [FORE_SQL_VMS] = "SELECT name FROM vm ORDER BY name",

    [FORE_SQL_VM_STATE] = "SELECT stats,roll1,roll2,(SELECT max(seq+n) FROM span WHERE vm=?1)"
                          " FROM vm WHERE id=?1",
    [FORE_SQL_VM_ROLL1] = "UPDATE vm SET roll1=?1,stats=?2 WHERE id=?3",
    [FORE_SQL_VM_ROLL2] = "UPDATE vm SET roll2=?1 WHERE id=?2",
    [FORE_SQL_VM_AFTER] = "SELECT id FROM vm WHERE id>?1 ORDER BY id LIMIT ?2",
    [FORE_SQL_SPAN_ADD] = "INSERT INTO span(vm,t0,t1,n,wall,mono,seq) VALUES(?1,?2,?3,?4,?5,?6,?7)",
    [FORE_SQL_SPAN_SET] = "UPDATE span SET t0=?1,t1=?2,n=?3,wall=?4,mono=?5 WHERE id=?6",
    [FORE_SQL_SPANS] = "SELECT id FROM span WHERE vm=?1 AND t1>=?2 AND t0<=?3 ORDER BY t0,id",
    [FORE_SQL_SPANS_SEQ] = "SELECT id,seq FROM span WHERE vm=?1 AND seq+n>?2 ORDER BY seq",
    [FORE_SQL_SPAN_GET] = "SELECT wall,mono,n,t0,t1,vm FROM span WHERE id=?1",
    /* What a tier is too fine for is kept as long as that tier; the rest until it is in all of
       them. */
    [FORE_SQL_SPANS_OLD] =
        "SELECT s.id FROM span s JOIN vm v ON v.id=s.vm WHERE s.vm=?1"
        " AND s.t1<?3 AND s.t1<" OLD_ENOUGH("s") " AND " ROLLED_UP("s", "v") " LIMIT ?2",
    [FORE_SQL_SPAN_DROP] = "DELETE FROM span WHERE id=?1",
    [FORE_SQL_SPAN_AFTER] = "SELECT id,wall,mono,n FROM span WHERE id>?1 ORDER BY id LIMIT 1",
    [FORE_SQL_CHUNK_SET] = "INSERT OR REPLACE INTO chunk(id,body) VALUES(?1,?2)",
    [FORE_SQL_CHUNKS] = "SELECT id,body FROM chunk WHERE id BETWEEN ?1 AND ?2",
    [FORE_SQL_CHUNK_GET] = "SELECT body FROM chunk WHERE id=?1",
    [FORE_SQL_CHUNK_DROP] = "DELETE FROM chunk WHERE id BETWEEN ?1 AND ?2",
    [FORE_SQL_CHUNK_AFTER] =
        "SELECT c.id,c.body,s.n FROM chunk c LEFT JOIN span s"
        " ON s.id=c.id/" G_STRINGIFY(FORE_DB_FIELDS) " WHERE c.id>?1 ORDER BY c.id LIMIT 1",
    [FORE_SQL_NEWEST] = "SELECT max(t1) FROM span WHERE vm=?1",
    [FORE_SQL_TOTAL_ADD] = "UPDATE total SET samples=samples+?1,chunks=chunks+?2,bytes=bytes+?3",
    [FORE_SQL_TOTAL] = "SELECT samples,chunks,bytes FROM total",

    [FORE_SQL_TIER_TOTAL] = "SELECT width,points,blocks,bytes FROM tier_total ORDER BY width",
    [FORE_SQL_SERIES_ADD] = "INSERT OR IGNORE INTO series(vm,source,metric) VALUES(?1,?2,?3)",
    [FORE_SQL_SERIES_ID] = "SELECT id FROM series WHERE vm=?1 AND source=?2 AND metric=?3",
    [FORE_SQL_SERIES_ALL] = "SELECT s.id,v.name,s.source,s.metric,s.stats FROM series s"
                            " JOIN vm v ON v.id=s.vm ORDER BY v.name,s.source,s.metric",
    [FORE_SQL_SERIES_STATE] = "SELECT stats,roll1,roll2,(SELECT max(seq+n) FROM part"
                              " WHERE series=?1 AND width=0) FROM series WHERE id=?1",
    [FORE_SQL_SERIES_ROLL1] = "UPDATE series SET roll1=?1,stats=?2 WHERE id=?3",
    [FORE_SQL_SERIES_ROLL2] = "UPDATE series SET roll2=?1 WHERE id=?2",
    [FORE_SQL_SERIES_AFTER] = "SELECT id FROM series WHERE id>?1 ORDER BY id LIMIT ?2",
    [FORE_SQL_PART_ADD] = "INSERT INTO part(series,width,seq,t0,t1,n,body)"
                          " VALUES(?1,?2,?3,?4,?5,?6,?7)",
    [FORE_SQL_PART_SET] = "UPDATE part SET t0=?1,t1=?2,n=?3,body=?4 WHERE id=?5",
    [FORE_SQL_PARTS] = "SELECT id FROM part WHERE series=?1 AND width=?2 AND t1>=?3 AND t0<=?4"
                       " ORDER BY t0,id",
    [FORE_SQL_PARTS_SEQ] = "SELECT id,seq FROM part WHERE series=?1 AND width=0 AND seq+n>?2"
                           " ORDER BY seq",
    [FORE_SQL_PART_GET] = "SELECT body,n,t0,t1,series,width FROM part WHERE id=?1",
    [FORE_SQL_PARTS_OLD] =
        "SELECT p.id FROM part p JOIN series v ON v.id=p.series"
        " WHERE p.series=?1 AND p.width=0"
        " AND p.t1<?3 AND p.t1<" OLD_ENOUGH("p") " AND " ROLLED_UP("p", "v") " LIMIT ?2",
    [FORE_SQL_BLOCKS_OLD] = "SELECT id FROM part WHERE series=?1 AND width=?2 AND t1<?3 LIMIT ?4",
    [FORE_SQL_PART_DROP] = "DELETE FROM part WHERE id=?1",
    [FORE_SQL_PART_AFTER] = "SELECT id,body,n,width FROM part WHERE id>?1 ORDER BY id LIMIT 1",
    [FORE_SQL_QUARANTINE] = "INSERT INTO quarantine(at,what,t0,t1,n,body)"
                            " VALUES(unixepoch()*1000,?1,?2,?3,?4,?5)",
    [FORE_SQL_QUARANTINED] = "SELECT what,t0,t1,n,at FROM quarantine ORDER BY id DESC",
    [FORE_SQL_QUARANTINE_N] = "SELECT count(*) FROM quarantine",
    [FORE_SQL_PUT] = "INSERT OR REPLACE INTO record(kind,key,json) VALUES(?1,?2,?3)",
    [FORE_SQL_DELETE] = "DELETE FROM record WHERE kind=?1 AND key=?2",
    [FORE_SQL_EACH] = "SELECT key,json FROM record WHERE kind=?1 ORDER BY key",
    [FORE_SQL_EVENT_ADD] = "INSERT INTO event(wall_ms,vm,json) VALUES(?1,?2,?3)",
    [FORE_SQL_EVENTS] = "SELECT id,wall_ms,vm,json FROM event WHERE id>?1 ORDER BY id LIMIT ?2",
    [FORE_SQL_ANOMALY_PUT] = "INSERT INTO anomaly(id,vm,source,metric,t0,t1,score,reason)"
                             " VALUES(?1,?2,?3,?4,?5,?6,?7,?8) ON CONFLICT(id) DO UPDATE SET"
                             " vm=?2,source=?3,metric=?4,t0=?5,t1=?6,score=?7,reason=?8",
    [FORE_SQL_ANOMALIES] = "SELECT id,vm,source,metric,t0,t1,score,reason FROM anomaly"
                           " WHERE t0 BETWEEN ?1 AND ?2 AND score>=?3 ORDER BY t0 LIMIT ?4",
    [FORE_SQL_ANOMALIES_OF] = "SELECT id,vm,source,metric,t0,t1,score,reason FROM anomaly"
                              " WHERE t0 BETWEEN ?1 AND ?2 AND score>=?3 AND vm=?5"
                              " ORDER BY t0 LIMIT ?4",
};
G_STATIC_ASSERT(G_N_ELEMENTS(sql_text) == FORE_SQL_N);

const char *fore_db_sql(ForeSql which)
{
    return sql_text[which];
}

const char *fore_db_path(const ForeDb *db)
{
    return db->path;
}

sqlite3 *fore_db_handle(ForeDb *db)
{
    return db->handle;
}

/* --- errors --- */

static const struct {
    int rc; /* primary result code */
    ForeErrorCode code;
    const char *what;
} reasons[] = {
    {SQLITE_FULL, FORE_ERROR_UNAVAILABLE, "the disk is full; make room"},
    {SQLITE_IOERR, FORE_ERROR_UNAVAILABLE, "input/output error; check the disk"},
    {SQLITE_READONLY, FORE_ERROR_UNAVAILABLE, "read-only; make the file and its folder writable"},
    {SQLITE_CANTOPEN, FORE_ERROR_UNAVAILABLE, "cannot be opened; check the folder and its rights"},
    {SQLITE_PERM, FORE_ERROR_UNAVAILABLE, "permission denied; check the folder and its rights"},
    {SQLITE_BUSY, FORE_ERROR_UNAVAILABLE, "already in use by another process; stop that one first"},
    {SQLITE_LOCKED, FORE_ERROR_UNAVAILABLE,
     "already in use by another process; stop that one first"},
    {SQLITE_NOTADB, FORE_ERROR_UNTRUSTED,
     "the key does not fit, or the file was changed; restore the key or move the file away"},
    /* The SQL is constant and tested: what is left of this code is a page that failed its HMAC. */
    {SQLITE_ERROR, FORE_ERROR_UNTRUSTED,
     "integrity: a page was changed or is damaged; move the file away and restore it"},
    {SQLITE_CORRUPT, FORE_ERROR_UNTRUSTED,
     "integrity: a page was changed or is damaged; move the file away and restore it"},
};

bool fore_db_fail(ForeDb *db, int rc, const char *doing, GError **error)
{
    const char *text = db->handle != NULL ? sqlite3_errmsg(db->handle) : "no database is open";

    for (size_t i = 0; i < G_N_ELEMENTS(reasons); i++) {
        if ((rc & 0xff) == reasons[i].rc) {
            g_set_error(error, FORE_ERROR, reasons[i].code, "store '%s': %s: %s (%s, %d)", db->path,
                        doing, reasons[i].what, text, rc);
            return false;
        }
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED, "store '%s': %s: %s (%d)", db->path, doing,
                text, rc);
    return false;
}

static bool fail_errno(const char *path, const char *doing, int err, GError **error)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                "store '%s': cannot %s: %s; check the folder, its rights and free space", path,
                doing, g_strerror(err));
    return false;
}

/* --- statements --- */

sqlite3_stmt *fore_db_ready(ForeDb *db, ForeSql which, GError **error)
{
    sqlite3_stmt **slot = &db->stmt[which];

    if (db->handle == NULL) {
        fore_db_fail(db, SQLITE_CANTOPEN, "using it", error);
        return NULL;
    }
    if (*slot == NULL) {
        int rc = sqlite3_prepare_v3(db->handle, sql_text[which], -1, SQLITE_PREPARE_PERSISTENT,
                                    slot, NULL);
        if (rc != SQLITE_OK) {
            fore_db_fail(db, rc, "preparing a statement", error);
            return NULL;
        }
    }
    sqlite3_reset(*slot);
    sqlite3_clear_bindings(*slot);
    return *slot;
}

int fore_db_next(ForeDb *db, sqlite3_stmt *stmt, const char *doing, GError **error)
{
    int rc = sqlite3_step(stmt);

    if (rc == SQLITE_ROW) {
        return 1;
    }
    if (rc != SQLITE_DONE) {
        fore_db_fail(db, rc, doing, error);
    }
    sqlite3_reset(stmt);
    return rc == SQLITE_DONE ? 0 : -1;
}

bool fore_db_run(ForeDb *db, sqlite3_stmt *stmt, const char *doing, GError **error)
{
    int got = fore_db_next(db, stmt, doing, error);

    g_assert(got <= 0);
    return got == 0;
}

bool fore_db_begin(ForeDb *db, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(db, FORE_SQL_BEGIN, error);

    return stmt != NULL && fore_db_run(db, stmt, "beginning a write", error);
}

void fore_db_rollback(ForeDb *db)
{
    /* Full disk and I/O errors may have rolled back already. */
    if (db->handle != NULL && !sqlite3_get_autocommit(db->handle)) {
        sqlite3_stmt *stmt = fore_db_ready(db, FORE_SQL_ROLLBACK, NULL);

        if (stmt != NULL) {
            sqlite3_step(stmt);
            sqlite3_reset(stmt);
        }
    }
}

bool fore_db_commit(ForeDb *db, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(db, FORE_SQL_COMMIT, error);

    if (stmt == NULL || !fore_db_run(db, stmt, "committing", error)) {
        fore_db_rollback(db);
        return false;
    }
    return true;
}

/* --- opening --- */

static bool exec(ForeDb *db, const char *sql, const char *doing, GError **error)
{
    int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK || fore_db_fail(db, rc, doing, error);
}

/* Returns: the one integer that @sql gives, or -1 with @error */
static int64_t ask(ForeDb *db, const char *sql, GError **error)
{
    sqlite3_stmt *stmt = NULL;
    int64_t v = -1;
    int rc = sqlite3_prepare_v2(db->handle, sql, -1, &stmt, NULL);

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
    }
    if (rc == SQLITE_ROW) {
        v = sqlite3_column_int64(stmt, 0);
    } else {
        fore_db_fail(db, rc, "reading its header", error);
    }
    sqlite3_finalize(stmt);
    return v;
}

/*
 * A new file is made here, for its mode; an existing one is not opened: closing a second descriptor
 * of it would drop this process's locks (POSIX).
 */
static bool make_file(const char *path, GError **error)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd >= 0) {
        close(fd);
        return true;
    }
    if (errno != EEXIST) {
        return fail_errno(path, "create it", errno, error);
    }
    if (chmod(path, 0600) != 0 && errno != EROFS) {
        return fail_errno(path, "set its mode to 0600", errno, error);
    }
    return true;
}

static bool give_key(ForeDb *db, GError **error)
{
    /* As "x'64 hex digits'": a raw key, no derivation from a password. */
    char text[2 + 2 * FORE_STORE_KEY_BYTES + 2];
    int rc;

    text[0] = 'x';
    text[1] = '\'';
    for (unsigned i = 0; i < FORE_STORE_KEY_BYTES; i++) {
        g_snprintf(text + 2 + 2 * i, 3, "%02x", db->key[i]);
    }
    text[sizeof(text) - 2] = '\'';
    rc = sqlite3_key(db->handle, text, (int)sizeof(text) - 1);
    explicit_bzero(text, sizeof(text));
    return rc == SQLITE_OK || fore_db_fail(db, rc, "setting the key", error);
}

/* fore_seal(blob): what fore_store_seal() does, for files of version 1 */
static void seal_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    g_autoptr(GByteArray) blob = g_byte_array_new();

    g_byte_array_append(blob, sqlite3_value_blob(argv[0]), (guint)sqlite3_value_bytes(argv[0]));
    fore_store_seal(blob);
    sqlite3_result_blob(context, blob->data, (int)blob->len, SQLITE_TRANSIENT);
}

static bool create_schema(ForeDb *db, int64_t version, GError **error)
{
    if (version == 0 &&
        (!exec(db, "PRAGMA application_id=" G_STRINGIFY(APPLICATION_ID), "marking it", error) ||
         !exec(db, schema_1, "creating the tables", error))) {
        return false;
    }
    if (version >= 2) {
        return true;
    }
    sqlite3_create_function(db->handle, "fore_seal", 1, SQLITE_UTF8 | SQLITE_DETERMINISTIC, NULL,
                            seal_function, NULL, NULL);
    return exec(db, schema_2, "bringing its tables up to version 2", error);
}

static bool settle_schema(ForeDb *db, GError **error)
{
    int64_t version = ask(db, "PRAGMA user_version", error);

    if (version < 0) {
        return false;
    }
    if (version > FORE_DB_SCHEMA) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "store '%s' has schema version %" G_GINT64_FORMAT
                    ", this program knows up to %d; use the newer program",
                    db->path, version, FORE_DB_SCHEMA);
        return false;
    }
    /* Takes the lock that is then kept until the file is closed. */
    if (!exec(db, "BEGIN IMMEDIATE", "taking the lock", error)) {
        return false;
    }
    if (!create_schema(db, version, error)) {
        fore_db_rollback(db);
        return false;
    }
    if (!exec(db, "COMMIT", "creating the tables", error)) {
        fore_db_rollback(db);
        return false;
    }
    return true;
}

static void disconnect(ForeDb *db)
{
    for (size_t i = 0; i < FORE_SQL_N; i++) {
        sqlite3_finalize(db->stmt[i]);
        db->stmt[i] = NULL;
    }
    sqlite3_close(db->handle);
    db->handle = NULL;
}

static bool open_handle(ForeDb *db, int page_bytes, GError **error)
{
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    g_autofree char *page_size =
        g_strdup_printf("PRAGMA cipher_log_level=NONE; PRAGMA cipher_page_size=%d", page_bytes);
    int rc = sqlite3_open_v2(db->path, &db->handle, flags, NULL);

    if (rc != SQLITE_OK) {
        return fore_db_fail(db, rc, "opening", error);
    }
    if (sqlite3_db_readonly(db->handle, "main") == 1) {
        return fore_db_fail(db, SQLITE_READONLY, "opening", error);
    }
    return exec(db, "PRAGMA cipher_memory_security=ON", "guarding its memory", error) &&
           give_key(db, error) && exec(db, page_size, "opening", error) &&
           exec(db,
                "PRAGMA locking_mode=EXCLUSIVE; PRAGMA temp_store=MEMORY;"
                "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;"
                "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;"
                "PRAGMA synchronous=FULL; PRAGMA journal_size_limit=4194304;"
                "PRAGMA wal_autocheckpoint=128",
                "opening", error);
}

static bool connect_file(ForeDb *db, GError **error)
{
    static const int page_bytes[] = {PAGE_BYTES, OLD_PAGE_BYTES};
    g_autoptr(GError) why = NULL;
    struct stat st;
    bool ok = false;

    if (!make_file(db->path, error)) {
        return false;
    }
    for (size_t i = 0; !ok && i < G_N_ELEMENTS(page_bytes); i++) {
        disconnect(db);
        g_clear_error(&why);
        ok = open_handle(db, page_bytes[i], &why);
        if (!ok && !g_error_matches(why, FORE_ERROR, FORE_ERROR_UNTRUSTED)) {
            break; /* no matter of pages */
        }
    }
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (!settle_schema(db, error)) {
        return false;
    }
    if (stat(db->path, &st) != 0) {
        return fail_errno(db->path, "find it again", errno, error);
    }
    db->dev = st.st_dev;
    db->ino = st.st_ino;
    return true;
}

ForeDb *fore_db_open(const char *path, const uint8_t *key, GError **error)
{
    g_autoptr(ForeDb) db = g_new0(ForeDb, 1);

    db->path = g_strdup(path);
    db->key = mmap(NULL, KEY_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (db->key == MAP_FAILED) {
        db->key = NULL;
        fail_errno(path, "get memory for the key", errno, error);
        return NULL;
    }
    /* Best effort: a small RLIMIT_MEMLOCK must not keep the history from being recorded. */
    (void)mlock(db->key, KEY_ROOM);
    (void)madvise(db->key, KEY_ROOM, MADV_DONTDUMP);
    (void)madvise(db->key, KEY_ROOM, MADV_WIPEONFORK);
    memcpy(db->key, key, FORE_STORE_KEY_BYTES);
    return connect_file(db, error) ? g_steal_pointer(&db) : NULL;
}

void fore_db_close(ForeDb *db)
{
    if (db == NULL) {
        return;
    }
    disconnect(db);
    if (db->key != NULL) {
        explicit_bzero(db->key, KEY_ROOM);
        munmap(db->key, KEY_ROOM);
    }
    g_free(db->path);
    g_free(db);
}

bool fore_db_renew(ForeDb *db, bool *ret_renewed, GError **error)
{
    struct stat st;
    bool there = stat(db->path, &st) == 0;

    if (there && db->handle != NULL && st.st_dev == db->dev && st.st_ino == db->ino) {
        *ret_renewed = false;
        return true;
    }
    disconnect(db);
    if (!connect_file(db, error)) {
        disconnect(db);
        return false;
    }
    *ret_renewed = true;
    return true;
}

void fore_db_recover(ForeDb *db)
{
    if (db->handle == NULL || !sqlite3_get_autocommit(db->handle)) {
        return;
    }
    disconnect(db);
    if (!connect_file(db, NULL)) {
        disconnect(db); /* fore_db_renew() tries again and says why */
    }
}

void fore_db_suspend(ForeDb *db)
{
    disconnect(db);
}

void fore_db_set_key(ForeDb *db, const uint8_t *key)
{
    memcpy(db->key, key, FORE_STORE_KEY_BYTES);
}

bool fore_db_resume(ForeDb *db, GError **error)
{
    if (db->handle == NULL && !connect_file(db, error)) {
        disconnect(db);
        return false;
    }
    return true;
}

bool fore_db_attach(ForeDb *db, const char *path, const char *hex_key, GError **error)
{
    g_autofree char *key = g_strdup_printf("x'%s'", hex_key);
    sqlite3_stmt *stmt = NULL;
    int rc;

    if (!exec(db, "PRAGMA cipher_default_page_size=" G_STRINGIFY(PAGE_BYTES), "attaching", error)) {
        return false;
    }
    rc = sqlite3_prepare_v2(db->handle, "ATTACH ?1 AS next KEY ?2", -1, &stmt, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_text(stmt, 1, path, -1, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 2, key, -1, SQLITE_STATIC);
        rc = sqlite3_step(stmt);
    }
    sqlite3_finalize(stmt);
    explicit_bzero(key, strlen(key));
    return rc == SQLITE_DONE || fore_db_fail(db, rc, "attaching a second file", error);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works
 *
 * Samples are rolled up in memory as they come (fore-rollup.h).  Blocks that are ready are written
 * in the transaction that writes samples, together with the number of the first sample that is not
 * in them (vm.roll1 and .roll2, or those of a series) and the statistics of all samples below it.
 * After a restart the samples from there on are read again and rolled up: so a crash at any point
 * neither loses nor doubles a point, and nothing half-made is ever on disk.
 *
 * Retention: each write drops a few of the chunks that are older than their tier is kept, of a few
 * VMs and series in turn.  Samples that are in a tier to come only in part are not dropped; samples
 * as far apart as a tier's interval are not rolled up into it, but kept as long as it is.
 */
#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "profile/fore-store-priv.h"

#define LIVE_POINTS_1 60 /* 10 minutes of 10 s */
#define LIVE_POINTS_2 24 /* 2 hours of 5 min: what is read again after a restart */
#define SWEEP_TURNS   25 /* writes after which every VM and series had its turn */
#define SWEEP_CHUNKS  16 /* dropped at most of one of them in its turn */

/* --- settings --- */

static int64_t parse_span(const char **text)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"s", 1e3},   {"min", 6e4},      {"h", 36e5},
                 {"d", 864e5}, {"mo", 2629746e3}, {"y", 31556952e3}};
    char *end = NULL;
    double n = g_ascii_strtod(*text, &end);

    for (size_t i = 0; end != *text && i < G_N_ELEMENTS(units); i++) {
        size_t len = strlen(units[i].unit);

        if (strncmp(end, units[i].unit, len) == 0 && !g_ascii_isalpha(end[len])) {
            *text = end + len;
            return n >= 0 && n * units[i].ms < 3.2e14 ? (int64_t)(n * units[i].ms) : -1;
        }
    }
    return -1;
}

static bool tiers_make_sense(const ForeStoreTiers *t, const int64_t *width)
{
    bool ok = width[0] > 0;

    for (int k = 1; k < FORE_ROLLUP_TIERS; k++) {
        ok = ok && t->tier[k].width_ms > t->tier[k - 1].width_ms &&
             t->tier[k].keep_ms >= t->tier[k - 1].keep_ms;
    }
    /* What is read again after a restart must still be there. */
    return ok && t->tier[0].width_ms > width[0] && t->tier[0].keep_ms >= t->raw_keep_ms &&
           t->raw_keep_ms >= t->tier[1].width_ms * (LIVE_POINTS_2 + 2);
}

bool fore_store_tiers_parse(const char *text, ForeStoreTiers *ret, GError **error)
{
    int64_t width[FORE_ROLLUP_TIERS + 1], keep[FORE_ROLLUP_TIERS + 1];
    const char *at = text;
    ForeStoreTiers t;
    bool ok = true;

    for (int i = 0; ok && i <= FORE_ROLLUP_TIERS; i++) {
        at += strspn(at, " ,");
        width[i] = parse_span(&at);
        ok = width[i] > 0 && *at++ == ':';
        keep[i] = ok ? parse_span(&at) : -1;
        ok = ok && keep[i] > 0;
    }
    ok = ok && at[strspn(at, " ,")] == '\0';
    if (ok) {
        t.raw_keep_ms = keep[0];
        for (int k = 0; k < FORE_ROLLUP_TIERS; k++) {
            t.tier[k].width_ms = width[k + 1];
            t.tier[k].keep_ms = keep[k + 1];
        }
    }
    if (!ok || !tiers_make_sense(&t, width)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "tiers '%s': want three WIDTH:KEEP, both rising, the first kept at least %d "
                    "of the last width, as '" FORE_STORE_TIERS_DEFAULT "' (s, min, h, d, mo, y)",
                    text, LIVE_POINTS_2 + 2);
        return false;
    }
    *ret = t;
    return true;
}

void fore_store_set_tiers(ForeStore *store, const ForeStoreTiers *tiers)
{
    store->tiers = *tiers;
}

const char *fore_store_field_source(ForeField field)
{
    if (field == FORE_FIELD_DEMAND_VCPU || field == FORE_FIELD_DEMAND_MEM) {
        return FORE_SOURCE_DEMAND;
    }
    return field < FORE_FIELD_DEMAND_VCPU ? FORE_SOURCE_GUEST : FORE_SOURCE_PROFILER;
}

unsigned fore_store_too_coarse(const ForeStore *store, int64_t t0_ms, int64_t t1_ms, size_t n)
{
    unsigned mask = 0;

    for (unsigned k = 0; k < FORE_ROLLUP_TIERS; k++) {
        /* as COARSE in fore-store-db.c */
        if ((double)t1_ms - (double)t0_ms >=
            ((double)n - 1) * (double)store->tiers.tier[k].width_ms) {
            mask |= 1u << k;
        }
    }
    return mask;
}

/* --- rolling up --- */

ForeRollup *fore_store_new_rollup(ForeStore *store, unsigned columns, const uint64_t *from_seq,
                                  const ForeRunning *running, bool whole_blocks)
{
    const int64_t width[] = {store->tiers.tier[0].width_ms, store->tiers.tier[1].width_ms};
    const unsigned live[] = {LIVE_POINTS_1, LIVE_POINTS_2};
    const unsigned whole[] = {FORE_TIER_BLOCK, FORE_TIER_BLOCK};

    return fore_rollup_new(columns, width, whole_blocks ? whole : live, from_seq, running);
}

void fore_store_roll_sample(ForeRollup *rollup, uint64_t seq, const ForeSample *s)
{
    double v[FORE_FIELD_N];

    for (unsigned f = 0; f < FORE_FIELD_N; f++) {
        v[f] = FORE_HAS(s, f) ? s->value[f] : NAN;
    }
    fore_rollup_add(rollup, seq, s->wall_ms, v);
}

/* @ret_end: number of the sample after the last on disk */
static bool read_state(ForeStore *store, ForeSql which, int64_t id, unsigned columns,
                       ForeRunning *ret_running, uint64_t ret_from[FORE_ROLLUP_TIERS],
                       uint64_t *ret_end, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, which, error);
    int got;

    memset(ret_running, 0, columns * sizeof(*ret_running));
    ret_from[0] = ret_from[1] = *ret_end = 0;
    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_int64(stmt, 1, id);
    got = fore_db_next(store->db, stmt, "reading how far it is rolled up", error);
    if (got == 1) {
        const void *blob = sqlite3_column_blob(stmt, 0);
        size_t size = fore_store_unseal(blob, (size_t)sqlite3_column_bytes(stmt, 0));

        (void)fore_running_unpack(blob, size, ret_running, columns); /* damaged: begins anew */
        for (int k = 0; k < FORE_ROLLUP_TIERS; k++) {
            ret_from[k] = (uint64_t)MAX(sqlite3_column_int64(stmt, 1 + k), 0);
            *ret_end = MAX(*ret_end, ret_from[k]);
        }
        *ret_end = MAX(*ret_end, (uint64_t)MAX(sqlite3_column_int64(stmt, 3), 0));
        sqlite3_reset(stmt);
    }
    return got >= 0;
}

typedef struct {
    int64_t id;
    uint64_t seq;
} Piece;

/* Spans or raw parts that hold samples from number @from on. Returns: (transfer full) of Piece */
static GArray *pieces_from(ForeStore *store, ForeSql which, int64_t id, uint64_t from,
                           GError **error)
{
    g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(Piece));
    sqlite3_stmt *stmt = fore_db_ready(store->db, which, error);
    int got;

    if (stmt == NULL) {
        return NULL;
    }
    sqlite3_bind_int64(stmt, 1, id);
    sqlite3_bind_int64(stmt, 2, (int64_t)from);
    while ((got = fore_db_next(store->db, stmt, "listing what is to be rolled up", error)) == 1) {
        Piece p = {sqlite3_column_int64(stmt, 0), (uint64_t)sqlite3_column_int64(stmt, 1)};

        g_array_append_val(out, p);
    }
    return got == 0 ? g_steal_pointer(&out) : NULL;
}

static bool replay_spans(ForeStore *store, int64_t vm_id, uint64_t from, ForeRollup *rollup,
                         GError **error)
{
    g_autoptr(GArray) pieces = pieces_from(store, FORE_SQL_SPANS_SEQ, vm_id, from, error);
    g_autofree ForeSpan *scratch = g_new(ForeSpan, 1);

    for (guint i = 0; pieces != NULL && i < pieces->len; i++) {
        const Piece *p = &g_array_index(pieces, Piece, i);
        g_autoptr(GArray) samples = g_array_new(FALSE, TRUE, sizeof(ForeSample));

        if (fore_store_read_span(store, p->id, scratch, samples, error) < 0) {
            return false;
        }
        for (guint j = 0; j < samples->len; j++) {
            fore_store_roll_sample(rollup, p->seq + j, &g_array_index(samples, ForeSample, j));
        }
    }
    return pieces != NULL;
}

bool fore_store_restore(ForeStore *store, ForeSeries *s, GError **error)
{
    ForeRunning running[FORE_FIELD_N];
    uint64_t from[FORE_ROLLUP_TIERS], end;
    g_autoptr(ForeRollup) rollup = NULL;
    int64_t id = 0;

    if (!fore_store_vm_id(store, s->name, &id, error) ||
        !read_state(store, FORE_SQL_VM_STATE, id, FORE_FIELD_N, running, from, &end, error)) {
        return false;
    }
    rollup = fore_store_new_rollup(store, FORE_FIELD_N, from, running, false);
    if (id != 0 && !replay_spans(store, id, MIN(from[0], from[1]), rollup, error)) {
        return false;
    }
    s->base = end;
    for (uint64_t seq = fore_ring_first(s->ring); seq < fore_ring_next(s->ring); seq++) {
        fore_store_roll_sample(rollup, s->base + seq, fore_ring_at(s->ring, seq));
    }
    s->rollup = g_steal_pointer(&rollup);
    return true;
}

bool fore_store_restore_line(ForeStore *store, ForeLine *line, GError **error)
{
    ForeRunning running;
    uint64_t from[FORE_ROLLUP_TIERS], end;
    g_autoptr(ForeRollup) rollup = NULL;
    g_autoptr(GArray) pieces = NULL;
    int64_t vm_id = 0, id = 0;

    if (!fore_store_vm_id(store, line->vm, &vm_id, error) ||
        !fore_store_series_id(store, vm_id, line->source, line->metric, false, &id, error) ||
        !read_state(store, FORE_SQL_SERIES_STATE, id, 1, &running, from, &end, error)) {
        return false;
    }
    rollup = fore_store_new_rollup(store, 1, from, &running, false);
    pieces = pieces_from(store, FORE_SQL_PARTS_SEQ, id, MIN(from[0], from[1]), error);
    for (guint i = 0; pieces != NULL && i < pieces->len; i++) {
        const Piece *p = &g_array_index(pieces, Piece, i);
        g_autoptr(GArray) points = g_array_new(FALSE, FALSE, sizeof(ForeSeriesPoint));

        if (fore_store_read_part(store, p->id, points, error) < 0) {
            return false;
        }
        fore_line_roll(store, rollup, p->seq, (const ForeSeriesPoint *)(gpointer)points->data,
                       points->len);
    }
    if (pieces == NULL) {
        return false;
    }
    line->first = end;
    line->rollup = g_steal_pointer(&rollup);
    return true;
}

/* --- blocks to disk --- */

static bool write_block(ForeStore *store, int64_t series_id, int64_t width_ms,
                        const ForeTierBlock *block, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_PART_ADD, error);
    g_autoptr(GByteArray) body = NULL;
    int64_t t0, t1;

    if (stmt == NULL) {
        return false;
    }
    body = fore_tier_block_pack(block);
    fore_store_seal(body);
    fore_tier_block_span(block, &t0, &t1);
    sqlite3_bind_int64(stmt, 1, series_id);
    sqlite3_bind_int64(stmt, 2, width_ms);
    sqlite3_bind_int64(stmt, 4, t0);
    sqlite3_bind_int64(stmt, 5, t1);
    sqlite3_bind_int64(stmt, 6, (int64_t)fore_tier_block_n(block));
    sqlite3_bind_blob(stmt, 7, body->data, (int)body->len, SQLITE_STATIC);
    return fore_db_run(store->db, stmt, "writing a tier", error);
}

static bool write_position(ForeStore *store, const ForeRollupReady *ready, int64_t vm_id,
                           int64_t series_id, GError **error)
{
    static const ForeSql which[2][FORE_ROLLUP_TIERS] = {
        {FORE_SQL_VM_ROLL1, FORE_SQL_VM_ROLL2}, {FORE_SQL_SERIES_ROLL1, FORE_SQL_SERIES_ROLL2}};
    sqlite3_stmt *stmt = fore_db_ready(store->db, which[series_id != 0][ready->tier], error);
    g_autoptr(GByteArray) stats = NULL;

    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_int64(stmt, 1, (int64_t)ready->end_seq);
    if (ready->tier == 0) {
        stats = fore_running_pack(ready->running, series_id != 0 ? 1 : FORE_FIELD_N);
        fore_store_seal(stats);
        sqlite3_bind_blob(stmt, 2, stats->data, (int)stats->len, SQLITE_STATIC);
    }
    sqlite3_bind_int64(stmt, ready->tier == 0 ? 3 : 2, series_id != 0 ? series_id : vm_id);
    return fore_db_run(store->db, stmt, "writing how far it is rolled up", error);
}

static bool write_one_ready(ForeStore *store, const ForeRollupReady *ready, int64_t vm_id,
                            int64_t series_id, GError **error)
{
    int64_t width = store->tiers.tier[ready->tier].width_ms;

    for (unsigned c = 0; c < (series_id != 0 ? 1 : FORE_FIELD_N); c++) {
        int64_t id = series_id;

        if (ready->block[c] == NULL) {
            continue;
        }
        if (id == 0 && !fore_store_series_id(store, vm_id, fore_store_field_source(c),
                                             fore_field_names[c], true, &id, error)) {
            return false;
        }
        if (!write_block(store, id, width, ready->block[c], error)) {
            return false;
        }
    }
    return true;
}

bool fore_store_write_ready(ForeStore *store, ForeRollup *rollup, int64_t vm_id, int64_t series_id,
                            bool advance, uint64_t end_seq, guint *ret_n, GError **error)
{
    const ForeRollupReady *ready;
    guint n = 0;

    for (; (ready = fore_rollup_ready(rollup, n)) != NULL && ready->end_seq <= end_seq; n++) {
        if (!write_one_ready(store, ready, vm_id, series_id, error) ||
            (advance && !write_position(store, ready, vm_id, series_id, error))) {
            return false;
        }
    }
    *ret_n = n;
    return true;
}

/* --- retention --- */

/* Runs @list (ids in column 0) and for each of them @drop.  Returns: how many, or -1 */
static int drop_listed(ForeStore *store, sqlite3_stmt *list, bool spans, GError **error)
{
    int64_t id[SWEEP_CHUNKS];
    int n = 0, got;

    while ((got = fore_db_next(store->db, list, "looking for what is too old", error)) == 1) {
        if (n < SWEEP_CHUNKS) {
            id[n++] = sqlite3_column_int64(list, 0);
        }
    }
    for (int i = 0; got == 0 && i < n; i++) {
        sqlite3_stmt *stmt =
            fore_db_ready(store->db, spans ? FORE_SQL_SPAN_DROP : FORE_SQL_PART_DROP, error);

        if (stmt == NULL) {
            return -1;
        }
        sqlite3_bind_int64(stmt, 1, id[i]);
        if (!fore_db_run(store->db, stmt, "dropping what is too old", error)) {
            return -1;
        }
        stmt = spans ? fore_db_ready(store->db, FORE_SQL_CHUNK_DROP, error) : NULL;
        if (stmt != NULL) {
            sqlite3_bind_int64(stmt, 1, id[i] * FORE_DB_FIELDS);
            sqlite3_bind_int64(stmt, 2, id[i] * FORE_DB_FIELDS + FORE_DB_FIELDS - 1);
        }
        if (spans &&
            (stmt == NULL || !fore_db_run(store->db, stmt, "dropping what is too old", error))) {
            return -1;
        }
    }
    return got == 0 ? n : -1;
}

static int drop_raw(ForeStore *store, bool spans, int64_t id, int64_t now_ms, GError **error)
{
    const ForeStoreTiers *t = &store->tiers;
    sqlite3_stmt *stmt =
        fore_db_ready(store->db, spans ? FORE_SQL_SPANS_OLD : FORE_SQL_PARTS_OLD, error);

    if (stmt == NULL) {
        return -1;
    }
    sqlite3_bind_int64(stmt, 1, id);
    sqlite3_bind_int64(stmt, 2, SWEEP_CHUNKS);
    sqlite3_bind_int64(stmt, 3, now_ms - t->raw_keep_ms);
    for (int k = 0; k < FORE_ROLLUP_TIERS; k++) {
        sqlite3_bind_int64(stmt, 4 + k, now_ms - t->tier[k].keep_ms);
        sqlite3_bind_int64(stmt, 6 + k, t->tier[k].width_ms);
    }
    return drop_listed(store, stmt, spans, error);
}

static int drop_blocks(ForeStore *store, int64_t series_id, unsigned tier, int64_t now_ms,
                       GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_BLOCKS_OLD, error);

    if (stmt == NULL) {
        return -1;
    }
    sqlite3_bind_int64(stmt, 1, series_id);
    sqlite3_bind_int64(stmt, 2, store->tiers.tier[tier].width_ms);
    sqlite3_bind_int64(stmt, 3, now_ms - store->tiers.tier[tier].keep_ms);
    sqlite3_bind_int64(stmt, 4, SWEEP_CHUNKS);
    return drop_listed(store, stmt, false, error);
}

/* The rows after *@after whose turn it is; at the end it begins again. */
static GArray *turn_of(ForeStore *store, ForeSql which, bool all, int64_t *after, GError **error)
{
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(int64_t));
    guint known = which == FORE_SQL_VM_AFTER ? g_hash_table_size(store->series)
                                             : g_hash_table_size(store->series) * FORE_FIELD_N +
                                                   g_hash_table_size(store->lines);
    sqlite3_stmt *stmt = fore_db_ready(store->db, which, error);
    int got;

    if (stmt == NULL) {
        return NULL;
    }
    sqlite3_bind_int64(stmt, 1, all ? 0 : *after);
    sqlite3_bind_int64(stmt, 2, all ? INT64_MAX : known / SWEEP_TURNS + 2);
    while ((got = fore_db_next(store->db, stmt, "looking for whose turn it is", error)) == 1) {
        int64_t id = sqlite3_column_int64(stmt, 0);

        g_array_append_val(ids, id);
    }
    *after = ids->len > 0 ? g_array_index(ids, int64_t, ids->len - 1) : 0;
    return got == 0 ? g_steal_pointer(&ids) : NULL;
}

bool fore_store_sweep(ForeStore *store, int64_t now_ms, bool all, uint64_t *ret_dropped,
                      GError **error)
{
    g_autoptr(GArray) vms = turn_of(store, FORE_SQL_VM_AFTER, all, &store->swept_vm, error);
    g_autoptr(GArray) series =
        vms != NULL ? turn_of(store, FORE_SQL_SERIES_AFTER, all, &store->swept_series, error)
                    : NULL;
    uint64_t dropped = 0;

    for (guint i = 0; series != NULL && i < vms->len; i++) {
        int n = drop_raw(store, true, g_array_index(vms, int64_t, i), now_ms, error);

        if (n < 0) {
            return false;
        }
        dropped += (uint64_t)n;
    }
    for (guint i = 0; series != NULL && i < series->len; i++) {
        int64_t id = g_array_index(series, int64_t, i);
        int n = drop_raw(store, false, id, now_ms, error);

        dropped += (uint64_t)MAX(n, 0);
        for (unsigned k = 0; n >= 0 && k < FORE_ROLLUP_TIERS; k++) {
            n = drop_blocks(store, id, k, now_ms, error);
            dropped += (uint64_t)MAX(n, 0);
        }
        if (n < 0) {
            return false;
        }
    }
    *ret_dropped = dropped;
    return series != NULL;
}

bool fore_store_expire(ForeStore *store, int64_t now_ms, uint64_t *ret_dropped, GError **error)
{
    if (!fore_store_ready(store, error) || !fore_db_begin(store->db, error)) {
        return false;
    }
    if (!fore_store_sweep(store, now_ms, true, ret_dropped, error)) {
        fore_db_rollback(store->db);
        return false;
    }
    return fore_db_commit(store->db, error);
}

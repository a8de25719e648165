/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Series of any name.  Memory holds the values of the chunk that still grows and of those that
 * follow; a write replaces its row until it has FORE_LINE_SAMPLES, as with spans.  A chunk is
 * rolled up when it is full: then its step is known, and with it the tiers that it is too coarse
 * for.
 */
#include <math.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "profile/fore-store-priv.h"

void fore_line_free(gpointer data)
{
    ForeLine *line = data;

    g_free(line->vm);
    g_free(line->source);
    g_free(line->metric);
    g_free(line->t_ms);
    g_free(line->value);
    fore_rollup_free(line->rollup);
    g_free(line);
}

void fore_line_roll(const ForeStore *store, ForeRollup *rollup, uint64_t seq,
                    const ForeSeriesPoint *points, size_t n)
{
    int64_t t0 = INT64_MAX, t1 = INT64_MIN;

    for (size_t i = 0; i < n; i++) {
        t0 = MIN(t0, points[i].t_ms);
        t1 = MAX(t1, points[i].t_ms);
    }
    fore_rollup_skip(rollup, fore_store_too_coarse(store, t0, t1, n));
    for (size_t i = 0; i < n; i++) {
        fore_rollup_add(rollup, seq + i, points[i].t_ms, &points[i].value);
    }
    fore_rollup_checkpoint(rollup, seq + n);
}

static char *line_key(const char *vm, const char *source, const char *metric)
{
    return g_strjoin(" ", vm, source, metric, NULL); /* no name has a blank */
}

ForeLine *fore_store_find_line(ForeStore *store, const char *vm, const char *source,
                               const char *metric)
{
    g_autofree char *key = line_key(vm, source, metric);

    return g_hash_table_lookup(store->lines, key);
}

static bool check_names(const char *vm, const char *source, const char *metric, GError **error)
{
    const char *names[] = {vm, source, metric};

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!fore_name_is_valid(names[i])) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                        "series '%.64s' '%.64s' '%.64s': '%.64s' is no name; use 1 to %d letters, "
                        "digits, '.', '_', '-'",
                        vm, source, metric, names[i], FORE_NAME_MAX);
            return false;
        }
    }
    return true;
}

ForeLine *fore_store_line_of(ForeStore *store, const char *vm, const char *source,
                             const char *metric, GError **error)
{
    ForeLine *line = fore_store_find_line(store, vm, source, metric);

    if (line != NULL || !check_names(vm, source, metric, error)) {
        return line;
    }
    if (g_hash_table_size(store->lines) >= FORE_STORE_SERIES_MAX) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "store '%s': %d series are open; no room for '%s' '%s' '%s'",
                    fore_db_path(store->db), FORE_STORE_SERIES_MAX, vm, source, metric);
        return NULL;
    }
    line = g_new0(ForeLine, 1);
    line->vm = g_strdup(vm);
    line->source = g_strdup(source);
    line->metric = g_strdup(metric);
    g_hash_table_insert(store->lines, line_key(vm, source, metric), line);
    (void)fore_store_restore_line(store, line, NULL); /* else before its first write */
    return line;
}

static void forget_first(ForeLine *line, size_t n)
{
    line->n -= n;
    memmove(line->t_ms, line->t_ms + n, line->n * sizeof(line->t_ms[0]));
    memmove(line->value, line->value + n, line->n * sizeof(line->value[0]));
    line->first += n;
}

static void roll_full_chunk(ForeStore *store, ForeLine *line, size_t end)
{
    ForeSeriesPoint point[FORE_LINE_SAMPLES];
    size_t first = end - FORE_LINE_SAMPLES;

    for (size_t i = 0; i < FORE_LINE_SAMPLES; i++) {
        point[i] = (ForeSeriesPoint){line->t_ms[first + i], line->value[first + i]};
    }
    fore_line_roll(store, line->rollup, line->first + first, point, FORE_LINE_SAMPLES);
}

/* Room for one more.  When the disk has been away for too long the oldest chunk goes. */
static void make_room(ForeStore *store, ForeLine *line)
{
    if (line->n == FORE_LINE_ROOM) {
        size_t kept = MIN(line->done.flushed, (size_t)FORE_LINE_SAMPLES);

        store->lost_samples += FORE_LINE_SAMPLES - kept;
        line->done.flushed -= kept;
        line->done.part_id = 0;
        forget_first(line, FORE_LINE_SAMPLES);
    }
    if (line->n == line->room) {
        line->room = line->room == 0 ? 16 : MIN(line->room * 2, (size_t)FORE_LINE_ROOM);
        line->t_ms = g_renew(int64_t, line->t_ms, line->room);
        line->value = g_renew(double, line->value, line->room);
    }
}

bool fore_store_series_append(ForeStore *store, const char *vm, const char *source,
                              const char *metric, int64_t t_ms, double value, GError **error)
{
    ForeLine *line = fore_store_line_of(store, vm, source, metric, error);

    if (line == NULL) {
        return false;
    }
    if (!isfinite(value)) {
        return true;
    }
    make_room(store, line);
    line->t_ms[line->n] = t_ms;
    line->value[line->n++] = value;
    if (line->n % FORE_LINE_SAMPLES == 0 && line->rollup != NULL) {
        roll_full_chunk(store, line, line->n);
    }
    if (line->n >= FORE_LINE_SAMPLES && line->n % FORE_LINE_SAMPLES == 0) {
        (void)fore_store_flush(store, NULL); /* health tells; memory still has it */
    }
    return true;
}

/* --- to disk --- */

static bool write_chunk(ForeStore *store, ForeLine *line, size_t at, size_t n, int64_t *part_id,
                        GError **error)
{
    bool fresh = *part_id == 0;
    sqlite3_stmt *stmt =
        fore_db_ready(store->db, fresh ? FORE_SQL_PART_ADD : FORE_SQL_PART_SET, error);
    g_autoptr(GByteArray) times = fore_chunk_pack_times(line->t_ms + at, n);
    g_autoptr(GByteArray) values = fore_chunk_pack_values(line->value + at, n);
    g_autoptr(GByteArray) body = g_byte_array_new();
    int64_t t0 = INT64_MAX, t1 = INT64_MIN;
    int col = fresh ? 4 : 1;

    if (stmt == NULL) {
        return false;
    }
    for (size_t i = at; i < at + n; i++) {
        t0 = MIN(t0, line->t_ms[i]);
        t1 = MAX(t1, line->t_ms[i]);
    }
    fore_put_be16(body, (uint16_t)times->len);
    g_byte_array_append(body, times->data, times->len);
    g_byte_array_append(body, values->data, values->len);
    fore_store_seal(body);
    if (fresh) {
        sqlite3_bind_int64(stmt, 1, line->next.id);
        sqlite3_bind_int64(stmt, 2, 0);
        sqlite3_bind_int64(stmt, 3, (int64_t)(line->first + at));
    }
    sqlite3_bind_int64(stmt, col, t0);
    sqlite3_bind_int64(stmt, col + 1, t1);
    sqlite3_bind_int64(stmt, col + 2, (int64_t)n);
    sqlite3_bind_blob(stmt, col + 3, body->data, (int)body->len, SQLITE_STATIC);
    if (!fresh) {
        sqlite3_bind_int64(stmt, 5, *part_id);
    }
    if (!fore_db_run(store->db, stmt, "writing a series", error)) {
        return false;
    }
    *part_id = fresh ? sqlite3_last_insert_rowid(fore_db_handle(store->db)) : *part_id;
    return true;
}

static bool ready_to_write(ForeStore *store, ForeLine *line, GError **error)
{
    ForeLineProgress *p = &line->next;
    int64_t vm_id = 0;

    if (p->id == 0 &&
        (!fore_store_find_or_add_vm(store, line->vm, &vm_id, error) ||
         !fore_store_series_id(store, vm_id, line->source, line->metric, true, &p->id, error))) {
        return false;
    }
    if (line->rollup == NULL) {
        if (!fore_store_restore_line(store, line, error)) {
            return false;
        }
        for (size_t end = FORE_LINE_SAMPLES; end <= line->n; end += FORE_LINE_SAMPLES) {
            roll_full_chunk(store, line, end);
        }
    }
    return true;
}

bool fore_store_write_line(ForeStore *store, ForeLine *line, GError **error)
{
    ForeLineProgress *p = &line->next;
    size_t at = 0;

    *p = line->done;
    p->rolled = 0;
    if (p->flushed == line->n) {
        return true;
    }
    if (!ready_to_write(store, line, error)) {
        return false;
    }
    for (; at < line->n; at += FORE_LINE_SAMPLES) {
        size_t n = MIN(line->n - at, (size_t)FORE_LINE_SAMPLES);

        if (at > 0) {
            p->part_id = 0; /* a chunk that was not begun yet */
        }
        if (!write_chunk(store, line, at, n, &p->part_id, error)) {
            return false;
        }
    }
    p->flushed = line->n;
    return fore_store_write_ready(store, line->rollup, 0, p->id, true, line->first + line->n,
                                  &p->rolled, error);
}

void fore_line_move_on(ForeLine *line)
{
    size_t full;

    line->done = line->next;
    if (line->done.rolled > 0) {
        fore_rollup_written(line->rollup, line->done.rolled);
        line->done.rolled = 0;
    }
    full = line->done.flushed - line->done.flushed % FORE_LINE_SAMPLES;
    if (full > 0) {
        forget_first(line, full);
        line->done.flushed -= full;
        if (line->n == 0) {
            line->done.part_id = 0;
            g_clear_pointer(&line->t_ms, g_free);
            g_clear_pointer(&line->value, g_free);
            line->room = 0;
        }
    }
}

/* --- from disk --- */

bool fore_store_decode_part(const void *data, size_t size, int64_t n, GArray *out)
{
    int64_t t[FORE_CHUNK_MAX];
    double v[FORE_CHUNK_MAX];
    size_t n_t = 0, n_v = 0, times_size = 0;
    const uint8_t *times;
    ForeCursor cur;

    fore_cursor_init(&cur, data, size);
    times = fore_cursor_sized16(&cur, &times_size);
    if (times == NULL || !fore_chunk_unpack_times(times, times_size, t, &n_t, NULL) ||
        !fore_chunk_unpack_values(cur.at, cur.left, v, &n_v, NULL) || n_t != n_v ||
        (int64_t)n_t != n) {
        return false;
    }
    for (size_t i = 0; i < n_t; i++) {
        ForeSeriesPoint p = {t[i], v[i]};

        if (!isnan(p.value)) {
            g_array_append_val(out, p);
        }
    }
    return true;
}

int fore_store_read_part(ForeStore *store, int64_t id, GArray *out, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_PART_GET, error);
    g_autoptr(GError) why = NULL;
    bool ok = false;
    int got;

    if (stmt == NULL) {
        return -1;
    }
    sqlite3_bind_int64(stmt, 1, id);
    got = fore_db_next(store->db, stmt, "reading a series", &why);
    if (got == 1) {
        const void *blob = sqlite3_column_blob(stmt, 0);
        size_t size = fore_store_unseal(blob, (size_t)sqlite3_column_bytes(stmt, 0));

        ok = size > 0 && fore_store_decode_part(blob, size, sqlite3_column_int64(stmt, 1), out);
        sqlite3_reset(stmt);
    }
    if (got < 0 && !fore_store_is_damage(why)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return -1;
    }
    if (why != NULL) {
        fore_db_recover(store->db);
    }
    if (got != 0 && !ok) {
        fore_store_damage_part(store, id, why != NULL);
    }
    return ok;
}

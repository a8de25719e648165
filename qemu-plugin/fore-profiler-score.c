/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-plugin/fore-profiler-score.h"

#include <errno.h>
#include <sys/mman.h>

/*
 * Why not simply qemu_plugin_scoreboard_new()
 *
 * QEMU gives a new scoreboard 16 entries and, when a vCPU with a higher index starts, moves every
 * scoreboard on its list to a larger place.  For that the new vCPU's thread calls start_exclusive()
 * while it holds the big lock; another vCPU that is just waiting for the big lock inside cpu_exec()
 * (an interrupt, an I/O access) can then never leave it, and QEMU hangs for good.  Measured
 * on 10.0.2: hot-adding vCPU 17 to a running VM hung in 6 of 6 trials with any scoreboard, in none
 * without (plugins/core.c, plugin_grow_scoreboards__locked).  A plugin cannot ask for more entries.
 *
 * So ours is not on QEMU's list: an object of our own in the form that the translator and the
 * accessors read, which is the pointer to a GArray, its data and its element size, and nothing
 * else.  It has all entries from the start and never moves.  The form is QEMU's internal affair, so
 * it is checked first on a scoreboard that QEMU made, and the plugin refuses to start where it
 * differs.
 */

#define PROBE_BYTES 136 /* an element size that nothing else has */

/* As in QEMU's include/qemu/plugin.h; the list entry is never used. */
typedef struct {
    GArray *data;
    void *next, *prev;
} Board;

static bool form_is_known(void)
{
    struct qemu_plugin_scoreboard *probe = qemu_plugin_scoreboard_new(PROBE_BYTES);
    GArray *array = *(GArray **)probe;
    bool known = array != NULL && g_array_get_element_size(array) == PROBE_BYTES &&
                 array->len >= 1 && array->data != NULL;

    qemu_plugin_scoreboard_free(probe);
    return known;
}

struct qemu_plugin_scoreboard *fore_profiler_score_new(unsigned n, ForeProfilerScore **ret_entries,
                                                       GError **error)
{
    if (!form_is_known()) {
        g_set_error(
            error, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
            "this QEMU keeps its scoreboards in another form: use the plugin that was built "
            "for it");
        return NULL;
    }
    /* Most words of most vCPUs are never touched; large pages would take the memory all the same.
     */
    size_t size = n * sizeof(ForeProfilerScore);
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "no %zu bytes for the counters of %u vCPUs: %s", size, n, g_strerror(errno));
        return NULL;
    }
    madvise(map, size, MADV_NOHUGEPAGE);
    Board *board = g_new0(Board, 1);
    board->data = g_array_new(FALSE, FALSE, sizeof(ForeProfilerScore));
    board->data->data = map; /* the array is never grown nor freed */
    board->data->len = n;
    *ret_entries = map;
    return (struct qemu_plugin_scoreboard *)board;
}

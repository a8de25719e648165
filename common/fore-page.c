/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/fore-page.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"

/*
 * How it works
 *
 * Goal: a consistent copy of what the plugin publishes, without a lock and without trust.
 *
 * The file is never mapped here: a mapping whose file is truncated kills the reader with SIGBUS,
 * and the one who may truncate is the QEMU that a guest may have taken over.  pread() into memory
 * of our own gives a short count instead, and what was copied cannot change while it is checked.
 *
 * A copy made by the kernel has no defined order inside, so the sequence number and the data of a
 * part (the VM's section, or a vCPU's block) must come from different calls.  A round is three
 * copies of the used front of the file, with fences between: the first gives the sequence numbers,
 * the second the data, the third the numbers again.  Equal and even: the second copy of that part
 * is one publication whole.  Each round keeps the parts that became consistent; rounds are bounded,
 * so a writer that never finishes (killed in mid-write, or hostile) costs a fixed time and then
 * FORE_ERROR_UNAVAILABLE.
 *
 * Opening uses O_NOFOLLOW against links and O_NONBLOCK against FIFOs and file leases, both of which
 * would let the owner of the file block the daemon in open().
 */

#define MAX_ROUNDS 16
#define MAX_PARTS  (1 + FORE_PAGE_MAX_VCPUS) /* part 0 is the VM's section, part i + 1 vCPU i */

typedef struct {
    uint8_t bytes[FORE_PAGE_BYTES];
} PageCopy;

struct ForePage {
    int fd;
    char *path;
    char *expected_uuid; /* NULL: any */
    dev_t dev;
    ino_t ino;
    uint8_t boot_id[FORE_PAGE_BOOT_ID]; /* as at the open: one file is one start of the writer */
    PageCopy *before, *data, *after;    /* of one round */
    PageCopy *whole;                    /* what the rounds have found consistent */
};

/* --- the file --- */

static uint64_t monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * FORE_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static bool copy_file(ForePage *page, PageCopy *copy, size_t size, GError **error)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = pread(page->fd, copy->bytes + done, size - done, (off_t)done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "%s: cannot read: %s",
                        page->path, g_strerror(errno));
            return false;
        }
        if (n == 0) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                        "%s: shrank to %zu bytes, a profile page has %u: restart the VM, and "
                        "distrust it",
                        page->path, done, FORE_PAGE_BYTES);
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

static size_t part_at(unsigned part)
{
    return part == 0 ? FORE_PAGE_HEADER : FORE_PAGE_BLOCKS + (size_t)(part - 1) * FORE_PAGE_BLOCK;
}

static size_t part_size(unsigned part)
{
    return part == 0 ? FORE_PAGE_VM : FORE_PAGE_BLOCK;
}

static uint32_t part_seq(const PageCopy *copy, unsigned part)
{
    ForeCursor cur;

    fore_cursor_init(&cur, copy->bytes + part_at(part), 4);
    return fore_cursor_le32(&cur);
}

/* Parts in use, as the header says; the parser checks the number itself. */
static unsigned header_parts(const PageCopy *copy)
{
    ForeCursor cur;

    fore_cursor_init(&cur, copy->bytes + offsetof(ForePageHeader, max_vcpus), 4);
    uint32_t n = fore_cursor_le32(&cur);
    return 1 + MIN(n, FORE_PAGE_MAX_VCPUS);
}

/* One round: takes over into page->whole what is consistent and @have does not hold yet.
 * @missing: one that is not, or @n. */
static bool read_round(ForePage *page, unsigned n, bool *have, unsigned *missing, GError **error)
{
    size_t size = part_at(n);

    if (!copy_file(page, page->before, size, error)) {
        return false;
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!copy_file(page, page->data, size, error)) {
        return false;
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!copy_file(page, page->after, size, error)) {
        return false;
    }
    *missing = n;
    for (unsigned i = n; i-- > 0;) {
        uint32_t seq = part_seq(page->before, i);

        if (!have[i] && (seq & 1) == 0 && seq == part_seq(page->after, i)) {
            memcpy(page->whole->bytes + part_at(i), page->data->bytes + part_at(i), part_size(i));
            have[i] = true;
        }
        if (!have[i]) {
            *missing = i;
        }
    }
    return true;
}

static void set_unfinished(const char *path, unsigned part, GError **error)
{
    g_autofree char *name = part == 0 ? g_strdup("the VM's section")
                                      : g_strdup_printf("the block of vCPU %u", part - 1);

    g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                "%s: %s stayed in mid-write through %u tries: try again; if it lasts, QEMU was "
                "killed while it wrote",
                path, name, MAX_ROUNDS);
}

static bool read_consistent(ForePage *page, GError **error)
{
    bool have[MAX_PARTS] = {false};
    unsigned missing = 0;

    memset(page->whole->bytes, 0, FORE_PAGE_BYTES);
    if (!copy_file(page, page->whole, FORE_PAGE_HEADER, error)) {
        return false;
    }
    unsigned n = header_parts(page->whole);
    for (unsigned round = 0; round < MAX_ROUNDS; round++) {
        if (!read_round(page, n, have, &missing, error)) {
            return false;
        }
        if (missing == n) {
            return true;
        }
    }
    set_unfinished(page->path, missing, error);
    return false;
}

/* The path must still lead to the file that we hold. */
static bool check_same_file(ForePage *page, GError **error)
{
    struct stat st;

    if (lstat(page->path, &st) != 0 || st.st_dev != page->dev || st.st_ino != page->ino) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_CLOSED,
                    "%s: was replaced or removed (QEMU was started anew?): open it again",
                    page->path);
        return false;
    }
    if (fstat(page->fd, &st) != 0 || st.st_size != FORE_PAGE_BYTES) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "%s: has another size than %u bytes: restart the VM, and distrust it",
                    page->path, FORE_PAGE_BYTES);
        return false;
    }
    return true;
}

static bool read_snapshot(ForePage *page, ForePageSnapshot *ret, GError **error)
{
    if (!check_same_file(page, error) || !read_consistent(page, error)) {
        return false;
    }
    /* The header's own live fields are single words; the clock is read last, so that no honest time
     * stamp in the copy lies after it. */
    if (!fore_page_parse(page->whole->bytes, FORE_PAGE_BYTES, page->expected_uuid, monotonic_ns(),
                         ret, error)) {
        g_prefix_error(error, "%s: ", page->path);
        return false;
    }
    return true;
}

static int open_page_file(const char *path, struct stat *st, GError **error)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

    if (fd < 0) {
        ForeErrorCode code = errno == ENOENT  ? FORE_ERROR_NOT_FOUND
                             : errno == ELOOP ? FORE_ERROR_INVALID
                                              : FORE_ERROR_UNAVAILABLE;
        g_set_error(error, FORE_ERROR, code,
                    "%s: cannot open the profile page: %s; is QEMU running with "
                    "-plugin libforesee-profiler.so,page=%s?",
                    path, g_strerror(errno), path);
        return -1;
    }
    if (fstat(fd, st) != 0 || !S_ISREG(st->st_mode)) {
        close(fd);
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "%s: is not a regular file, so not a profile page", path);
        return -1;
    }
    return fd;
}

/* Versions differ in size: what another release wrote is named as that, not as a broken page. */
static bool check_version(ForePage *page, GError **error)
{
    uint8_t front[12];
    ForeCursor cur;

    if (pread(page->fd, front, sizeof(front), 0) != (ssize_t)sizeof(front) ||
        memcmp(front, FORE_PAGE_MAGIC, 8) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "%s: is not a profile page, it does not begin with \"" FORE_PAGE_MAGIC "\"",
                    page->path);
        return false;
    }
    fore_cursor_init(&cur, front + 8, 4);
    uint32_t version = fore_cursor_le32(&cur);
    if (version != FORE_PAGE_VERSION) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNSUPPORTED,
                    "%s: profile page of version %u, this program reads version %u: use the plugin "
                    "and the agent of one release",
                    page->path, version, FORE_PAGE_VERSION);
        return false;
    }
    return true;
}

ForePage *fore_page_open(const char *path, const char *expected_uuid, GError **error)
{
    g_autofree ForePageSnapshot *first = g_new(ForePageSnapshot, 1);
    struct stat st;
    int fd = open_page_file(path, &st, error);

    if (fd < 0) {
        return NULL;
    }
    g_autoptr(ForePage) page = g_new0(ForePage, 1);
    page->fd = fd;
    page->path = g_strdup(path);
    page->expected_uuid = g_strdup(expected_uuid);
    page->dev = st.st_dev;
    page->ino = st.st_ino;
    page->before = g_new0(PageCopy, 1);
    page->data = g_new0(PageCopy, 1);
    page->after = g_new0(PageCopy, 1);
    page->whole = g_new0(PageCopy, 1);
    if (!check_version(page, error) || !read_snapshot(page, first, error)) {
        return NULL;
    }
    memcpy(page->boot_id, first->boot_id, FORE_PAGE_BOOT_ID);
    return g_steal_pointer(&page);
}

void fore_page_free(ForePage *page)
{
    if (page == NULL) {
        return;
    }
    close(page->fd);
    g_free(page->path);
    g_free(page->expected_uuid);
    g_free(page->before);
    g_free(page->data);
    g_free(page->after);
    g_free(page->whole);
    g_free(page);
}

bool fore_page_read(ForePage *page, ForePageSnapshot *ret, GError **error)
{
    g_autofree ForePageSnapshot *snap = g_new(ForePageSnapshot, 1);

    if (!read_snapshot(page, snap, error)) {
        return false;
    }
    if (memcmp(snap->boot_id, page->boot_id, FORE_PAGE_BOOT_ID) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "%s: changed its boot id in place, the plugin never does: distrust the VM",
                    page->path);
        return false;
    }
    *ret = *snap;
    return true;
}

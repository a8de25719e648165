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
 * block must come from different calls.  A round is three copies of the used part of the file, with
 * fences between: the first gives the sequence numbers, the second the data, the third the numbers
 * again.  Equal and even: the second copy of that block is one publication whole.  Each round keeps
 * the blocks that became consistent; rounds are bounded, so a writer that never finishes (killed in
 * mid-write, or hostile) costs a fixed time and then FORE_ERROR_UNAVAILABLE.
 *
 * Opening uses O_NOFOLLOW against links and O_NONBLOCK against FIFOs and file leases, both of which
 * would let the owner of the file block the daemon in open().
 */

#define MAX_ROUNDS       16
#define MAX_EVENTS_PER_S 1e12                 /* no host translates or runs more */
#define MAX_INTERVAL_NS  (60 * FORE_NS_PER_S) /* the plugin takes at most 10 s */
/* Between the copy of a block and the reading of our clock the daemon may lose the CPU for a while;
 * within this, idle time is cut to what can be, past it the page is distrusted. */
#define IDLE_SLACK_NS (250 * 1000 * 1000)

G_STATIC_ASSERT(sizeof(ForePageHeader) == FORE_PAGE_HEADER);
G_STATIC_ASSERT(offsetof(ForePageHeader, version) == 8);
G_STATIC_ASSERT(offsetof(ForePageHeader, header_bytes) == 12);
G_STATIC_ASSERT(offsetof(ForePageHeader, page_bytes) == 16);
G_STATIC_ASSERT(offsetof(ForePageHeader, block_bytes) == 20);
G_STATIC_ASSERT(offsetof(ForePageHeader, max_blocks) == 24);
G_STATIC_ASSERT(offsetof(ForePageHeader, mode) == 28);
G_STATIC_ASSERT(offsetof(ForePageHeader, valid) == 32);
G_STATIC_ASSERT(offsetof(ForePageHeader, uuid) == 40);
G_STATIC_ASSERT(offsetof(ForePageHeader, boot_id) == 80);
G_STATIC_ASSERT(offsetof(ForePageHeader, start_ns) == 96);
G_STATIC_ASSERT(offsetof(ForePageHeader, interval_ns) == 104);
G_STATIC_ASSERT(offsetof(ForePageHeader, target) == 112);
G_STATIC_ASSERT(offsetof(ForePageHeader, max_vcpus) == 128);
G_STATIC_ASSERT(offsetof(ForePageHeader, pid) == 132);
G_STATIC_ASSERT(offsetof(ForePageHeader, heartbeat_ns) == 192);
G_STATIC_ASSERT(offsetof(ForePageHeader, writer) == 200);
G_STATIC_ASSERT(sizeof(ForePageBlock) == FORE_PAGE_BLOCK);
G_STATIC_ASSERT(offsetof(ForePageBlock, state) == 4);
G_STATIC_ASSERT(offsetof(ForePageBlock, plugged_ns) == 8);
G_STATIC_ASSERT(offsetof(ForePageBlock, updated_ns) == 16);
G_STATIC_ASSERT(offsetof(ForePageBlock, idle_since_ns) == 24);
G_STATIC_ASSERT(offsetof(ForePageBlock, idle_ns) == 32);
G_STATIC_ASSERT(offsetof(ForePageBlock, insns) == 40);
G_STATIC_ASSERT(offsetof(ForePageBlock, blocks) == 48);
G_STATIC_ASSERT(offsetof(ForePageBlock, loads) == 56);
G_STATIC_ASSERT(offsetof(ForePageBlock, stores) == 64);
G_STATIC_ASSERT(offsetof(ForePageBlock, syscalls) == 72);
G_STATIC_ASSERT(offsetof(ForePageBlock, resumes) == 80);
G_STATIC_ASSERT(FORE_PAGE_HEADER + FORE_PAGE_MAX_VCPUS * FORE_PAGE_BLOCK <= FORE_PAGE_BYTES);

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

/* --- decoding --- */

/* A NUL-padded field of printable ASCII; @ret has room for @size + 1. */
static bool take_text(ForeCursor *cur, size_t size, char *ret)
{
    const uint8_t *bytes = fore_cursor_take(cur, size);

    if (bytes == NULL) {
        return false;
    }
    size_t len = strnlen((const char *)bytes, size);
    for (size_t i = 0; i < size; i++) {
        bool fine = i < len ? g_ascii_isprint((char)bytes[i]) : bytes[i] == 0;
        if (!fine) {
            return false;
        }
    }
    memcpy(ret, bytes, len);
    ret[len] = '\0';
    return true;
}

/* Magic, version and the sizes: the first 28 bytes. */
static bool parse_layout(ForeCursor *cur, GError **error)
{
    const uint8_t *magic = fore_cursor_take(cur, 8);

    if (magic == NULL || memcmp(magic, FORE_PAGE_MAGIC, 8) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "not a profile page: it does not begin with \"" FORE_PAGE_MAGIC "\"");
        return false;
    }
    uint32_t version = fore_cursor_le32(cur);
    if (version != FORE_PAGE_VERSION) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNSUPPORTED,
                    "profile page of version %u, this program reads version %u: use the plugin and "
                    "the agent of one release",
                    version, FORE_PAGE_VERSION);
        return false;
    }
    uint32_t header_bytes = fore_cursor_le32(cur);
    uint32_t page_bytes = fore_cursor_le32(cur);
    uint32_t block_bytes = fore_cursor_le32(cur);
    uint32_t max_blocks = fore_cursor_le32(cur);
    if (header_bytes != FORE_PAGE_HEADER || page_bytes != FORE_PAGE_BYTES ||
        block_bytes != FORE_PAGE_BLOCK || max_blocks != FORE_PAGE_MAX_VCPUS) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "profile page claims header %u, size %u, block %u, blocks %u; version %u has "
                    "%u, %u, %u, %u",
                    header_bytes, page_bytes, block_bytes, max_blocks, FORE_PAGE_VERSION,
                    FORE_PAGE_HEADER, FORE_PAGE_BYTES, FORE_PAGE_BLOCK, FORE_PAGE_MAX_VCPUS);
        return false;
    }
    return true;
}

static bool parse_header(ForeCursor *cur, uint64_t now_ns, ForePageSnapshot *snap, GError **error)
{
    char uuid[41] = "", target[17] = "";

    if (!parse_layout(cur, error)) {
        return false;
    }
    uint32_t mode = fore_cursor_le32(cur);
    snap->valid = fore_cursor_le64(cur);
    bool text_ok = take_text(cur, 40, uuid);
    const uint8_t *boot_id = fore_cursor_take(cur, FORE_PAGE_BOOT_ID);
    uint64_t start_ns = fore_cursor_le64(cur);
    snap->interval_ns = fore_cursor_le64(cur);
    text_ok = take_text(cur, 16, target) && text_ok;
    snap->n_vcpus = fore_cursor_le32(cur);
    snap->pid = fore_cursor_le32(cur);
    fore_cursor_take(cur, 56);
    snap->heartbeat_ns = fore_cursor_le64(cur);
    uint32_t writer = fore_cursor_le32(cur);
    fore_cursor_take(cur, 52);

    text_ok = text_ok && (uuid[0] == '\0' || fore_uuid_is_valid(uuid)) &&
              strlen(target) <= FORE_PAGE_TARGET_MAX;
    if (!fore_cursor_ok(cur) || !text_ok || mode >= FORE_PAGE_MODE_N ||
        writer >= FORE_PAGE_WRITER_N || (snap->valid & ~(uint64_t)FORE_PAGE_HAS_ALL) != 0 ||
        snap->n_vcpus < 1 || snap->n_vcpus > FORE_PAGE_MAX_VCPUS || snap->interval_ns == 0 ||
        snap->interval_ns > MAX_INTERVAL_NS || start_ns > now_ns || snap->heartbeat_ns > now_ns) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "profile page has a value out of range in its header (mode %u, writer %u, "
                    "vCPUs %u): restart the VM, and distrust it",
                    mode, writer, snap->n_vcpus);
        return false;
    }
    snap->mode = (ForePageMode)mode;
    snap->writer = (ForePageWriter)writer;
    memcpy(snap->boot_id, boot_id, FORE_PAGE_BOOT_ID);
    g_strlcpy(snap->uuid, uuid, sizeof(snap->uuid));
    g_strlcpy(snap->target, target, sizeof(snap->target));
    return true;
}

static bool parse_block(ForeCursor *cur, unsigned index, uint64_t now_ns, ForePageVcpu *vcpu,
                        GError **error)
{
    uint32_t seq = fore_cursor_le32(cur);

    vcpu->state = fore_cursor_le32(cur);
    vcpu->plugged_ns = fore_cursor_le64(cur);
    vcpu->updated_ns = fore_cursor_le64(cur);
    vcpu->idle_since_ns = fore_cursor_le64(cur);
    vcpu->idle_ns = fore_cursor_le64(cur);
    vcpu->insns = fore_cursor_le64(cur);
    vcpu->blocks = fore_cursor_le64(cur);
    vcpu->loads = fore_cursor_le64(cur);
    vcpu->stores = fore_cursor_le64(cur);
    vcpu->syscalls = fore_cursor_le64(cur);
    vcpu->resumes = fore_cursor_le64(cur);
    fore_cursor_take(cur, 40);
    if ((seq & 1) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "block of vCPU %u is being written: read again", index);
        return false;
    }
    if (!fore_cursor_ok(cur) || vcpu->state >= FORE_PAGE_VCPU_N || vcpu->plugged_ns > now_ns ||
        vcpu->updated_ns > now_ns || vcpu->idle_since_ns > now_ns || vcpu->idle_ns > now_ns ||
        (vcpu->state == FORE_PAGE_VCPU_IDLE) != (vcpu->idle_since_ns != 0)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "block of vCPU %u has a value out of range (state %u): distrust the VM", index,
                    vcpu->state);
        return false;
    }
    return true;
}

bool fore_page_parse(const void *data, size_t size, const char *expected_uuid, uint64_t now_ns,
                     ForePageSnapshot *ret, GError **error)
{
    g_autofree ForePageSnapshot *snap = g_new0(ForePageSnapshot, 1);
    ForeCursor cur;

    if (size != FORE_PAGE_BYTES) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "profile page has %zu bytes, version %u has %u", size, FORE_PAGE_VERSION,
                    FORE_PAGE_BYTES);
        return false;
    }
    fore_cursor_init(&cur, data, size);
    snap->mono_ns = now_ns;
    if (!parse_header(&cur, now_ns, snap, error)) {
        return false;
    }
    if (expected_uuid != NULL && strcmp(snap->uuid, expected_uuid) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "profile page belongs to VM %s, expected %s: give each VM its own page= and "
                    "its own uuid= on the -plugin line",
                    snap->uuid[0] == '\0' ? "(no uuid=)" : snap->uuid, expected_uuid);
        return false;
    }
    for (unsigned i = 0; i < snap->n_vcpus; i++) {
        if (!parse_block(&cur, i, now_ns, &snap->vcpu[i], error)) {
            return false;
        }
    }
    *ret = *snap;
    return true;
}

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

static uint32_t block_seq(const PageCopy *copy, unsigned index)
{
    ForeCursor cur;

    fore_cursor_init(&cur, copy->bytes + FORE_PAGE_HEADER + index * FORE_PAGE_BLOCK, 4);
    return fore_cursor_le32(&cur);
}

static unsigned header_vcpus(const PageCopy *copy)
{
    ForeCursor cur;

    fore_cursor_init(&cur, copy->bytes + offsetof(ForePageHeader, max_vcpus), 4);
    uint32_t n = fore_cursor_le32(&cur);
    return MIN(n, FORE_PAGE_MAX_VCPUS);
}

/* One round: takes over into page->whole what is consistent and @have does not hold yet. */
static bool read_round(ForePage *page, unsigned n, bool *have, unsigned *missing, GError **error)
{
    size_t size = FORE_PAGE_HEADER + (size_t)n * FORE_PAGE_BLOCK;

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
        uint32_t seq = block_seq(page->before, i);
        uint32_t seq_after = block_seq(page->after, i);
        size_t at = FORE_PAGE_HEADER + (size_t)i * FORE_PAGE_BLOCK;

        if (!have[i] && (seq & 1) == 0 && seq == seq_after) {
            memcpy(page->whole->bytes + at, page->data->bytes + at, FORE_PAGE_BLOCK);
            have[i] = true;
        }
        if (!have[i]) {
            *missing = i;
        }
    }
    return true;
}

static bool read_consistent(ForePage *page, GError **error)
{
    bool have[FORE_PAGE_MAX_VCPUS] = {false};
    unsigned missing = 0;

    memset(page->whole->bytes, 0, FORE_PAGE_BYTES);
    if (!copy_file(page, page->whole, FORE_PAGE_HEADER, error)) {
        return false;
    }
    unsigned n = header_vcpus(page->whole);
    for (unsigned round = 0; round < MAX_ROUNDS; round++) {
        if (!read_round(page, n, have, &missing, error)) {
            return false;
        }
        if (missing == n) {
            return true;
        }
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                "%s: vCPU %u stayed in mid-write through %u tries: try again; if it lasts, QEMU "
                "was killed while it wrote",
                page->path, missing, MAX_ROUNDS);
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
    if (!read_snapshot(page, first, error)) {
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

/* --- rates --- */

static bool vcpu_is_reset(const ForePageVcpu *prev, const ForePageVcpu *cur)
{
    return cur->insns < prev->insns || cur->blocks < prev->blocks || cur->loads < prev->loads ||
           cur->stores < prev->stores || cur->syscalls < prev->syscalls ||
           cur->idle_ns < prev->idle_ns || cur->resumes < prev->resumes ||
           cur->updated_ns < prev->updated_ns;
}

bool fore_page_is_reset(const ForePageSnapshot *prev, const ForePageSnapshot *cur)
{
    if (memcmp(prev->boot_id, cur->boot_id, FORE_PAGE_BOOT_ID) != 0 ||
        prev->n_vcpus != cur->n_vcpus) {
        return true;
    }
    for (unsigned i = 0; i < cur->n_vcpus; i++) {
        if (vcpu_is_reset(&prev->vcpu[i], &cur->vcpu[i])) {
            return true;
        }
    }
    return false;
}

static bool is_plugged(const ForePageVcpu *v)
{
    return v->state == FORE_PAGE_VCPU_RUNNING || v->state == FORE_PAGE_VCPU_IDLE;
}

/* The moment up to which a vCPU's counters are complete. */
static uint64_t counted_until(const ForePageVcpu *v, uint64_t mono_ns)
{
    return v->state == FORE_PAGE_VCPU_RUNNING ? v->updated_ns : mono_ns;
}

/* A busy vCPU publishes only now and then, so its counters span from its own publication to its own
 * publication, not from reading to reading.  Half to one and a half of the reading interval is
 * believed; past that (a VM that was stopped for a while) the reading interval itself is used. */
static double counted_seconds(const ForePageVcpu *prev, uint64_t prev_ns, const ForePageVcpu *cur,
                              uint64_t cur_ns)
{
    double read_s = (double)(cur_ns - prev_ns) / (double)FORE_NS_PER_S;
    double own_s = ((double)counted_until(cur, cur_ns) - (double)counted_until(prev, prev_ns)) /
                   (double)FORE_NS_PER_S;

    return own_s >= 0.5 * read_s && own_s <= 1.5 * read_s ? own_s : read_s;
}

static uint64_t idle_total_ns(const ForePageVcpu *v, uint64_t mono_ns)
{
    return v->idle_ns + (v->state == FORE_PAGE_VCPU_IDLE ? mono_ns - v->idle_since_ns : 0);
}

/* Adds one vCPU's idle and plugged time; false when it claims more idle time than passed. */
static bool add_idle(const ForePageSnapshot *prev, const ForePageSnapshot *cur, unsigned i,
                     double *idle_ns, double *plugged_ns)
{
    const ForePageVcpu *v = &cur->vcpu[i];

    if (!is_plugged(v)) {
        return true;
    }
    uint64_t from = MAX(prev->mono_ns, MIN(v->plugged_ns, cur->mono_ns));
    double span = (double)(cur->mono_ns - from);
    double idle = (double)idle_total_ns(v, cur->mono_ns) -
                  (double)idle_total_ns(&prev->vcpu[i], MIN(prev->mono_ns, cur->mono_ns));

    if (idle > 1.01 * span + IDLE_SLACK_NS || idle < -IDLE_SLACK_NS) {
        return false;
    }
    *idle_ns += CLAMP(idle, 0, span);
    *plugged_ns += span;
    return true;
}

static bool set_rate(ForeSample *sample, ForeField field, uint64_t valid, uint64_t bit, double rate,
                     GError **error)
{
    if ((valid & bit) == 0) {
        return true;
    }
    if (!(rate >= 0 && rate <= MAX_EVENTS_PER_S)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "profile page claims %g %s per second, over %g is impossible: distrust the VM",
                    rate, fore_field_names[field], MAX_EVENTS_PER_S);
        return false;
    }
    sample->value[field] = rate;
    sample->valid |= 1u << field;
    return true;
}

static bool set_idle(const ForePageSnapshot *prev, const ForePageSnapshot *cur, uint64_t valid,
                     ForeSample *sample, GError **error)
{
    double idle_ns = 0, plugged_ns = 0;

    if ((valid & FORE_PAGE_HAS_IDLE) == 0) {
        return true;
    }
    for (unsigned i = 0; i < cur->n_vcpus; i++) {
        if (!add_idle(prev, cur, i, &idle_ns, &plugged_ns)) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                        "profile page claims more idle time for vCPU %u than passed: distrust the "
                        "VM",
                        i);
            return false;
        }
    }
    if (plugged_ns > 0) {
        sample->value[FORE_FIELD_IDLE] = idle_ns / plugged_ns;
        sample->valid |= 1u << FORE_FIELD_IDLE;
    }
    return true;
}

static bool set_all(const ForePageSnapshot *prev, const ForePageSnapshot *cur, ForeSample *sample,
                    GError **error)
{
    double insns = 0, loads = 0, stores = 0, syscalls = 0;
    uint64_t valid = prev->valid & cur->valid;

    for (unsigned i = 0; i < cur->n_vcpus; i++) {
        const ForePageVcpu *p = &prev->vcpu[i], *c = &cur->vcpu[i];
        double s = counted_seconds(p, prev->mono_ns, c, cur->mono_ns);

        insns += (double)(c->insns - p->insns) / s;
        loads += (double)(c->loads - p->loads) / s;
        stores += (double)(c->stores - p->stores) / s;
        syscalls += (double)(c->syscalls - p->syscalls) / s;
    }
    return set_rate(sample, FORE_FIELD_INSNS, valid, FORE_PAGE_HAS_INSNS, insns, error) &&
           set_rate(sample, FORE_FIELD_LOADS, valid, FORE_PAGE_HAS_LOADS, loads, error) &&
           set_rate(sample, FORE_FIELD_STORES, valid, FORE_PAGE_HAS_STORES, stores, error) &&
           set_rate(sample, FORE_FIELD_SYSCALLS, valid, FORE_PAGE_HAS_SYSCALLS, syscalls, error) &&
           set_idle(prev, cur, valid, sample, error);
}

bool fore_page_delta(const ForePageSnapshot *prev, const ForePageSnapshot *cur, ForeSample *sample,
                     GError **error)
{
    const uint32_t fields = 1u << FORE_FIELD_INSNS | 1u << FORE_FIELD_LOADS |
                            1u << FORE_FIELD_STORES | 1u << FORE_FIELD_SYSCALLS |
                            1u << FORE_FIELD_IDLE;

    sample->valid &= ~fields;
    if (cur->mono_ns <= prev->mono_ns) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "no time passed between two readings of the profile page: read later");
        return false;
    }
    if (fore_page_is_reset(prev, cur)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "counters on the profile page were reset (QEMU started anew?): rates resume "
                    "with the next reading");
        return false;
    }
    if (!set_all(prev, cur, sample, error)) {
        sample->valid &= ~fields;
        return false;
    }
    return true;
}

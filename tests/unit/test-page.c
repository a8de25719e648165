/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <locale.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "common/fore-page-rates.h"

#define UUID  "6d1c7b1e-98c4-4c09-9d6f-2f6a3a2b0c11"
#define OTHER "00000000-98c4-4c09-9d6f-2f6a3a2b0c11"
#define NOW   (1000 * FORE_NS_PER_S) /* of the pure tests */

/* A page as the plugin makes it, in memory. */
typedef union {
    uint8_t bytes[FORE_PAGE_BYTES];
    ForePageHeader header;
} TestPage;

static ForePageVcpu *block(TestPage *page, unsigned i)
{
    return (ForePageVcpu *)(void *)(page->bytes + FORE_PAGE_BLOCKS) + i;
}

static ForePageVm *section(TestPage *page)
{
    return (ForePageVm *)(void *)(page->bytes + FORE_PAGE_HEADER);
}

static void fill(TestPage *page)
{
    memset(page, 0, sizeof(*page));
    memcpy(page->header.magic, FORE_PAGE_MAGIC, 8);
    page->header.version = FORE_PAGE_VERSION;
    page->header.header_bytes = FORE_PAGE_HEADER;
    page->header.page_bytes = FORE_PAGE_BYTES;
    page->header.vm_bytes = FORE_PAGE_VM;
    page->header.block_bytes = FORE_PAGE_BLOCK;
    page->header.max_blocks = FORE_PAGE_MAX_VCPUS;
    page->header.mode = FORE_PAGE_MODE_TCG;
    page->header.level = FORE_PAGE_LEVEL_FULL;
    page->header.valid = FORE_PAGE_HAS_ALL;
    memcpy(page->header.uuid, UUID, FORE_UUID_LEN);
    memset(page->header.boot_id, 7, FORE_PAGE_BOOT_ID);
    page->header.start_ns = 1;
    page->header.interval_ns = 100 * 1000 * 1000;
    memcpy(page->header.target, "x86_64", 6);
    page->header.max_vcpus = 4;
    page->header.pid = 1234;
    page->header.heartbeat_ns = 1;
}

static const ForePageVcpu example = {
    .state = FORE_PAGE_VCPU_RUNNING,
    .plugged_ns = 10,
    .updated_ns = 20,
    .idle_ns = 5,
    .insns = 1000,
    .blocks = 100,
    .loads = 300,
    .stores = 200,
    .syscalls = 7,
    .resumes = 3,
    .branch = {50, 20, 10, 10, 10},
    .mix = {900, 0, 100, 0, 0, 0},
    .exit = {[FORE_PAGE_EXIT_FAULT] = 4},
    .signature = {[0] = 600, [63] = 400},
};

static const ForePageVm example_vm = {
    .n_spaces = 2,
    .updated_ns = 20,
    .window_ns = 15,
    .ws_pages = 5000,
    .ws_error_pages = 100,
    .ws_samples = 800,
    .ws_seen_pages = 700,
    .space_ns = 10,
    .spaces = {{0x1000, 7}, {0x2000, 3}},
    .resident_bytes = 1 << 20,
    .syscall_number = {[1] = 6, [FORE_PAGE_SYSCALLS - 1] = 1},
};

/* --- parsing --- */

static void test_parse_gives_back(void)
{
    g_autofree TestPage *page = g_new(TestPage, 1);
    g_autofree ForePageSnapshot *snap = g_new(ForePageSnapshot, 1);
    g_autoptr(GError) error = NULL;

    fill(page);
    fore_page_publish(block(page, 2), &example);
    fore_page_publish_vm(section(page), &example_vm);
    g_assert_cmpuint(block(page, 2)->seq, ==, 2);
    g_assert_true(fore_page_parse(page, sizeof(*page), UUID, NOW, snap, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(snap->uuid, ==, UUID);
    g_assert_cmpstr(snap->target, ==, "x86_64");
    g_assert_cmpuint(snap->n_vcpus, ==, 4);
    g_assert_cmpuint(snap->pid, ==, 1234);
    g_assert_cmpuint(snap->mono_ns, ==, NOW);
    g_assert_cmpuint(snap->vcpu[1].state, ==, FORE_PAGE_VCPU_NONE);
    g_assert_cmpmem(&snap->vcpu[2], sizeof(example), &example, sizeof(example));
    g_assert_cmpmem(&snap->vm, sizeof(example_vm), &example_vm, sizeof(example_vm));
    g_assert_cmpuint(snap->level, ==, FORE_PAGE_LEVEL_FULL);
}

static void refuse(TestPage *page, size_t size, const char *uuid, ForeErrorCode code)
{
    g_autofree ForePageSnapshot *snap = g_new(ForePageSnapshot, 1);
    g_autoptr(GError) error = NULL;

    g_assert_false(fore_page_parse(page, size, uuid, NOW, snap, &error));
    g_assert_error(error, FORE_ERROR, (int)code);
    g_test_message("%s", error->message);
}

#define REFUSES(change, code)                                                                      \
    do {                                                                                           \
        fill(page);                                                                                \
        fore_page_publish(block(page, 0), &example);                                               \
        fore_page_publish_vm(section(page), &example_vm);                                          \
        change;                                                                                    \
        refuse(page, sizeof(*page), UUID, code);                                                   \
    } while (0)

static void test_parse_header_refused(void)
{
    g_autofree TestPage *page = g_new(TestPage, 1);
    ForePageHeader *h = &page->header;

    REFUSES(h->magic[7] = 'X', FORE_ERROR_INVALID);
    REFUSES(h->version = 1, FORE_ERROR_UNSUPPORTED);
    REFUSES(h->version = 0, FORE_ERROR_UNSUPPORTED);
    REFUSES(h->header_bytes = 256, FORE_ERROR_INVALID);
    REFUSES(h->page_bytes--, FORE_ERROR_INVALID);
    REFUSES(h->vm_bytes++, FORE_ERROR_INVALID);
    REFUSES(h->block_bytes = 0, FORE_ERROR_INVALID);
    REFUSES(h->max_blocks = 256, FORE_ERROR_INVALID);
    REFUSES(h->mode = FORE_PAGE_MODE_N, FORE_ERROR_INVALID);
    REFUSES(h->level = FORE_PAGE_LEVEL_N, FORE_ERROR_INVALID);
    REFUSES(h->valid |= 1u << 20, FORE_ERROR_INVALID);
    REFUSES(h->uuid[0] = 'z', FORE_ERROR_INVALID);
    REFUSES(h->uuid[39] = 'a', FORE_ERROR_INVALID);
    REFUSES(h->uuid[0] = '1', FORE_ERROR_UNTRUSTED);
    REFUSES(memset(h->uuid, 0, 40), FORE_ERROR_UNTRUSTED);
    REFUSES(memcpy(h->uuid, OTHER, 36), FORE_ERROR_UNTRUSTED);
    REFUSES(h->start_ns = NOW + 1, FORE_ERROR_INVALID);
    REFUSES(h->interval_ns = 0, FORE_ERROR_INVALID);
    REFUSES(h->interval_ns = UINT64_MAX, FORE_ERROR_INVALID);
    REFUSES(h->target[0] = '\n', FORE_ERROR_INVALID);
    REFUSES(memset(h->target, 'x', 16), FORE_ERROR_INVALID);
    REFUSES(h->max_vcpus = 0, FORE_ERROR_INVALID);
    REFUSES(h->max_vcpus = 256, FORE_ERROR_INVALID);
    REFUSES(h->max_vcpus = UINT32_MAX, FORE_ERROR_INVALID);
    REFUSES(h->heartbeat_ns = NOW + 1, FORE_ERROR_INVALID);
    REFUSES(h->writer = FORE_PAGE_WRITER_N, FORE_ERROR_INVALID);

    fill(page);
    refuse(page, 0, UUID, FORE_ERROR_INVALID);
    refuse(page, FORE_PAGE_HEADER, UUID, FORE_ERROR_INVALID);
    refuse(page, sizeof(*page) - 1, UUID, FORE_ERROR_INVALID);
}

static void test_parse_block_refused(void)
{
    g_autofree TestPage *page = g_new(TestPage, 1);
    ForePageVcpu *b = block(page, 0);

    REFUSES(b->seq++, FORE_ERROR_UNAVAILABLE);
    REFUSES(b->state = FORE_PAGE_VCPU_N, FORE_ERROR_INVALID);
    REFUSES(b->state = FORE_PAGE_VCPU_IDLE, FORE_ERROR_INVALID); /* since when? */
    REFUSES(b->idle_since_ns = 5, FORE_ERROR_INVALID);           /* but it runs */
    REFUSES(b->plugged_ns = NOW + 1, FORE_ERROR_INVALID);
    REFUSES(b->updated_ns = NOW + 1, FORE_ERROR_INVALID);
    REFUSES(b->idle_ns = NOW + 1, FORE_ERROR_INVALID);
    REFUSES((b->state = FORE_PAGE_VCPU_IDLE, b->idle_since_ns = b->updated_ns + 1),
            FORE_ERROR_INVALID);
}

static void test_parse_section_refused(void)
{
    g_autofree TestPage *page = g_new(TestPage, 1);
    ForePageVm *vm = section(page);

    REFUSES(vm->seq++, FORE_ERROR_UNAVAILABLE);
    REFUSES(vm->n_spaces = FORE_PAGE_SPACES + 1, FORE_ERROR_INVALID);
    REFUSES(vm->n_spaces = 1, FORE_ERROR_INVALID); /* and time in a second */
    REFUSES(vm->spaces[0].ns = 11, FORE_ERROR_INVALID);
    REFUSES(vm->updated_ns = NOW + 1, FORE_ERROR_INVALID);
    REFUSES(vm->window_ns = UINT64_MAX, FORE_ERROR_INVALID);
    REFUSES(vm->ws_seen_pages = 801, FORE_ERROR_INVALID);
}

/* --- the file --- */

typedef struct {
    char *dir, *path;
    TestPage *map; /* as the plugin has it */
} File;

static void make_page_file(File *f)
{
    g_autofree char *temporary = g_strdup_printf("%s.new", f->path);
    int fd = open(temporary, O_RDWR | O_CREAT | O_EXCL, 0640);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, FORE_PAGE_BYTES), ==, 0);
    f->map = mmap(NULL, FORE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    g_assert_true((void *)f->map != MAP_FAILED);
    close(fd);
    fill(f->map);
    g_assert_cmpint(g_rename(temporary, f->path), ==, 0);
}

static void set_up(File *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->dir = g_dir_make_tmp("fore-page-XXXXXX", &error);
    g_assert_no_error(error);
    f->path = g_build_filename(f->dir, "page", NULL);
    make_page_file(f);
}

static void tear_down(File *f, gconstpointer data)
{
    munmap(f->map, FORE_PAGE_BYTES);
    g_remove(f->path);
    g_rmdir(f->dir);
    g_free(f->path);
    g_free(f->dir);
}

static void open_refuses(const char *path, const char *uuid, ForeErrorCode code)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(fore_page_open(path, uuid, &error));
    g_assert_error(error, FORE_ERROR, (int)code);
    g_assert_nonnull(strstr(error->message, path));
}

static void read_refuses(ForePage *page, ForeErrorCode code)
{
    g_autofree ForePageSnapshot *snap = g_new(ForePageSnapshot, 1);
    g_autoptr(GError) error = NULL;

    g_assert_false(fore_page_read(page, snap, &error));
    g_assert_error(error, FORE_ERROR, (int)code);
    g_test_message("%s", error->message);
}

static void test_open_refused(File *f, gconstpointer data)
{
    g_autofree char *missing = g_build_filename(f->dir, "missing", NULL);
    g_autofree char *other = g_build_filename(f->dir, "other", NULL);

    open_refuses(missing, NULL, FORE_ERROR_NOT_FOUND);
    open_refuses(f->dir, NULL, FORE_ERROR_INVALID);
    open_refuses(f->path, OTHER, FORE_ERROR_UNTRUSTED);
    g_assert_cmpint(symlink(f->path, other), ==, 0);
    open_refuses(other, NULL, FORE_ERROR_INVALID);
    g_remove(other);
    g_assert_cmpint(mkfifo(other, 0600), ==, 0);
    open_refuses(other, NULL, FORE_ERROR_INVALID);
    g_remove(other);
    g_assert_true(g_file_set_contents(other, "FOREPAGE", 8, NULL));
    open_refuses(other, NULL, FORE_ERROR_INVALID);
    g_assert_true(g_file_set_contents(other, "NOTAPAGE, BUT LONG ENOUGH", -1, NULL));
    open_refuses(other, NULL, FORE_ERROR_INVALID);
    g_assert_true(g_file_set_contents(other, "FOREPAGE\1\0\0\0and shorter", 23, NULL));
    open_refuses(other, NULL, FORE_ERROR_UNSUPPORTED);
    g_assert_true(g_file_set_contents(other, "FOREPAGE\2\0\0\0and shorter", 23, NULL));
    open_refuses(other, NULL, FORE_ERROR_INVALID);
    g_remove(other);
    f->map->header.version = 9;
    open_refuses(f->path, NULL, FORE_ERROR_UNSUPPORTED);
}

static void test_shrunk(File *f, gconstpointer data)
{
    g_autoptr(ForePage) page = fore_page_open(f->path, UUID, NULL);

    g_assert_nonnull(page);
    g_assert_cmpint(truncate(f->path, FORE_PAGE_HEADER), ==, 0);
    read_refuses(page, FORE_ERROR_INVALID);
    g_assert_cmpint(truncate(f->path, 0), ==, 0);
    read_refuses(page, FORE_ERROR_INVALID);
}

static void test_grown(File *f, gconstpointer data)
{
    g_autoptr(ForePage) page = fore_page_open(f->path, UUID, NULL);

    g_assert_nonnull(page);
    g_assert_cmpint(truncate(f->path, FORE_PAGE_BYTES + 1), ==, 0);
    read_refuses(page, FORE_ERROR_INVALID);
}

static void test_replaced(File *f, gconstpointer data)
{
    g_autoptr(ForePage) page = fore_page_open(f->path, UUID, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_nonnull(page);
    munmap(f->map, FORE_PAGE_BYTES);
    make_page_file(f);
    read_refuses(page, FORE_ERROR_CLOSED);
    g_autoptr(ForePage) again = fore_page_open(f->path, UUID, &error);
    g_assert_no_error(error);
    g_assert_nonnull(again);
    g_remove(f->path);
    read_refuses(again, FORE_ERROR_CLOSED);
}

static void test_boot_id_in_place(File *f, gconstpointer data)
{
    g_autoptr(ForePage) page = fore_page_open(f->path, UUID, NULL);

    g_assert_nonnull(page);
    f->map->header.boot_id[0]++;
    read_refuses(page, FORE_ERROR_INVALID);
}

static void test_killed_in_mid_write(File *f, gconstpointer data)
{
    g_autoptr(ForePage) page = fore_page_open(f->path, UUID, NULL);

    g_assert_nonnull(page);
    block(f->map, 3)->seq = 5;
    read_refuses(page, FORE_ERROR_UNAVAILABLE);
}

/* The writer's invariant below: all counters of one publication are equal. */
static gpointer write_all_the_time(gpointer data)
{
    File *f = data;
    ForePageVcpu v = {.state = FORE_PAGE_VCPU_RUNNING};

    while (f->map->header.pid != 0) {
        v.plugged_ns = v.idle_ns = v.insns = v.blocks = v.loads = v.stores = v.syscalls =
            v.resumes = v.signature[63] = v.updated_ns = v.updated_ns + 1;
        fore_page_publish(block(f->map, 0), &v);
        /* A pause as between two publications, else no reader could get through. */
        for (volatile int i = 0; i < 20000; i++) {
        }
    }
    return NULL;
}

static void test_never_torn(File *f, gconstpointer data)
{
    g_autofree ForePageSnapshot *snap = g_new0(ForePageSnapshot, 1);
    g_autoptr(ForePage) page = fore_page_open(f->path, UUID, NULL);
    GThread *writer = g_thread_new("writer", write_all_the_time, f);
    uint64_t seen = 0;

    for (int i = 0; i < 20000; i++) {
        g_autoptr(GError) error = NULL;
        if (!fore_page_read(page, snap, &error)) {
            g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
            continue;
        }
        const ForePageVcpu *v = &snap->vcpu[0];
        g_assert_cmpuint(v->updated_ns, >=, seen);
        seen = v->updated_ns;
        g_assert_true(v->insns == seen && v->blocks == seen && v->loads == seen &&
                      v->stores == seen && v->syscalls == seen && v->idle_ns == seen &&
                      v->resumes == seen && v->plugged_ns == seen && v->signature[63] == seen);
    }
    __atomic_store_n(&f->map->header.pid, 0, __ATOMIC_RELAXED);
    g_thread_join(writer);
    g_assert_cmpuint(seen, >, 0);
}

/* --- rates --- */

typedef struct {
    ForePageSnapshot prev, cur;
    ForeSample sample;
} Delta;

/* Ten seconds of each vCPU; vCPU 0 busy, vCPU 1 half idle and now asleep; published 0.1 s before
 * each reading. */
static void example_delta(Delta *d)
{
    const uint64_t lag_ns = FORE_NS_PER_S / 10;

    memset(d, 0, sizeof(*d));
    d->prev.mono_ns = 100 * FORE_NS_PER_S;
    d->prev.valid = FORE_PAGE_HAS_ALL;
    d->prev.n_vcpus = 3;
    d->prev.vcpu[0] = example;
    d->prev.vcpu[0].updated_ns = d->prev.mono_ns - lag_ns;
    d->prev.vcpu[1] = d->prev.vcpu[0];
    d->cur = d->prev;
    d->cur.mono_ns += 10 * FORE_NS_PER_S;
    for (unsigned i = 0; i < 2; i++) {
        d->cur.vcpu[i].updated_ns = d->cur.mono_ns - lag_ns;
    }
    d->cur.vcpu[0].insns += 10000000;
    d->cur.vcpu[0].loads += 3000;
    d->cur.vcpu[0].stores += 2000;
    d->cur.vcpu[0].syscalls += 50;
    d->cur.vcpu[0].mix[FORE_PAGE_MIX_STRING] += 700;
    d->cur.vcpu[0].branch[FORE_PAGE_BRANCH_RETURN] += 500;
    d->cur.vcpu[0].signature[3] += 750;
    d->cur.vcpu[0].run_ns += 9 * FORE_NS_PER_S;
    d->cur.vcpu[1].insns += 10;
    d->cur.vcpu[1].signature[5] += 250;
    d->cur.vcpu[1].state = FORE_PAGE_VCPU_IDLE;
    d->cur.vcpu[1].idle_since_ns = d->cur.vcpu[1].updated_ns - 2 * FORE_NS_PER_S;
    d->cur.vcpu[1].idle_ns += 3 * FORE_NS_PER_S;
    d->sample.valid = 1u << FORE_FIELD_CPU_BUSY;
    d->sample.value[FORE_FIELD_CPU_BUSY] = 0.5;
}

static void test_delta_rates(void)
{
    g_autofree Delta *d = g_new(Delta, 1);
    g_autoptr(GError) error = NULL;

    example_delta(d);
    g_assert_true(fore_page_delta(&d->prev, &d->cur, &d->sample, &error));
    g_assert_no_error(error);
    g_assert_cmpfloat_with_epsilon(d->sample.value[FORE_FIELD_INSNS], 1000001, 1e-6);
    g_assert_cmpfloat_with_epsilon(d->sample.value[FORE_FIELD_LOADS], 300, 1e-6);
    g_assert_cmpfloat_with_epsilon(d->sample.value[FORE_FIELD_STORES], 200, 1e-6);
    g_assert_cmpfloat_with_epsilon(d->sample.value[FORE_FIELD_SYSCALLS], 5, 1e-6);
    /* 5 s of 20 s of plugged time */
    g_assert_cmpfloat_with_epsilon(d->sample.value[FORE_FIELD_IDLE], 0.25, 1e-9);
    for (int i = FORE_FIELD_INSNS; i <= FORE_FIELD_IDLE; i++) {
        g_assert_true(FORE_HAS(&d->sample, i));
    }
    g_assert_true(FORE_HAS(&d->sample, FORE_FIELD_CPU_BUSY));
    g_assert_cmpfloat(d->sample.value[FORE_FIELD_CPU_BUSY], ==, 0.5);
}

static void test_rates_all_fields(void)
{
    g_autofree Delta *d = g_new(Delta, 1);
    g_autoptr(GError) error = NULL;
    ForePageRates r;

    example_delta(d);
    g_assert_true(fore_page_rates(&d->prev, &d->cur, &r, &error));
    g_assert_no_error(error);
    g_assert_cmpfloat_with_epsilon(r.mix[FORE_PAGE_MIX_STRING], 70, 1e-6);
    g_assert_cmpfloat_with_epsilon(r.branch[FORE_PAGE_BRANCH_RETURN], 50, 1e-6);
    g_assert_cmpfloat_with_epsilon(r.signature[3], 0.75, 1e-9);
    g_assert_cmpfloat_with_epsilon(r.signature[5], 0.25, 1e-9);
    g_assert_cmpfloat_with_epsilon(r.run, 0.45, 1e-9);
    g_assert_cmpfloat_with_epsilon(r.seconds, 20, 1e-9);

    g_assert_true(fore_page_vcpu_rates(&d->prev, &d->cur, 1, &r, &error));
    g_assert_cmpfloat_with_epsilon(r.insns, 1, 1e-9);
    g_assert_cmpfloat_with_epsilon(r.idle, 0.5, 1e-9);
    g_assert_cmpfloat(r.signature[3], ==, 0);
    g_assert_false(fore_page_vcpu_rates(&d->prev, &d->cur, 2, &r, &error)); /* never plugged */
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
}

static void test_delta_plugged_meanwhile(void)
{
    g_autofree Delta *d = g_new(Delta, 1);

    example_delta(d);
    /* For its last 2 s, all idle.  Then 7 s idle of 22 s. */
    d->cur.vcpu[2] = (ForePageVcpu){.state = FORE_PAGE_VCPU_IDLE};
    d->cur.vcpu[2].updated_ns = d->cur.vcpu[0].updated_ns;
    d->cur.vcpu[2].plugged_ns = d->cur.vcpu[2].updated_ns - 2 * FORE_NS_PER_S;
    d->cur.vcpu[2].idle_since_ns = d->cur.vcpu[2].plugged_ns;
    g_assert_true(fore_page_delta(&d->prev, &d->cur, &d->sample, NULL));
    g_assert_cmpfloat_with_epsilon(d->sample.value[FORE_FIELD_IDLE], 7.0 / 22.0, 1e-9);
}

/* A page that stands still (QEMU hangs, is stopped by a signal or was killed) is no idle guest. */
static void test_delta_nothing_new(void)
{
    g_autofree Delta *d = g_new(Delta, 1);
    g_autoptr(GError) error = NULL;

    example_delta(d);
    memcpy(d->cur.vcpu, d->prev.vcpu, sizeof(d->cur.vcpu));
    g_assert_false(fore_page_delta(&d->prev, &d->cur, &d->sample, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    g_assert_false(FORE_HAS(&d->sample, FORE_FIELD_IDLE));
}

static void test_delta_invalid_stays_out(void)
{
    g_autofree Delta *d = g_new(Delta, 1);

    example_delta(d);
    d->prev.valid = FORE_PAGE_HAS_INSNS; /* as at the start of QEMU */
    d->sample.valid = 1u << FORE_FIELD_IDLE;
    g_assert_true(fore_page_delta(&d->prev, &d->cur, &d->sample, NULL));
    g_assert_cmphex(d->sample.valid, ==, 1u << FORE_FIELD_INSNS);
}

static void delta_refuses(Delta *d, ForeErrorCode code)
{
    g_autoptr(GError) error = NULL;

    d->sample.valid = (1u << FORE_FIELD_N) - 1;
    g_assert_false(fore_page_delta(&d->prev, &d->cur, &d->sample, &error));
    g_assert_error(error, FORE_ERROR, (int)code);
    g_assert_false(FORE_HAS(&d->sample, FORE_FIELD_INSNS));
    g_assert_false(FORE_HAS(&d->sample, FORE_FIELD_IDLE));
    g_assert_true(FORE_HAS(&d->sample, FORE_FIELD_CPU_BUSY));
}

static void test_delta_reset(void)
{
    g_autofree Delta *d = g_new(Delta, 1);

    example_delta(d);
    g_assert_false(fore_page_is_reset(&d->prev, &d->cur));
    d->cur.boot_id[3] = 1;
    g_assert_true(fore_page_is_reset(&d->prev, &d->cur));
    delta_refuses(d, FORE_ERROR_UNAVAILABLE);

    example_delta(d);
    d->cur.vcpu[1].stores--;
    g_assert_true(fore_page_is_reset(&d->prev, &d->cur));
    delta_refuses(d, FORE_ERROR_UNAVAILABLE);

    example_delta(d);
    d->prev.vm.syscall_number[3] = 1;
    delta_refuses(d, FORE_ERROR_UNAVAILABLE);
}

static void test_delta_impossible(void)
{
    g_autofree Delta *d = g_new(Delta, 1);

    example_delta(d);
    d->cur.vcpu[0].insns = UINT64_MAX;
    delta_refuses(d, FORE_ERROR_UNTRUSTED);

    example_delta(d);
    d->cur.vcpu[0].syscalls += 20 * (uint64_t)1e12;
    delta_refuses(d, FORE_ERROR_UNTRUSTED);

    example_delta(d);
    d->cur.vcpu[0].idle_ns += 11 * FORE_NS_PER_S;
    delta_refuses(d, FORE_ERROR_UNTRUSTED);

    example_delta(d);
    d->cur.vcpu[0].run_ns += 2 * FORE_NS_PER_S;
    delta_refuses(d, FORE_ERROR_UNTRUSTED);

    example_delta(d);
    d->cur.vcpu[0].signature[9] = UINT64_MAX;
    delta_refuses(d, FORE_ERROR_UNTRUSTED);
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/common/page/published-block-is-given-back", test_parse_gives_back);
    g_test_add_func("/common/page/bad-header-is-refused", test_parse_header_refused);
    g_test_add_func("/common/page/bad-block-is-refused", test_parse_block_refused);
    g_test_add_func("/common/page/bad-section-is-refused", test_parse_section_refused);
#define ADD(path, func) g_test_add("/common/page/" path, File, NULL, set_up, func, tear_down)
    ADD("what-is-no-page-does-not-open", test_open_refused);
    ADD("shrunk-file-is-an-error-not-a-signal", test_shrunk);
    ADD("grown-file-is-refused", test_grown);
    ADD("replaced-file-is-noticed", test_replaced);
    ADD("boot-id-changed-in-place-is-refused", test_boot_id_in_place);
    ADD("writer-killed-in-mid-write-is-unavailable", test_killed_in_mid_write);
    ADD("copy-is-never-torn", test_never_torn);
    g_test_add_func("/common/page/rates-are-per-second-of-counting", test_delta_rates);
    g_test_add_func("/common/page/rates-of-every-field-and-vcpu", test_rates_all_fields);
    g_test_add_func("/common/page/page-that-stands-still-gives-no-rate", test_delta_nothing_new);
    g_test_add_func("/common/page/vcpu-plugged-meanwhile-counts-from-then",
                    test_delta_plugged_meanwhile);
    g_test_add_func("/common/page/unmeasured-field-stays-out", test_delta_invalid_stays_out);
    g_test_add_func("/common/page/reset-gives-no-rate", test_delta_reset);
    g_test_add_func("/common/page/impossible-rate-is-distrusted", test_delta_impossible);
    return g_test_run();
}

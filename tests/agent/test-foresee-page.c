/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee page, as a program, on a page that a thread of the test writes as a profiler would: its
 * counters are functions of the clock, so rates are known whenever they are read. */
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <pty.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fore-json.h"
#include "common/fore-page.h"

#define UUID "6d1c7b1e-98c4-4c09-9d6f-2f6a3a2b0c11"

typedef struct {
    char *dir, *path;
    void *map;
    GThread *writer;
    int stop;
} Page;

static uint64_t now_ns(void)
{
    return (uint64_t)g_get_monotonic_time() * 1000;
}

/* --- the writer --- */

static void fill_header(ForePageHeader *h)
{
    memcpy(h->magic, FORE_PAGE_MAGIC, 8);
    h->version = FORE_PAGE_VERSION;
    h->header_bytes = FORE_PAGE_HEADER;
    h->page_bytes = FORE_PAGE_BYTES;
    h->vm_bytes = FORE_PAGE_VM;
    h->block_bytes = FORE_PAGE_BLOCK;
    h->max_blocks = FORE_PAGE_MAX_VCPUS;
    h->mode = FORE_PAGE_MODE_TCG;
    h->level = FORE_PAGE_LEVEL_FULL;
    h->valid = FORE_PAGE_HAS_ALL & ~(FORE_PAGE_HAS_CYCLES | FORE_PAGE_HAS_EXITS);
    memcpy(h->uuid, UUID, FORE_UUID_LEN);
    memset(h->boot_id, 7, FORE_PAGE_BOOT_ID);
    h->start_ns = now_ns();
    h->interval_ns = 1000000;
    memcpy(h->target, "x86_64", 6);
    h->max_vcpus = 2;
    h->pid = 1234;
    h->heartbeat_ns = h->start_ns;
}

/* One instruction a nanosecond, a load in four, a call in a thousand; half the time on a CPU. */
static gpointer write_all_the_time(gpointer data)
{
    Page *p = data;
    ForePageHeader *header = p->map;
    uint64_t start = header->start_ns;

    while (!g_atomic_int_get(&p->stop)) {
        uint64_t now = now_ns(), ran = now - start;
        ForePageVcpu v = {.state = FORE_PAGE_VCPU_RUNNING,
                          .plugged_ns = start,
                          .updated_ns = now,
                          .insns = ran,
                          .loads = ran / 4,
                          .syscalls = ran / 1000,
                          .run_ns = ran / 2,
                          .mix = {[FORE_PAGE_MIX_INTEGER] = ran},
                          .signature = {[3] = ran}};
        ForePageVm vm = {.updated_ns = now,
                         .window_ns = FORE_NS_PER_S,
                         .ws_pages = 25600,
                         .ws_error_pages = 256,
                         .resident_bytes = 64 << 20,
                         .syscall_number = {[39] = ran / 1000}};
        fore_page_publish((ForePageVcpu *)(void *)((char *)p->map + FORE_PAGE_BLOCKS), &v);
        fore_page_publish_vm((ForePageVm *)(void *)((char *)p->map + FORE_PAGE_HEADER), &vm);
        __atomic_store_n(&header->heartbeat_ns, now, __ATOMIC_RELAXED);
        /* A pause as between two publications, else no reader could get through. */
        for (volatile int i = 0; i < 100000; i++) {
        }
    }
    return NULL;
}

static void set_up(Page *p, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    int fd;

    p->dir = g_dir_make_tmp("foresee-page-XXXXXX", &error);
    g_assert_no_error(error);
    p->path = g_build_filename(p->dir, "page", NULL);
    fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(ftruncate(fd, FORE_PAGE_BYTES), ==, 0);
    p->map = mmap(NULL, FORE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    g_assert_true(p->map != MAP_FAILED);
    close(fd);
    fill_header(p->map);
    p->writer = g_thread_new("writer", write_all_the_time, p);
}

static void stop_writer(Page *p)
{
    g_atomic_int_set(&p->stop, 1);
    g_clear_pointer(&p->writer, g_thread_join);
}

static void tear_down(Page *p, gconstpointer data)
{
    stop_writer(p);
    munmap(p->map, FORE_PAGE_BYTES);
    g_remove(p->path);
    g_rmdir(p->dir);
    g_free(p->path);
    g_free(p->dir);
}

/* --- the program --- */

static char *run(const char *words, int code)
{
    g_autofree char *line = g_strdup_printf("%s %s", g_getenv("FORE_FORESEE"), words);
    g_autofree char *out = NULL, *err = NULL;
    g_autoptr(GError) error = NULL;
    int status = -1;

    g_spawn_command_line_sync(line, &out, &err, &status, &error);
    g_assert_no_error(error);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != code) {
        g_error("foresee %s: status %d, not exit code %d: %s%s", words, status, code, out, err);
    }
    if (code != 0) {
        g_assert_true(g_str_has_prefix(err, "foresee: "));
        return g_steal_pointer(&err);
    }
    return g_steal_pointer(&out);
}

static double rate(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(json_object_get(object, "all"), key));
}

static void test_json(Page *p, gconstpointer data)
{
    g_autofree char *words = g_strdup_printf("page --file %s --interval 0.1 --json -n 4", p->path);
    g_autofree char *out = run(words, 0);
    g_auto(GStrv) lines = g_strsplit(g_strchomp(out), "\n", 0);

    g_assert_cmpuint(g_strv_length(lines), ==, 4);
    g_autoptr(json_t) last = json_loads(lines[3], JSON_REJECT_DUPLICATES, NULL);
    g_assert_nonnull(last);
    g_assert_cmpstr(json_string_value(json_object_get(last, "uuid")), ==, UUID);
    g_assert_cmpstr(json_string_value(json_object_get(last, "mode")), ==, "TCG");
    g_assert_cmpfloat_with_epsilon(rate(last, "insns"), 1e9, 1e6);
    g_assert_cmpfloat_with_epsilon(rate(last, "loads"), 2.5e8, 1e6);
    g_assert_cmpfloat_with_epsilon(rate(last, "run"), 0.5, 0.01);
    g_assert_null(json_object_get(json_object_get(last, "all"), "cycles"));
    g_assert_cmpuint(json_array_size(json_object_get(last, "vcpus")), ==, 1);
    const json_t *phase = json_object_get(last, "phase");
    g_assert_cmpint(json_integer_value(json_object_get(phase, "id")), ==, 1);
    const json_t *call = json_array_get(json_object_get(last, "system-calls"), 0);
    g_assert_cmpint(json_integer_value(json_object_get(call, "number")), ==, 39);
    const json_t *ws = json_object_get(json_object_get(last, "memory"), "working-set");
    g_assert_cmpint(json_integer_value(json_object_get(ws, "bytes")), ==, 100 << 20);
    const json_t *signature = json_object_get(last, "signature");
    g_assert_cmpfloat(json_real_value(json_array_get(signature, 3)), ==, 1);
}

static void test_global_json(Page *p, gconstpointer data)
{
    g_autofree char *words = g_strdup_printf("--json page -f %s --interval 0.1 --once", p->path);
    g_autofree char *out = run(words, 0);
    g_autoptr(json_t) one = json_loads(out, JSON_REJECT_DUPLICATES, NULL);

    g_assert_nonnull(one);
}

static unsigned count(const char *text, char what)
{
    unsigned n = 0;

    for (; *text != '\0'; text++) {
        n += *text == what ? 1 : 0;
    }
    return n;
}

static void test_csv(Page *p, gconstpointer data)
{
    g_autofree char *words = g_strdup_printf("page -f %s --interval 0.1 --csv -n 2", p->path);
    g_autofree char *out = run(words, 0);
    g_auto(GStrv) lines = g_strsplit(g_strchomp(out), "\n", 0);

    g_assert_cmpuint(g_strv_length(lines), ==, 1 + 2 * 2); /* one vCPU, and all */
    g_assert_true(g_str_has_prefix(lines[0], "mono_s,vcpu,state,phase,run,"));
    for (unsigned i = 1; i < 5; i++) {
        g_assert_cmpuint(count(lines[i], ','), ==, count(lines[0], ','));
    }
    g_assert_nonnull(strstr(lines[2], ",all,,"));
}

static void test_text(Page *p, gconstpointer data)
{
    g_autofree char *words = g_strdup_printf("page -f %s --interval 0.1 --once", p->path);
    g_autofree char *out = run(words, 0);

    g_assert_null(strchr(out, '\033'));
    g_assert_nonnull(strstr(out, "VCPU STATE"));
    g_assert_nonnull(strstr(out, "working set 100.0 MiB (standard error 1.0)"));
    g_assert_nonnull(strstr(out, "39: "));
    g_assert_null(strstr(out, "EXITS/s")); /* not measured: not shown */
}

static void test_standing_page(Page *p, gconstpointer data)
{
    g_autofree char *words = g_strdup_printf("page -f %s --interval 0.1 --once", p->path);

    stop_writer(p);
    ((ForePageHeader *)p->map)->writer = FORE_PAGE_WRITER_EXITED;
    g_autofree char *out = run(words, 0);
    g_assert_nonnull(strstr(out, "QEMU has ended"));
    g_assert_nonnull(strstr(out, " -")); /* no rates */
}

static void test_usage(Page *p, gconstpointer data)
{
    g_autofree char *both = g_strdup_printf("page web1 --file %s", p->path);
    g_autofree char *forms = g_strdup_printf("page --file %s --csv --json", p->path);
    g_autofree char *fast = g_strdup_printf("page --file %s --interval 0", p->path);
    g_autofree char *odd = g_strdup_printf("page --file %s --interval nan", p->path);
    g_autofree char *less = g_strdup_printf("page --file %s --count -1", p->path);
    const char *const wrong[] = {"page", "page a b", both, forms, fast, odd, less, "page --bogus"};

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree char *err = run(wrong[i], 2);
        g_test_message("%s: %s", wrong[i], err);
    }
}

static void test_refused(Page *p, gconstpointer data)
{
    g_autofree char *there = g_strdup_printf("page --file %s --once --interval 0.1", p->path);
    g_autofree char *missing = run("page --file /nonexistent/page --once", 1);

    g_assert_nonnull(strstr(missing, "/nonexistent/page"));
    ((ForePageHeader *)p->map)->version = 99;
    g_autofree char *version = run(there, 1);
    g_assert_nonnull(strstr(version, "99"));
    stop_writer(p);
    g_assert_cmpint(truncate(p->path, 100), ==, 0);
    g_free(run(there, 1));
    g_assert_cmpint(truncate(p->path, FORE_PAGE_BYTES), ==, 0);
    g_free(run("--socket unix:/nonexistent/sock page web1", 3));
}

/* Reads the terminal until @what comes. */
static void expect(int terminal, GString *seen, const char *what)
{
    char buffer[4096];

    while (strstr(seen->str, what) == NULL) {
        ssize_t n = read(terminal, buffer, sizeof(buffer));
        g_assert_cmpint(n, >, 0);
        g_string_append_len(seen, buffer, n);
    }
}

static void test_terminal(Page *p, gconstpointer data)
{
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_NONE);
    g_autoptr(GString) seen = g_string_new(NULL);
    g_autoptr(GSubprocess) viewer = NULL;
    g_autoptr(GError) error = NULL;
    struct winsize size = {.ws_row = 6, .ws_col = 40};
    int terminal, other;

    g_assert_cmpint(openpty(&terminal, &other, NULL, NULL, &size), ==, 0);
    g_subprocess_launcher_take_stdin_fd(launcher, dup(other));
    g_subprocess_launcher_take_stdout_fd(launcher, dup(other));
    viewer = g_subprocess_launcher_spawn(launcher, &error, g_getenv("FORE_FORESEE"), "page",
                                         "--file", p->path, "--interval", "0.1", NULL);
    g_assert_no_error(error);
    expect(terminal, seen, "\033[?1049h");
    expect(terminal, seen, "phase 1 of 1");
    g_assert_cmpint(write(terminal, "q", 1), ==, 1);
    expect(terminal, seen, "\033[?1049l"); /* the screen that was there is back */
    g_assert_true(g_subprocess_wait_check(viewer, NULL, &error));
    g_assert_no_error(error);
    g_auto(GStrv) lines = g_strsplit(seen->str, "\n", 0);
    for (unsigned i = 0; lines[i] != NULL; i++) {
        g_assert_cmpuint(strlen(lines[i]), <=, 40 + strlen("\033[?1049h\033[?25l\033[H\033[J\r"));
    }
    close(other);
    close(terminal);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add("/agent/page/" path, Page, NULL, set_up, func, tear_down)
    ADD("json-is-an-object-a-line", test_json);
    ADD("option-before-the-command-counts-too", test_global_json);
    ADD("csv-is-a-table", test_csv);
    ADD("text-shows-what-is-measured", test_text);
    ADD("page-that-stands-still-has-no-rates", test_standing_page);
    ADD("wrong-arguments-are-told", test_usage);
    ADD("what-is-no-page-is-refused", test_refused);
    ADD("terminal-is-given-back", test_terminal);
    return g_test_run();
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Known answers of every field and level, through what happens to a VM in its life: the guest of
 * known-phases-rom.S does exactly what its comments say, when it is told to. */
#include <locale.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/fore-json.h"
#include "common/fore-page-rates.h"
#include "tests/lib/fore-test-vm.h"

typedef struct {
    ForeTestVm *vm;
    ForePage *page;
    int serial;
    ForePageSnapshot before, after;
} Guest;

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * FORE_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static bool updated_after(const ForePageSnapshot *snap, gpointer data)
{
    return snap->vcpu[0].updated_ns > *(uint64_t *)data;
}

static bool window_after(const ForePageSnapshot *snap, gpointer data)
{
    return snap->vm.updated_ns > *(uint64_t *)data;
}

/* A reading whose counters were all collected after now: the second publication from here. */
static void read_fresh(Guest *g, ForePageSnapshot *ret)
{
    uint64_t since = now_ns();

    fore_test_vm_read_until(g->page, updated_after, &since, ret);
    since = ret->vcpu[0].updated_ns;
    fore_test_vm_read_until(g->page, updated_after, &since, ret);
}

static int connect_serial(Guest *g)
{
    g_autofree char *path = fore_test_vm_path(g->vm, "serial");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = 60};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), ==, 0);
    return fd;
}

/* Starts one phase; finish() waits for its end. */
static void begin(Guest *g, char phase)
{
    g_assert_cmpint(write(g->serial, &phase, 1), ==, 1);
}

static void finish(Guest *g, char phase)
{
    char answer = 0;

    g_assert_cmpint(read(g->serial, &answer, 1), ==, 1);
    g_assert_cmpint(answer, ==, phase);
}

static void run(Guest *g, char phase)
{
    read_fresh(g, &g->before);
    begin(g, phase);
    finish(g, phase);
    read_fresh(g, &g->after);
}

static bool set_up(Guest *g, const char *accel, const char *level, const char *more)
{
    memset(g, 0, sizeof(*g));
    if (!fore_test_vm_available()) {
        return false;
    }
    g->vm = fore_test_vm_new();
    g_autofree char *serial = fore_test_vm_path(g->vm, "serial");
    g_autofree char *args = g_strdup_printf(
        "-accel %s -M q35 -m 64M -smp 1,maxcpus=8 -bios %s/known-phases.bin "
        "-chardev socket,id=serial,path=%s,server=on,wait=off -serial chardev:serial "
        "%%P,interval=10,profile=%s %s",
        accel, g_getenv("FORE_ROMS"), serial, level, more);
    fore_test_vm_start(g->vm, args);
    g->page = fore_test_vm_open_page(g->vm, NULL);
    g->serial = connect_serial(g);
    return true;
}

static void tear_down(Guest *g)
{
    close(g->serial);
    fore_page_free(g->page);
    fore_test_vm_free(g->vm);
}

/* What a phase counted on the first vCPU. */
#define GREW(g, member)    ((g)->after.vcpu[0].member - (g)->before.vcpu[0].member)
#define GREW_VM(g, member) ((g)->after.vm.member - (g)->before.vm.member)

static void check_memory(Guest *g, char phase, uint64_t loads, uint64_t stores)
{
    run(g, phase);
    g_assert_cmpuint(GREW(g, loads), ==, loads);
    g_assert_cmpuint(GREW(g, stores), ==, stores);
}

static void check_mix_is_all(const ForePageVcpu *v)
{
    uint64_t mix = 0, signature = 0;

    for (int i = 0; i < FORE_PAGE_MIX_N; i++) {
        mix += v->mix[i];
    }
    for (int i = 0; i < FORE_PAGE_SIGNATURE; i++) {
        signature += v->signature[i];
    }
    g_assert_cmpuint(mix, ==, v->insns);
    g_assert_cmpuint(signature, ==, v->insns);
}

/* --- levels --- */

/* IRET in protected mode reads three words off the stack and, in two reads, the descriptor of the
 * code segment that it goes back to. */
enum { IRET_LOADS = 5 };

static void check_all_phases(Guest *g)
{
    check_memory(g, 'a', 100000, 100000);
    check_memory(g, 'b', 10000 * IRET_LOADS + 5000, 5000);
    g_assert_cmpuint(GREW(g, syscalls), ==, 10000);
    g_assert_cmpuint(GREW(g, branch[FORE_PAGE_BRANCH_CALL]), ==, 5000);
    g_assert_cmpuint(GREW(g, branch[FORE_PAGE_BRANCH_RETURN]), ==, 5000);
    check_memory(g, 'c', 65000, 65000);
    g_assert_cmpuint(GREW(g, mix[FORE_PAGE_MIX_STRING]), >=, 2000);
    check_memory(g, 'f', 40000, 100000);
    check_mix_is_all(&g->after.vcpu[0]);
}

static void test_lean(void)
{
    Guest *g = g_new(Guest, 1);

    if (set_up(g, "tcg", "lean", "")) {
        check_all_phases(g);
        g_assert_cmpuint(g->after.valid & (FORE_PAGE_HAS_MMIO | FORE_PAGE_HAS_WORKING_SET), ==, 0);
        tear_down(g);
    }
    g_free(g);
}

static void test_standard(void)
{
    Guest *g = g_new(Guest, 1);

    if (set_up(g, "tcg", "standard", "")) {
        check_all_phases(g);
        run(g, 'b');
        g_assert_cmpuint(GREW_VM(g, syscall_number[7]), ==, 5000);
        g_assert_cmpuint(GREW_VM(g, syscall_number[FORE_PAGE_SYSCALLS - 1]), ==, 5000);
        /* QEMU leaves the block at each of these reads, so it counts twice but for the MMIO itself
         * (see the manual, LIMITS). */
        run(g, 'd');
        g_assert_cmpuint(GREW(g, mmio), ==, 2000);
        g_assert_cmpuint(GREW(g, space_switches), ==, 1000);
        tear_down(g);
    }
    g_free(g);
}

/* Phase after phase for at least one whole window, and the window that lies in it. */
static void run_for_a_window(Guest *g, char phase)
{
    uint64_t since = now_ns();
    ForePageSnapshot *snap = &g->after;

    do {
        begin(g, phase);
        finish(g, phase);
        read_fresh(g, snap);
    } while (snap->vm.updated_ns - snap->vm.window_ns < since);
}

/* Five standard errors: one run in a million fails by chance. */
static void check_working_set(Guest *g, char phase, uint64_t truth)
{
    run_for_a_window(g, phase);
    const ForePageVm *vm = &g->after.vm;
    g_test_message("%u pages: %u +- %u of %u samples, %u seen", (unsigned)truth,
                   (unsigned)vm->ws_pages, (unsigned)vm->ws_error_pages, (unsigned)vm->ws_samples,
                   (unsigned)vm->ws_seen_pages);
    g_assert_cmpuint(vm->ws_samples, >, 500);
    g_assert_cmpuint(vm->ws_error_pages, <, truth / 4);
    g_assert_cmpuint(vm->ws_pages, <=, truth + 5 * vm->ws_error_pages);
    g_assert_cmpuint(vm->ws_pages + 5 * vm->ws_error_pages, >=, truth);
}

static void test_full(void)
{
    Guest *g = g_new(Guest, 1);

    if (set_up(g, "tcg", "full", "")) {
        check_all_phases(g);
        g_assert_cmpuint(g->after.valid & FORE_PAGE_HAS_WORKING_SET, !=, 0);
        check_working_set(g, 'a', 300);
        check_working_set(g, 'e', 8000);
        tear_down(g);
    }
    g_free(g);
}

static void test_spaces(void)
{
    Guest *g = g_new(Guest, 1);
    uint64_t id = 0x456000;

    if (set_up(g, "tcg", "standard", "")) {
        run(g, 'd');
        uint64_t since = now_ns();
        fore_test_vm_read_until(g->page, window_after, &since, &g->after);
        since = g->after.vm.updated_ns;
        fore_test_vm_read_until(g->page, window_after, &since, &g->after);
        g_assert_cmpuint(g->after.vm.n_spaces, ==, 1);
        g_assert_cmphex(g->after.vm.spaces[0].id, ==, id);
        g_assert_cmpuint(g->after.vm.spaces[0].ns, ==, g->after.vm.space_ns);
        /* One vCPU that never rests: all of the window, but for the moments between the clocks. */
        g_assert_cmpfloat_with_epsilon((double)g->after.vm.space_ns, (double)g->after.vm.window_ns,
                                       0.01 * (double)g->after.vm.window_ns);
        tear_down(g);
    }
    g_free(g);
}

/* --- a VM's life --- */

static char *monitor(Guest *g, const char *line)
{
    g_autofree char *args = g_strdup_printf("{\"command-line\": \"%s\"}", line);
    g_autoptr(json_t) out = fore_test_vm_qmp(g->vm, "human-monitor-command", args);

    return g_strdup(json_string_value(out));
}

/* Phase f alone is more than the 1 MiB that QEMU may keep of translated code. */
static void test_flush(void)
{
    Guest *g = g_new(Guest, 1);

    if (set_up(g, "tcg,tb-size=1", "full", "")) {
        check_all_phases(g);
        check_all_phases(g);
        g_autofree char *jit = monitor(g, "info jit");
        const char *flushes = strstr(jit, "TB flush count");
        g_assert_nonnull(flushes);
        g_assert_cmpuint(g_ascii_strtoull(flushes + strlen("TB flush count"), NULL, 10), >, 2);
        tear_down(g);
    }
    g_free(g);
}

static void test_reset(void)
{
    Guest *g = g_new(Guest, 1);

    if (set_up(g, "tcg", "full", "")) {
        check_all_phases(g);
        fore_test_vm_do(g->vm, "system_reset", NULL);
        json_decref(fore_test_vm_wait_event(g->vm, "RESET"));
        check_all_phases(g);
        g_assert_false(fore_page_is_reset(&g->before, &g->after));
        tear_down(g);
    }
    g_free(g);
}

static void test_hotplug(void)
{
    Guest *g = g_new(Guest, 1);

    if (set_up(g, "tcg", "full", "")) {
        read_fresh(g, &g->before);
        begin(g, 'e');
        for (unsigned i = 3; i < 6; i++) {
            g_autofree char *args = g_strdup_printf(
                "{\"driver\": \"qemu64-x86_64-cpu\", \"id\": \"cpu%u\", \"socket-id\": 0,"
                " \"core-id\": %u, \"thread-id\": 0}",
                i, i);
            fore_test_vm_do(g->vm, "device_add", args);
        }
        finish(g, 'e');
        read_fresh(g, &g->after);
        g_assert_cmpuint(GREW(g, loads), ==, 400000);
        g_assert_cmpuint(GREW(g, stores), ==, 400000);
        g_assert_cmpuint(g->after.vcpu[3].state, ==, FORE_PAGE_VCPU_IDLE);
        g_assert_cmpuint(g->after.vcpu[2].state, ==, FORE_PAGE_VCPU_NONE);
        tear_down(g);
    }
    g_free(g);
}

static void test_snapshot(void)
{
    Guest *g = g_new(Guest, 1);
    g_autofree char *qemu_img = g_find_program_in_path("qemu-img");
    g_autofree char *dir = g_dir_make_tmp("fore-snapshot-XXXXXX", NULL);
    g_autofree char *disk = g_build_filename(dir, "disk", NULL);
    g_autofree char *more = g_strdup_printf("-drive if=none,id=disk,format=qcow2,file=%s", disk);
    const char *argv[] = {qemu_img, "create", "-q", "-f", "qcow2", disk, "64M", NULL};

    if (qemu_img == NULL) {
        g_test_skip("qemu-img is not installed");
    } else {
        g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL,
                                   NULL, NULL, NULL));
        if (set_up(g, "tcg", "full", more)) {
            run(g, 'a');
            g_autofree char *saved = monitor(g, "savevm one");
            g_assert_cmpstr(saved, ==, "");
            check_all_phases(g);
            /* Loading goes back in the guest's time, not in the counters', and flushes the cache.
             */
            g_autofree char *loaded = monitor(g, "loadvm one");
            g_assert_cmpstr(loaded, ==, "");
            check_all_phases(g);
            g_assert_false(fore_page_is_reset(&g->before, &g->after));
            tear_down(g);
        }
    }
    unlink(disk);
    rmdir(dir);
    g_free(g);
}

static bool is_migrated(Guest *g)
{
    g_autoptr(json_t) info = fore_test_vm_qmp(g->vm, "query-migrate", NULL);
    const char *status = json_string_value(json_object_get(info, "status"));

    g_assert_cmpstr(status, !=, "failed");
    return g_strcmp0(status, "completed") == 0;
}

static void test_migration(void)
{
    Guest *out = g_new(Guest, 1), *in = g_new(Guest, 1);

    if (set_up(out, "tcg", "full", "")) {
        g_autofree char *state = fore_test_vm_path(out->vm, "state");
        g_autofree char *args = g_strdup_printf("{\"uri\": \"file:%s\"}", state);
        g_autofree char *more = g_strdup_printf("-incoming file:%s", state);

        check_all_phases(out);
        fore_test_vm_do(out->vm, "migrate", args);
        while (!is_migrated(out)) {
            g_usleep(1000);
        }
        /* The page of the VM that left stands still, its vCPU idle; the other counts from 0. */
        read_fresh(out, &out->after);
        g_assert_cmpuint(out->after.vcpu[0].state, ==, FORE_PAGE_VCPU_IDLE);
        g_assert_true(set_up(in, "tcg", "full", more));
        check_all_phases(in);
        g_assert_true(fore_page_is_reset(&out->after, &in->after));
        tear_down(in);
        tear_down(out);
    }
    g_free(in);
    g_free(out);
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qtest/level/lean-counts-exactly", test_lean);
    g_test_add_func("/qtest/level/standard-counts-exactly", test_standard);
    g_test_add_func("/qtest/level/full-counts-exactly", test_full);
    g_test_add_func("/qtest/level/address-space-has-its-share", test_spaces);
    g_test_add_func("/qtest/level/exact-across-cache-flushes", test_flush);
    g_test_add_func("/qtest/level/exact-across-reset", test_reset);
    g_test_add_func("/qtest/level/exact-across-hotplug", test_hotplug);
    g_test_add_func("/qtest/level/exact-across-snapshot-load", test_snapshot);
    g_test_add_func("/qtest/level/exact-after-migration", test_migration);
    return g_test_run();
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The plugin in a stock QEMU: arguments, known-answer guests, the life of the page. */
#include <glib/gstdio.h>
#include <locale.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "common/fore-page-rates.h"
#include "tests/lib/fore-test-vm.h"

#define UUID "6d1c7b1e-98c4-4c09-9d6f-2f6a3a2b0c11"

/* The sums of the comments in known-rom.S. */
static const ForePageVcpu answer_first = {
    .insns = 1 + 8 + 10 + (1 + 2 * 1000) + (1 + 3 * 500) + (1 + 3 * 300) + (1 + 4 * 200) + 4,
    .loads = 500 + 3 * 200 + 1 + 1,
    .stores = 3 + 300 + 1 + 1,
    .syscalls = 200,
};
static const ForePageVcpu answer_other = {
    .insns = 9 + 2 * 2000 + (1 + 3 * 400) + (1 + 4 * 70) + 1,
    .loads = 1 + 400 + 3 * 70,
    .stores = 1,
    .syscalls = 70,
};

/* Of an x86 guest under TCG at each level, without idle, which shows with the first sleep. */
#define LEAN                                                                                       \
    (FORE_PAGE_HAS_INSNS | FORE_PAGE_HAS_BLOCKS | FORE_PAGE_HAS_LOADS | FORE_PAGE_HAS_STORES |     \
     FORE_PAGE_HAS_SYSCALLS | FORE_PAGE_HAS_BRANCHES | FORE_PAGE_HAS_MIX |                         \
     FORE_PAGE_HAS_SIGNATURE)
#define STANDARD                                                                                   \
    (LEAN | FORE_PAGE_HAS_MMIO | FORE_PAGE_HAS_SWITCHES | FORE_PAGE_HAS_SYSCALL_NUMBERS |          \
     FORE_PAGE_HAS_SPACES)

static char *rom_args(const char *rom, const char *more)
{
    return g_strdup_printf("-M q35 -m 64M -bios %s/%s.bin %s", g_getenv("FORE_ROMS"), rom, more);
}

/* --- conditions --- */

/* GPOINTER_TO_UINT(data) vCPUs have done something and halted. */
static bool all_halted(const ForePageSnapshot *snap, gpointer data)
{
    for (unsigned i = 0; i < GPOINTER_TO_UINT(data); i++) {
        if (snap->vcpu[i].state != FORE_PAGE_VCPU_IDLE || snap->vcpu[i].syscalls == 0) {
            return false;
        }
    }
    return true;
}

static bool some_insns(const ForePageSnapshot *snap, gpointer data)
{
    return snap->vcpu[0].insns > 1000000 && snap->vcpu[0].state == FORE_PAGE_VCPU_RUNNING;
}

static bool newer_than(const ForePageSnapshot *snap, gpointer data)
{
    return snap->vcpu[0].updated_ns > *(uint64_t *)data;
}

static bool vcpu0_idle(const ForePageSnapshot *snap, gpointer data)
{
    return snap->vcpu[0].state == FORE_PAGE_VCPU_IDLE;
}

/* --- tests --- */

static void test_loads(void)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();
    ForePageSnapshot snap;

    if (!fore_test_vm_available()) {
        return;
    }
    fore_test_vm_start(vm, "-accel tcg -S -M q35 -smp 2,maxcpus=64 %P,interval=50,profile=lean,"
                           "uuid=6D1C7B1E-98C4-4C09-9D6F-2F6A3A2B0C11");
    g_autoptr(ForePage) page = fore_test_vm_open_page(vm, UUID);
    fore_test_vm_read_until(page, vcpu0_idle, NULL, &snap);
    g_assert_cmpstr(snap.uuid, ==, UUID);
    g_assert_cmpstr(snap.target, ==, "x86_64");
    g_assert_cmpuint(snap.mode, ==, FORE_PAGE_MODE_TCG);
    g_assert_cmpuint(snap.valid, ==, LEAN | FORE_PAGE_HAS_IDLE);
    g_assert_cmpuint(snap.level, ==, FORE_PAGE_LEVEL_LEAN);
    g_assert_cmpuint(snap.n_vcpus, ==, 64);
    g_assert_cmpuint(snap.interval_ns, ==, 50 * 1000 * 1000);
    g_assert_cmpuint(snap.writer, ==, FORE_PAGE_WRITER_RUNNING);
    g_assert_cmpuint(snap.vcpu[0].insns, ==, 0);
    g_assert_cmpuint(snap.vcpu[2].state, ==, FORE_PAGE_VCPU_NONE);
    fore_test_vm_quit(vm);

    g_autoptr(GError) error = NULL;
    g_assert_true(fore_page_read(page, &snap, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(snap.writer, ==, FORE_PAGE_WRITER_EXITED);
}

static void test_bad_arguments(void)
{
    static const struct {
        const char *args, *message;
    } cases[] = {
        {"", "page=PATH is missing"},
        {",page=relative", "page=relative: must be the absolute path"},
        {",page=/nonexistent/dir/page", "make the directory first"},
        {",page=%p,page=%p", "page= is given twice"},
        {",page=%p,bogus=1", "unknown argument \"bogus=1\""},
        {",page=%p,uuid=12", "uuid=12: must be a UUID"},
        {",page=%p,uuid=" UUID ",uuid=" UUID, "uuid= is given twice"},
        {",page=%p,interval=9", "interval=9: must be a whole number of milliseconds, 10 to 10000"},
        {",page=%p,interval=10001", "interval=10001: must be"},
        {",page=%p,interval=1e3", "interval=1e3: must be"},
        {",page=%p,interval=-5", "interval=-5: must be"},
        {",page=%p,interval=20,interval=30", "interval= is given twice"},
        {",page=%p,profile=x", "profile=x: unknown, use profile=lean, profile=standard or"},
        {",page=%p,profile=", "profile=: unknown"},
        {",page=%p,profile=full,profile=full", "profile= is given twice"},
    };
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();

    if (!fore_test_vm_available()) {
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *args =
            g_strdup_printf("-accel tcg -S -plugin %s%s", g_getenv("FORE_PLUGIN"), cases[i].args);
        g_autofree char *text = fore_test_vm_refuses(vm, args);
        g_auto(GStrv) lines = g_strsplit(text, "\n", 0);

        g_test_message("%s: %s", cases[i].args, lines[0]);
        g_assert_true(g_str_has_prefix(lines[0], "foresee-profiler: "));
        g_assert_nonnull(strstr(lines[0], cases[i].message));
        g_assert_false(g_str_has_prefix(lines[1], "foresee-profiler: "));
    }
}

static void test_too_many_vcpus(void)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();

    if (!fore_test_vm_available()) {
        return;
    }
    g_autofree char *text = fore_test_vm_refuses(vm, "-accel tcg -S -M q35 -smp 1,maxcpus=256 %P");
    g_assert_nonnull(strstr(text, "may have 256 vCPUs, at most 255 are recorded"));
}

static void assert_answer(const ForePageVcpu *got, const ForePageVcpu *want)
{
    g_assert_cmpuint(got->insns, ==, want->insns);
    g_assert_cmpuint(got->loads, ==, want->loads);
    g_assert_cmpuint(got->stores, ==, want->stores);
    g_assert_cmpuint(got->syscalls, ==, want->syscalls);
}

static void check_known_answer(unsigned n, const char *accel)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();
    ForePageSnapshot snap;

    if (!fore_test_vm_available()) {
        return;
    }
    g_autofree char *more = g_strdup_printf("-accel %s -cpu max -smp %u %%P", accel, n);
    g_autofree char *args = rom_args("known", more);
    fore_test_vm_start(vm, args);
    g_autoptr(ForePage) page = fore_test_vm_open_page(vm, NULL);
    fore_test_vm_read_until(page, all_halted, GUINT_TO_POINTER(n), &snap);
    assert_answer(&snap.vcpu[0], &answer_first);
    for (unsigned i = 1; i < n; i++) {
        assert_answer(&snap.vcpu[i], &answer_other);
    }
}

static void test_known_answer_alone(void)
{
    check_known_answer(1, "tcg");
}

static void test_known_answer_four(void)
{
    check_known_answer(4, "tcg");
}

static void test_known_answer_small_buffer(void)
{
    check_known_answer(2, "tcg,tb-size=1");
}

static void test_busy_publishes(void)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();
    g_autoptr(GError) error = NULL;
    ForePageSnapshot first, second;
    ForeSample sample = {0};

    if (!fore_test_vm_available()) {
        return;
    }
    g_autofree char *args = rom_args("busy", "-accel tcg %P,interval=10");
    fore_test_vm_start(vm, args);
    g_autoptr(ForePage) page = fore_test_vm_open_page(vm, NULL);
    fore_test_vm_read_until(page, some_insns, NULL, &first);
    uint64_t later = first.vcpu[0].updated_ns + 100 * 1000 * 1000;
    fore_test_vm_read_until(page, newer_than, &later, &second);
    g_assert_true(fore_page_delta(&first, &second, &sample, &error));
    g_assert_no_error(error);
    /* The loop: 5 instructions with one load and one store; 4 more and 3 loads a thousand rounds.
     */
    g_assert_cmpfloat(sample.value[FORE_FIELD_INSNS], >, 0);
    g_assert_cmpfloat_with_epsilon(sample.value[FORE_FIELD_INSNS] / sample.value[FORE_FIELD_STORES],
                                   5.004, 0.01);
    g_assert_cmpfloat_with_epsilon(
        sample.value[FORE_FIELD_LOADS] / sample.value[FORE_FIELD_SYSCALLS], 1003, 2);
    g_assert_true(FORE_HAS(&sample, FORE_FIELD_IDLE));
    g_assert_cmpfloat(sample.value[FORE_FIELD_IDLE], ==, 0);
}

static void test_single_thread(void)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();
    ForePageSnapshot snap;

    if (!fore_test_vm_available()) {
        return;
    }
    g_autofree char *args = rom_args("busy", "-accel tcg,thread=single %P,interval=10");
    fore_test_vm_start(vm, args);
    g_autoptr(ForePage) page = fore_test_vm_open_page(vm, NULL);
    fore_test_vm_read_until(page, some_insns, NULL, &snap);
    g_assert_cmpuint(snap.valid, ==, STANDARD);
    g_assert_cmpuint(snap.level, ==, FORE_PAGE_LEVEL_STANDARD);
}

static void test_page_outlives_qemu(void)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();
    g_autoptr(GError) error = NULL;
    ForePageSnapshot alive, dead, anew;

    if (!fore_test_vm_available()) {
        return;
    }
    g_autofree char *args = rom_args("busy", "-accel tcg %P,interval=10");
    fore_test_vm_start(vm, args);
    g_autoptr(ForePage) page = fore_test_vm_open_page(vm, NULL);
    fore_test_vm_read_until(page, some_insns, NULL, &alive);
    fore_test_vm_kill(vm);
    g_assert_true(fore_page_read(page, &dead, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(dead.vcpu[0].insns, >=, alive.vcpu[0].insns);
    g_assert_cmpuint(dead.writer, ==, FORE_PAGE_WRITER_RUNNING);

    fore_test_vm_start(vm, args);
    g_assert_false(fore_page_read(page, &anew, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_CLOSED);
    g_autoptr(ForePage) again = fore_test_vm_open_page(vm, NULL);
    fore_test_vm_read_until(again, some_insns, NULL, &anew);
    g_assert_true(fore_page_is_reset(&dead, &anew));
}

static void test_symlink(void)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *page_path = fore_test_vm_path(vm, "page");
    g_autofree char *victim = fore_test_vm_path(vm, "victim");
    g_autofree char *text = NULL;
    struct stat st;

    if (!fore_test_vm_available()) {
        return;
    }
    g_assert_true(g_file_set_contents(victim, "precious", -1, &error));
    g_assert_cmpint(symlink(victim, page_path), ==, 0);
    fore_test_vm_start(vm, "-accel tcg -S %P");
    g_assert_cmpint(lstat(page_path, &st), ==, 0);
    g_assert_true(S_ISREG(st.st_mode));
    g_assert_cmpuint(st.st_mode & 07777, ==, 0640);
    g_assert_true(g_file_get_contents(victim, &text, NULL, &error));
    g_assert_cmpstr(text, ==, "precious");
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qtest/plugin/loads-and-names-its-vm", test_loads);
    g_test_add_func("/qtest/plugin/bad-argument-refuses-in-one-line", test_bad_arguments);
    g_test_add_func("/qtest/plugin/more-vcpus-than-blocks-refuse", test_too_many_vcpus);
    g_test_add_func("/qtest/plugin/counts-one-vcpu-exactly", test_known_answer_alone);
    g_test_add_func("/qtest/plugin/counts-four-vcpus-exactly", test_known_answer_four);
    g_test_add_func("/qtest/plugin/counts-exactly-in-a-small-code-buffer",
                    test_known_answer_small_buffer);
    g_test_add_func("/qtest/plugin/busy-vcpu-publishes-by-itself", test_busy_publishes);
    g_test_add_func("/qtest/plugin/one-thread-for-all-claims-no-idle-time", test_single_thread);
    g_test_add_func("/qtest/plugin/page-outlives-killed-qemu", test_page_outlives_qemu);
    g_test_add_func("/qtest/plugin/link-at-the-page-is-not-followed", test_symlink);
    return g_test_run();
}

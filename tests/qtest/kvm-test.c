/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The plugin under KVM: what its thread samples, and that no sandbox of QEMU's minds. */
#include <locale.h>
#include <string.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "common/fore-page-rates.h"
#include "qemu-plugin/fore-profiler-proc.h"
#include "tests/lib/fore-test-vm.h"

#define THREADS "-name x,debug-threads=on "
/* CPU time of the vCPU between two readings that are compared; the tolerance is of it. */
#define SPAN_NS   (2 * FORE_NS_PER_S)
#define TOLERANCE 0.05

static bool available(void)
{
    if (!fore_test_vm_available()) {
        return false;
    }
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        g_test_skip("/dev/kvm is not usable");
        return false;
    }
    return true;
}

static bool two_sampled(const ForePageSnapshot *snap, gpointer data)
{
    return snap->vcpu[0].updated_ns > snap->vcpu[0].plugged_ns &&
           snap->vcpu[1].updated_ns > snap->vcpu[1].plugged_ns;
}

static bool has_bits(const ForePageSnapshot *snap, gpointer data)
{
    uint64_t bits = *(uint64_t *)data;

    return (snap->valid & bits) == bits;
}

static bool newer_than(const ForePageSnapshot *snap, gpointer data)
{
    return snap->vcpu[0].updated_ns > *(uint64_t *)data;
}

static bool ran_longer_than(const ForePageSnapshot *snap, gpointer data)
{
    return snap->vcpu[0].run_ns > *(uint64_t *)data;
}

static bool exited_more_than(const ForePageSnapshot *snap, gpointer data)
{
    return snap->vcpu[0].exits > *(uint64_t *)data;
}

/* --- tests --- */

static void test_quiet(void)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();
    const uint64_t always = FORE_PAGE_HAS_RUN | FORE_PAGE_HAS_IDLE;
    ForePageSnapshot snap;

    if (!available()) {
        return;
    }
    fore_test_vm_start(vm, THREADS "-accel kvm -S -M q35 -smp 2 %P,interval=10");
    g_autoptr(ForePage) page = fore_test_vm_open_page(vm, NULL);
    fore_test_vm_read_until(page, two_sampled, NULL, &snap);
    g_assert_cmpuint(snap.mode, ==, FORE_PAGE_MODE_KVM);
    g_assert_cmphex(snap.valid & always, ==, always);
    g_assert_cmphex(snap.valid & (FORE_PAGE_HAS_BLOCKS | FORE_PAGE_HAS_LOADS | FORE_PAGE_HAS_MIX |
                                  FORE_PAGE_HAS_SYSCALLS | FORE_PAGE_HAS_SIGNATURE),
                    ==, 0);
    g_assert_cmpuint(snap.vcpu[0].state, ==, FORE_PAGE_VCPU_RUNNING);
    g_assert_cmpuint(snap.vcpu[2].state, ==, FORE_PAGE_VCPU_NONE);
    g_assert_cmpuint(snap.vcpu[0].exits, ==, 0); /* no guest ran */
    fore_test_vm_quit(vm);

    g_autoptr(GError) error = NULL;
    g_assert_true(fore_page_read(page, &snap, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(snap.writer, ==, FORE_PAGE_WRITER_EXITED);
}

static void test_memory(void)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();
    uint64_t bits = FORE_PAGE_HAS_DIRTY | FORE_PAGE_HAS_RESIDENT;
    ForePageSnapshot snap;

    if (!available()) {
        return;
    }
    /* Without the threads' names no vCPU is known; the VM is. */
    fore_test_vm_start(vm, "-accel kvm -S -M q35 -m 64M %P,interval=10");
    g_autoptr(ForePage) page = fore_test_vm_open_page(vm, NULL);
    fore_test_vm_read_until(page, has_bits, &bits, &snap);
    g_assert_cmpuint(snap.vcpu[0].state, ==, FORE_PAGE_VCPU_NONE);
    g_assert_cmpuint(snap.vm.resident_bytes, >, 1 << 20);
    g_assert_cmpuint(snap.vm.dirty_bytes_per_s, <=, UINT64_C(64) << 30);
}

static void check_sandbox(const char *sandbox)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();
    g_autofree char *args =
        g_strdup_printf(THREADS "-accel kvm -S -M q35 -smp 2 -sandbox %s %%P,interval=10", sandbox);
    uint64_t bits = FORE_PAGE_HAS_RUN | FORE_PAGE_HAS_RESIDENT;
    ForePageSnapshot snap;

    fore_test_vm_start(vm, args);
    g_autoptr(ForePage) page = fore_test_vm_open_page(vm, NULL);
    fore_test_vm_read_until(page, has_bits, &bits, &snap);
    uint64_t later = snap.vcpu[0].updated_ns + FORE_NS_PER_S / 10;
    fore_test_vm_read_until(page, newer_than, &later, &snap);
    fore_test_vm_quit(vm);
}

static void test_sandbox(void)
{
    if (available()) {
        check_sandbox("on,spawn=deny,resourcecontrol=deny");
        /* what libvirt gives */
        check_sandbox("on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    }
}

static void test_firmware(void)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();
    ForePageSnapshot snap;
    uint64_t none = 0, bits = FORE_PAGE_HAS_EXITS | FORE_PAGE_HAS_HALT;

    if (!available()) {
        return;
    }
    fore_test_vm_start(vm, THREADS "-accel kvm -M q35 %P,interval=10");
    g_autoptr(ForePage) page = fore_test_vm_open_page(vm, NULL);
    fore_test_vm_read_until(page, ran_longer_than, &none, &snap);
    uint64_t since = snap.vcpu[0].updated_ns;
    fore_test_vm_read_until(page, newer_than, &since, &snap);
    if ((snap.valid & bits) == 0) {
        g_test_skip("this kernel gives no KVM statistics by descriptor (Linux 5.14 does)");
        return;
    }
    fore_test_vm_read_until(page, exited_more_than, &none, &snap);
    g_assert_cmphex(snap.valid & bits, ==, bits);
}

/* --- hot-plug: the guest's half over the ACPI ports, as in hotplug-test.c --- */

enum { CPU_SELECT = 0xcd8, CPU_FLAGS = 0xcdc };
enum { FLAG_INSERTING = 2, FLAG_REMOVING = 4, DO_EJECT = 8 };

static void plug(ForeTestVm *vm)
{
    fore_test_vm_do(vm, "device_add",
                    "{\"driver\": \"qemu64-x86_64-cpu\", \"id\": \"cpu3\", \"socket-id\": 0, "
                    "\"core-id\": 3, \"thread-id\": 0}");
    fore_test_vm_outl(vm, CPU_SELECT, 3);
    fore_test_vm_outb(vm, CPU_FLAGS, FLAG_INSERTING);
}

static void unplug(ForeTestVm *vm)
{
    fore_test_vm_do(vm, "device_del", "{\"id\": \"cpu3\"}");
    fore_test_vm_outl(vm, CPU_SELECT, 3);
    fore_test_vm_outb(vm, CPU_FLAGS, FLAG_REMOVING);
    fore_test_vm_outb(vm, CPU_FLAGS, DO_EJECT);
}

static bool vcpu3_is(const ForePageSnapshot *snap, gpointer data)
{
    return snap->vcpu[3].state == GPOINTER_TO_UINT(data) &&
           snap->vcpu[3].updated_ns > snap->vcpu[3].plugged_ns;
}

static void test_hotplug(void)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();
    gpointer runs = GUINT_TO_POINTER(FORE_PAGE_VCPU_RUNNING);
    gpointer gone = GUINT_TO_POINTER(FORE_PAGE_VCPU_GONE);
    ForePageSnapshot first, second;

    if (!available()) {
        return;
    }
    fore_test_vm_start(vm, THREADS "-accel kvm -cpu qemu64 -S -M q35 -smp 1,maxcpus=8 "
                                   "%P,interval=10");
    g_autoptr(ForePage) page = fore_test_vm_open_page(vm, NULL);
    fore_test_vm_outl(vm, CPU_SELECT, 0); /* the interface's newer form */
    plug(vm);
    fore_test_vm_read_until(page, vcpu3_is, runs, &first);
    g_assert_cmpuint(first.vcpu[2].state, ==, FORE_PAGE_VCPU_NONE);
    unplug(vm);
    fore_test_vm_read_until(page, vcpu3_is, gone, &first);
    plug(vm);
    fore_test_vm_read_until(page, vcpu3_is, runs, &second);
    g_assert_false(fore_page_is_reset(&first, &second)); /* counters go on */
    g_assert_cmpuint(second.vcpu[3].plugged_ns, >, first.vcpu[3].plugged_ns);
}

/* --- run share against the thread's own CPU time --- */

/* CPU time of the thread that runs vCPU 0, as the kernel tells anybody (proc(5), stat: utime and
 * stime, in clock ticks). */
static uint64_t thread_cpu_ns(uint32_t pid, const char *tid)
{
    g_autofree char *path = g_strdup_printf("/proc/%u/task/%s/stat", pid, tid);
    g_autofree char *text = NULL;
    uint64_t ticks = 0;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_auto(GStrv) fields = g_strsplit(strrchr(text, ')') + 2, " ", 0);
    g_assert_cmpuint(g_strv_length(fields), >, 12);
    for (unsigned i = 11; i <= 12; i++) { /* fields 14 and 15; the name was the second */
        ticks += g_ascii_strtoull(fields[i], NULL, 10);
    }
    return ticks * (FORE_NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

static char *find_thread(uint32_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%u/task", pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *tid;

    while (dir != NULL && (tid = g_dir_read_name(dir)) != NULL) {
        g_autofree char *comm = g_strdup_printf("%s/%s/comm", path, tid);
        g_autofree char *name = NULL;
        unsigned index = 0;
        if (g_file_get_contents(comm, &name, NULL, NULL) &&
            fore_proc_parse_vcpu_name(name, strlen(name), 1, &index)) {
            return g_strdup(tid);
        }
    }
    g_assert_not_reached();
}

/* A reading of the page, between two of the thread's CPU time. */
typedef struct {
    ForePageSnapshot snap;
    uint64_t before_ns, after_ns;
} Reading;

static void take_reading(ForePage *page, uint32_t pid, const char *tid, Reading *ret)
{
    ret->before_ns = thread_cpu_ns(pid, tid);
    uint64_t since = (uint64_t)g_get_monotonic_time() * 1000;
    fore_test_vm_read_until(page, newer_than, &since, &ret->snap);
    ret->after_ns = thread_cpu_ns(pid, tid);
}

static void check_run_share(const char *bios)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();
    g_autofree char *args = g_strdup_printf(THREADS "-accel kvm -M q35 %s %%P,interval=10", bios);
    g_autofree Reading *first = g_new(Reading, 1), *second = g_new(Reading, 1);
    g_autoptr(GError) error = NULL;
    uint64_t tick_ns = FORE_NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK), none = 0;
    ForePageRates rates;

    fore_test_vm_start(vm, args);
    g_autoptr(ForePage) page = fore_test_vm_open_page(vm, NULL);
    fore_test_vm_read_until(page, ran_longer_than, &none, &first->snap);
    g_autofree char *tid = find_thread(first->snap.pid);
    uint32_t pid = first->snap.pid;
    take_reading(page, pid, tid, first);
    uint64_t until = first->snap.vcpu[0].run_ns + SPAN_NS;
    fore_test_vm_read_until(page, ran_longer_than, &until, &second->snap);
    take_reading(page, pid, tid, second);

    g_assert_true(fore_page_vcpu_rates(&first->snap, &second->snap, 0, &rates, &error));
    g_assert_no_error(error);
    double claimed = rates.run * rates.seconds * (double)FORE_NS_PER_S;
    double least = (double)(second->before_ns - first->after_ns) - (double)tick_ns;
    double most = (double)(second->after_ns - first->before_ns) + (double)tick_ns;
    g_test_message("%s: page %.3f s, thread %.3f to %.3f s, share %.3f", bios,
                   claimed / (double)FORE_NS_PER_S, least / (double)FORE_NS_PER_S,
                   most / (double)FORE_NS_PER_S, rates.run);
    g_assert_cmpfloat(claimed, >=, least * (1 - TOLERANCE));
    g_assert_cmpfloat(claimed, <=, most * (1 + TOLERANCE));
    /* Waiting is counted when it ends, so the last of it may still be in idle. */
    g_assert_cmpfloat(rates.run + rates.wait + rates.idle, <=, 1.1);
    g_assert_cmpfloat(rates.run + rates.wait + rates.idle, >=, 1 - TOLERANCE);
}

static void test_run_share_phases(void)
{
    if (available()) {
        g_autofree char *bios = g_strdup_printf("-bios %s/phases.bin", g_getenv("FORE_ROMS"));
        check_run_share(bios);
    }
}

static void test_run_share_firmware(void)
{
    if (available()) {
        /* that starts over when it finds nothing to boot */
        check_run_share("-boot reboot-timeout=1");
    }
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qtest/kvm/stopped-guest-is-sampled-quietly", test_quiet);
    g_test_add_func("/qtest/kvm/unnamed-threads-leave-the-vm-alone", test_memory);
    g_test_add_func("/qtest/kvm/sandbox-does-not-mind", test_sandbox);
    g_test_add_func("/qtest/kvm/firmware-exits-are-counted", test_firmware);
    g_test_add_func("/qtest/kvm/vcpus-come-and-go", test_hotplug);
    g_test_add_func("/qtest/kvm/run-share-of-phases-is-the-threads", test_run_share_phases);
    g_test_add_func("/qtest/kvm/run-share-of-firmware-is-the-threads", test_run_share_firmware);
    return g_test_run();
}

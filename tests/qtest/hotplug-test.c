/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hot-plug in a stock QEMU with the plugin loaded: commands over QMP, the guest's half over the
 * ACPI ports (docs/specs/acpi_cpu_hotplug.rst and acpi_mem_hotplug.rst of QEMU), read back from
 * both sides.
 */
#include <locale.h>
#include <string.h>

#include "common/fore-json.h"
#include "tests/lib/fore-test-vm.h"

enum {
    CPU_SELECT = 0xcd8, /* out, 32 bits */
    CPU_FLAGS = 0xcdc,  /* in: flags; out: what to do */
    MEM_SELECT = 0xa00, /* out, 32 bits; in: address, low half */
    MEM_ADDR_HIGH = 0xa04,
    MEM_LEN_LOW = 0xa08,
    MEM_LEN_HIGH = 0xa0c,
    MEM_FLAGS = 0xa14 /* in: flags; out: what to do */
};
enum { FLAG_ENABLED = 1, FLAG_INSERTING = 2, FLAG_REMOVING = 4, DO_EJECT = 8 };

typedef struct {
    unsigned index;
    ForePageVcpuState state;
} VcpuWant;

static bool vcpu_is(const ForePageSnapshot *snap, gpointer data)
{
    const VcpuWant *want = data;

    return snap->vcpu[want->index].state == want->state;
}

static bool insns_above(const ForePageSnapshot *snap, gpointer data)
{
    return snap->vcpu[0].insns > *(uint64_t *)data;
}

static void plug_cpu(ForeTestVm *vm, unsigned index)
{
    g_autofree char *args =
        g_strdup_printf("{\"driver\": \"qemu64-x86_64-cpu\", \"id\": \"cpu%u\", \"socket-id\": 0,"
                        " \"core-id\": %u, \"thread-id\": 0}",
                        index, index);
    fore_test_vm_do(vm, "device_add", args);
}

/* What "qom-path" of slot @index says: NULL when the slot is empty.  Transfer full. */
static char *cpu_path(ForeTestVm *vm, unsigned index)
{
    g_autoptr(json_t) slots = fore_test_vm_qmp(vm, "query-hotpluggable-cpus", NULL);
    size_t i;
    json_t *slot;

    json_array_foreach (slots, i, slot) {
        json_t *props = json_object_get(slot, "props");
        if (json_integer_value(json_object_get(props, "core-id")) == index) {
            return g_strdup(json_string_value(json_object_get(slot, "qom-path")));
        }
    }
    g_assert_not_reached();
}

/* The guest's half: accept what was plugged into slot @index. */
static void guest_accepts_cpu(ForeTestVm *vm, unsigned index)
{
    fore_test_vm_outl(vm, CPU_SELECT, index);
    g_assert_cmphex(fore_test_vm_inb(vm, CPU_FLAGS), ==, FLAG_ENABLED | FLAG_INSERTING);
    fore_test_vm_outb(vm, CPU_FLAGS, FLAG_INSERTING);
    g_assert_cmphex(fore_test_vm_inb(vm, CPU_FLAGS), ==, FLAG_ENABLED);
}

/* Ask for the removal, play the guest's eject, see the slot empty. */
static void unplug_cpu(ForeTestVm *vm, unsigned index)
{
    g_autofree char *args = g_strdup_printf("{\"id\": \"cpu%u\"}", index);
    fore_test_vm_do(vm, "device_del", args);

    fore_test_vm_outl(vm, CPU_SELECT, index);
    g_assert_cmphex(fore_test_vm_inb(vm, CPU_FLAGS), ==, FLAG_ENABLED | FLAG_REMOVING);
    g_autofree char *before = cpu_path(vm, index);
    g_assert_nonnull(before); /* nothing is gone before the guest lets it go */
    fore_test_vm_outb(vm, CPU_FLAGS, FLAG_REMOVING); /* the guest has seen the request */
    fore_test_vm_outb(vm, CPU_FLAGS, DO_EJECT);
    g_autofree char *after = cpu_path(vm, index);
    g_assert_null(after);
    g_assert_cmphex(fore_test_vm_inb(vm, CPU_FLAGS) & FLAG_ENABLED, ==, 0);
}

/* Plug, accept, unplug and plug again with the page watching; vCPU 0 does what it does. */
static void cycle_cpu(ForeTestVm *vm, ForePage *page, unsigned index)
{
    ForePageSnapshot snap;
    VcpuWant idle = {index, FORE_PAGE_VCPU_IDLE}, gone = {index, FORE_PAGE_VCPU_GONE};

    plug_cpu(vm, index);
    guest_accepts_cpu(vm, index);
    fore_test_vm_read_until(page, vcpu_is, &idle, &snap);
    uint64_t plugged_ns = snap.vcpu[index].plugged_ns;
    g_assert_cmpuint(plugged_ns, >, 0);

    unplug_cpu(vm, index);
    fore_test_vm_read_until(page, vcpu_is, &gone, &snap);
    g_assert_cmpuint(snap.vcpu[index].idle_since_ns, ==, 0);
    uint64_t idle_ns = snap.vcpu[index].idle_ns;

    plug_cpu(vm, index);
    guest_accepts_cpu(vm, index);
    fore_test_vm_read_until(page, vcpu_is, &idle, &snap);
    g_assert_cmpuint(snap.vcpu[index].plugged_ns, >, plugged_ns);
    g_assert_cmpuint(snap.vcpu[index].idle_ns, >=, idle_ns);
}

static void test_cpu_stopped(void)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();

    if (!fore_test_vm_available()) {
        return;
    }
    fore_test_vm_start(vm, "-accel tcg -S -M q35 -smp 1,maxcpus=16 %P");
    g_autoptr(ForePage) page = fore_test_vm_open_page(vm, NULL);
    fore_test_vm_outl(vm, CPU_SELECT, 0); /* leaves the legacy register block */
    g_assert_cmphex(fore_test_vm_inb(vm, CPU_FLAGS), ==, FLAG_ENABLED);
    cycle_cpu(vm, page, 1);
    g_autofree char *why = fore_test_vm_qmp_fails(
        vm, "device_add",
        "{\"driver\": \"qemu64-x86_64-cpu\", \"id\": \"cpu1\", \"socket-id\": 0, \"core-id\": 1,"
        " \"thread-id\": 0}");
    g_assert_nonnull(strstr(why, "cpu1"));
    fore_test_vm_quit(vm);
}

/* Index 40 is past the 16 entries that a scoreboard starts with: QEMU moves it under a busy vCPU.
 */
static void test_cpu_busy(void)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();
    ForePageSnapshot snap;
    uint64_t above = 1000000;

    if (!fore_test_vm_available()) {
        return;
    }
    g_autofree char *args = g_strdup_printf(
        "-accel tcg -M q35 -m 64M -smp 1,maxcpus=64 -bios %s/busy.bin %%P,interval=10",
        g_getenv("FORE_ROMS"));
    fore_test_vm_start(vm, args);
    g_autoptr(ForePage) page = fore_test_vm_open_page(vm, NULL);
    fore_test_vm_read_until(page, insns_above, &above, &snap);
    uint64_t resumes = snap.vcpu[0].resumes;
    fore_test_vm_outl(vm, CPU_SELECT, 0);
    cycle_cpu(vm, page, 3);
    cycle_cpu(vm, page, 40);
    g_autoptr(GError) error = NULL;
    g_assert_true(fore_page_read(page, &snap, &error));
    above = snap.vcpu[0].insns + 1000000;
    fore_test_vm_read_until(page, insns_above, &above, &snap);
    g_assert_cmpuint(snap.vcpu[0].resumes, ==, resumes); /* it never slept meanwhile */
    fore_test_vm_quit(vm);
}

static void test_dimm(void)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();

    if (!fore_test_vm_available()) {
        return;
    }
    fore_test_vm_start(vm, "-accel tcg -S -M q35 -m 512M,slots=4,maxmem=4G %P");
    fore_test_vm_do(vm, "object-add",
                    "{\"qom-type\": \"memory-backend-ram\", \"id\": \"m1\", \"size\": 268435456}");
    fore_test_vm_do(vm, "device_add",
                    "{\"driver\": \"pc-dimm\", \"id\": \"d1\", \"memdev\": \"m1\"}");

    fore_test_vm_outl(vm, MEM_SELECT, 0);
    g_assert_cmphex(fore_test_vm_inb(vm, MEM_FLAGS), ==, FLAG_ENABLED | FLAG_INSERTING);
    g_assert_cmpuint(fore_test_vm_inl(vm, MEM_LEN_LOW), ==, 268435456);
    g_assert_cmpuint(fore_test_vm_inl(vm, MEM_LEN_HIGH), ==, 0);
    /* q35: hot-plugged memory lies above 4 GiB */
    g_assert_cmpuint(fore_test_vm_inl(vm, MEM_ADDR_HIGH), >=, 1);
    fore_test_vm_outb(vm, MEM_FLAGS, FLAG_INSERTING);
    g_assert_cmphex(fore_test_vm_inb(vm, MEM_FLAGS), ==, FLAG_ENABLED);

    fore_test_vm_do(vm, "device_del", "{\"id\": \"d1\"}");
    g_assert_cmphex(fore_test_vm_inb(vm, MEM_FLAGS), ==, FLAG_ENABLED | FLAG_REMOVING);
    fore_test_vm_outb(vm, MEM_FLAGS, FLAG_REMOVING);
    fore_test_vm_outb(vm, MEM_FLAGS, DO_EJECT);
    g_autoptr(json_t) event = fore_test_vm_wait_event(vm, "DEVICE_DELETED");
    g_assert_cmpstr(json_string_value(json_object_get(event, "device")), ==, "d1");
    g_autoptr(json_t) left = fore_test_vm_qmp(vm, "query-memory-devices", NULL);
    g_assert_cmpuint(json_array_size(left), ==, 0);
    fore_test_vm_quit(vm);
}

static void test_virtio_mem(void)
{
    g_autoptr(ForeTestVm) vm = fore_test_vm_new();

    if (!fore_test_vm_available()) {
        return;
    }
    fore_test_vm_start(vm, "-accel tcg -S -M q35 -m 512M,maxmem=4G "
                           "-object memory-backend-ram,id=m0,size=2G "
                           "-device virtio-mem-pci,id=vmem0,memdev=m0,requested-size=0 %P");
    fore_test_vm_do(
        vm, "qom-set",
        "{\"path\": \"vmem0\", \"property\": \"requested-size\", \"value\": 536870912}");
    g_autoptr(json_t) got =
        fore_test_vm_qmp(vm, "qom-get", "{\"path\": \"vmem0\", \"property\": \"requested-size\"}");
    g_assert_cmpuint(json_integer_value(got), ==, 536870912);
    /* requested is not plugged: without a guest nothing is taken */
    g_autoptr(json_t) size =
        fore_test_vm_qmp(vm, "qom-get", "{\"path\": \"vmem0\", \"property\": \"size\"}");
    g_assert_cmpuint(json_integer_value(size), ==, 0);
    g_autofree char *unaligned = fore_test_vm_qmp_fails(
        vm, "qom-set", "{\"path\": \"vmem0\", \"property\": \"requested-size\", \"value\": 4097}");
    g_assert_nonnull(strstr(unaligned, "multiple"));
    g_autofree char *too_much = fore_test_vm_qmp_fails(
        vm, "qom-set",
        "{\"path\": \"vmem0\", \"property\": \"requested-size\", \"value\": 4294967296}");
    g_assert_nonnull(strstr(too_much, "exceed"));
    fore_test_vm_quit(vm);
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qtest/hotplug/cpu-comes-and-goes-in-a-stopped-vm", test_cpu_stopped);
    g_test_add_func("/qtest/hotplug/cpu-comes-and-goes-while-recording", test_cpu_busy);
    g_test_add_func("/qtest/hotplug/dimm-comes-and-goes", test_dimm);
    g_test_add_func("/qtest/hotplug/virtio-mem-keeps-requested-and-plugged-apart", test_virtio_mem);
    return g_test_run();
}

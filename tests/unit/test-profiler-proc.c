/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the profiler reads of /proc/self and of KVM's statistics: as Linux writes it, and otherwise.
 */
#include <linux/kvm.h>
#include <string.h>

#include "qemu-plugin/fore-profiler-proc.h"

static void test_vcpu_names(void)
{
    static const struct {
        const char *text;
        int index;
    } cases[] = {
        {"CPU 0/KVM\n", 0},
        {"CPU 254/KVM", 254},
        {"CPU 255/KVM\n", -1},
        {"CPU /KVM\n", -1},
        {"CPU 1/TCG\n", -1},
        {"CPU 1/KVM x\n", -1},
        {"CPU -1/KVM\n", -1},
        {"CPU 0x1/KVM\n", -1},
        {"qemu-system-x86", -1},
        {"CPU 18446744073709551617/KVM", -1},
        {"", -1},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        unsigned index = 77;
        bool ok = fore_proc_parse_vcpu_name(cases[i].text, strlen(cases[i].text), 255, &index);
        g_assert_cmpint(ok, ==, cases[i].index >= 0);
        g_assert_cmpuint(index, ==, ok ? (unsigned)cases[i].index : 77);
    }
}

static void test_schedstat(void)
{
    static const char *const bad[] = {"",          "1",        "1 2",
                                      "1 2 ",      "1 2 x\n",  "1  2 3\n",
                                      "1 2 3 4\n", "-1 2 3\n", "18446744073709551616 2 3\n",
                                      "1 2 3\n\n"};
    uint64_t run = 0, wait = 0;

    g_assert_true(fore_proc_parse_schedstat("938287 7507605 19\n", 18, &run, &wait));
    g_assert_cmpuint(run, ==, 938287);
    g_assert_cmpuint(wait, ==, 7507605);
    g_assert_true(fore_proc_parse_schedstat("18446744073709551615 0 0\n", 25, &run, &wait));
    g_assert_cmpuint(run, ==, UINT64_MAX);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_false(fore_proc_parse_schedstat(bad[i], strlen(bad[i]), &run, &wait));
    }
    /* not a byte more is read than was said */
    g_assert_false(fore_proc_parse_schedstat("1 2 3", 4, &run, &wait));
}

static void test_resident(void)
{
    uint64_t pages = 0;

    g_assert_true(fore_proc_parse_resident("100 42 7 1 0 9 0\n", 17, &pages));
    g_assert_cmpuint(pages, ==, 42);
    g_assert_false(fore_proc_parse_resident("100\n", 4, &pages));
}

static void test_links(void)
{
    static const char stats[] = "anon_inode:kvm-vcpu-stats:6", other[] = "anon_inode:kvm-vcpu:6";
    unsigned id = 0;

    g_assert_true(fore_proc_parse_stats_link(stats, strlen(stats), &id));
    g_assert_cmpuint(id, ==, 6);
    g_assert_false(fore_proc_parse_stats_link(other, strlen(other), &id));
    g_assert_false(fore_proc_parse_stats_link(stats, strlen(stats) - 1, &id));
    g_assert_true(fore_proc_is_kvm_vm("anon_inode:kvm-vm", 17));
    g_assert_false(fore_proc_is_kvm_vm("anon_inode:kvm-vm2", 18));
    g_assert_false(fore_proc_is_kvm_vm(other, strlen(other)));
}

static void test_ram(void)
{
    static const struct {
        const char *line;
        uint64_t bytes; /* 0: no guest memory */
    } cases[] = {
        {"7f7407e00000-7f740fe00000 rw-p 00000000 00:00 0 ", 0x8000000},
        {"7f7407e00000-7f740fe00000 rw-s 00000000 00:01 77                  /memfd:ram (deleted)",
         0x8000000},
        {"7f7407e00000-7f740fe00000 rw-s 00000000 00:01 77 /dev/shm/x", 0x8000000},
        {"7f7407e00000-7f740fe00000 rwxp 00000000 00:00 0 ", 0}, /* code buffer of TCG */
        {"7f7407e00000-7f740fe00000 r--p 00000000 00:00 0 ", 0},
        {"7f7407e00000-7f740fe00000 rw-p 00000000 00:00 0                   [heap]", 0},
        {"7f7407e00000-7f740fe00000 rw-p 00000000 fe:00 123 /usr/lib/x.so", 0},
        {"7f7407e00000-7f7407e01000 rw-p 00000000 00:00 0 ", 0}, /* small */
        {"7f740fe00000-7f7407e00000 rw-p 00000000 00:00 0 ", 0},
        {"7f7407e00000 rw-p", 0},
        {"", 0},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        ForeProcRange range = {0};
        bool ok = fore_proc_parse_ram(cases[i].line, strlen(cases[i].line), 16 << 20, &range);
        g_assert_cmpint(ok, ==, cases[i].bytes != 0);
        g_assert_cmpuint(range.end - range.start, ==, cases[i].bytes);
    }
}

/* --- a statistics file --- */

#define NAME_BYTES 48

typedef struct {
    struct kvm_stats_header header;
    struct {
        uint32_t flags;
        int16_t exponent;
        uint16_t size;
        uint32_t offset, bucket_size;
        char name[NAME_BYTES];
    } descs[3];
    uint64_t data[40];
} File;
G_STATIC_ASSERT(offsetof(File, descs[1]) - offsetof(File, descs[0]) ==
                sizeof(struct kvm_stats_desc) + NAME_BYTES);

static void example(File *f)
{
    *f = (File){
        .header = {.name_size = NAME_BYTES,
                   .num_desc = 3,
                   .desc_offset = offsetof(File, descs),
                   .data_offset = offsetof(File, data)},
        .descs = {{.size = 1, .offset = 8, .name = "exits"},
                  {.size = 32, .offset = 16, .name = "halt_wait_ns"}, /* as if it were many */
                  {.size = 1, .offset = 280, .name = "io_exits"}},
    };
    f->data[1] = 1234;
    f->data[35] = 99;
}

static void test_layout(void)
{
    ForeProcLayout layout;
    File f;

    example(&f);
    g_assert_true(fore_proc_parse_layout(&f, offsetof(File, data), &layout));
    g_assert_cmpuint(layout.data_offset, ==, offsetof(File, data));
    g_assert_cmpuint(layout.data_bytes, ==, 288);
    g_assert_cmpuint(fore_proc_stat(&layout, f.data, FORE_PROC_EXITS), ==, 1234);
    g_assert_cmpuint(fore_proc_stat(&layout, f.data, FORE_PROC_IO_EXITS), ==, 99);
    g_assert_false(layout.has[FORE_PROC_HALT_WAIT_NS]);
    g_assert_cmpuint(fore_proc_stat(&layout, f.data, FORE_PROC_HALT_WAIT_NS), ==, 0);
}

static void layout_refuses(const File *f, size_t len)
{
    ForeProcLayout layout;

    g_assert_false(fore_proc_parse_layout(f, len, &layout));
}

static void test_layout_refused(void)
{
    const size_t len = offsetof(File, data);
    File f;

    example(&f);
    layout_refuses(&f, len - 1);
    layout_refuses(&f, sizeof(f.header));
    layout_refuses(&f, sizeof(f.header) - 1);
    layout_refuses(&f, 0);
    f.header.num_desc = UINT32_MAX;
    layout_refuses(&f, len);
    example(&f);
    f.header.name_size = UINT32_MAX;
    layout_refuses(&f, len);
    example(&f);
    f.header.name_size = 0;
    layout_refuses(&f, len);
    example(&f);
    f.header.desc_offset = UINT32_MAX;
    layout_refuses(&f, len);
    example(&f);
    f.header.data_offset = UINT32_MAX;
    layout_refuses(&f, len);
    example(&f);
    f.descs[0].offset = UINT32_MAX - 7;
    layout_refuses(&f, len);
    example(&f);
    f.descs[0].offset = 4;
    layout_refuses(&f, len);
    example(&f);
    f.descs[0].name[0] = f.descs[2].name[0] = 'x'; /* nothing that we know */
    layout_refuses(&f, len);
    example(&f);
    memset(f.descs[2].name, 'x', NAME_BYTES); /* without an end */
    ForeProcLayout layout;
    g_assert_true(fore_proc_parse_layout(&f, len, &layout));
    g_assert_cmpuint(layout.data_bytes, ==, 16);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/plugin/proc/vcpu-threads-are-known-by-name", test_vcpu_names);
    g_test_add_func("/plugin/proc/schedstat-is-two-times-and-a-count", test_schedstat);
    g_test_add_func("/plugin/proc/resident-is-the-second-field", test_resident);
    g_test_add_func("/plugin/proc/links-name-what-a-descriptor-is", test_links);
    g_test_add_func("/plugin/proc/guest-memory-is-large-and-not-code", test_ram);
    g_test_add_func("/plugin/proc/statistics-are-found-by-name", test_layout);
    g_test_add_func("/plugin/proc/bad-statistics-file-is-refused", test_layout_refused);
    return g_test_run();
}

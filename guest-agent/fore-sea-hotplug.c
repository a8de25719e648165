/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works: a CPU is online when its own `online` file says 1; one without that file cannot
 * leave and is judged by the `online` list.  A memory block is online when its `state` starts with
 * "online".  Numbers are totals and a write is only made for what the previous scan found missing,
 * so calling twice is the same as calling once.  Layout:
 * Documentation/ABI/stable/sysfs-devices-system-cpu, Documentation/ABI/testing/sysfs-devices-memory
 * of the kernel.
 */
#include "guest-agent/fore-sea-hotplug.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "guest-agent/fore-sea-text.h"

#define CPU_DIR    "devices/system/cpu"
#define MEMORY_DIR "devices/system/memory"

typedef struct {
    unsigned number;
    bool online;
    bool fixed; /* CPU without an `online` file */
} Device;

/* A file below the root.  Returns: bytes read, at most @max; -1 when it cannot be read */
static ssize_t read_attr(const char *root, const char *name, char *ret, size_t max)
{
    g_autofree char *path = g_build_filename(root, name, NULL);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0) {
        return -1;
    }
    n = read(fd, ret, max);
    close(fd);
    return n;
}

static bool write_attr(const char *root, const char *name, const char *value, GError **error)
{
    g_autofree char *path = g_build_filename(root, name, NULL);
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, value, strlen(value));
    int saved = errno;

    if (fd >= 0) {
        close(fd);
    }
    if (n != (ssize_t)strlen(value)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "%s: cannot write '%s': %s", path,
                    value, n < 0 ? g_strerror(saved) : "short write");
        return false;
    }
    return true;
}

static bool read_cpus(const char *root, const char *list, ForeSeaCpus *ret, GError **error)
{
    g_autofree char *name = g_build_filename(CPU_DIR, list, NULL);
    char text[8192];
    ssize_t n = read_attr(root, name, text, sizeof text);

    if (n < 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNSUPPORTED,
                    "%s/%s: cannot be read; is sysfs mounted at %s?", root, name, root);
        return false;
    }
    if (!fore_sea_text_cpus(text, (size_t)n, ret)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "%s/%s: not a list of CPUs below %d",
                    root, name, FORE_SEA_CPUS_MAX);
        return false;
    }
    return true;
}

/* Present CPUs in rising order. */
static GArray *list_cpus(const char *root, GError **error)
{
    g_autoptr(GArray) cpus = g_array_new(FALSE, FALSE, sizeof(Device));
    ForeSeaCpus present, online;

    if (!read_cpus(root, "present", &present, error) ||
        !read_cpus(root, "online", &online, error)) {
        return NULL;
    }
    for (unsigned i = 0; i < FORE_SEA_CPUS_MAX && cpus->len < present.n; i++) {
        char name[64], state = 0;
        Device cpu = {.number = i};
        if (!fore_sea_cpus_has(&present, i)) {
            continue;
        }
        g_snprintf(name, sizeof name, CPU_DIR "/cpu%u/online", i);
        cpu.fixed = read_attr(root, name, &state, 1) != 1;
        cpu.online = cpu.fixed ? fore_sea_cpus_has(&online, i) : state == '1';
        g_array_append_val(cpus, cpu);
    }
    return g_steal_pointer(&cpus);
}

static int compare_devices(gconstpointer a, gconstpointer b)
{
    unsigned x = ((const Device *)a)->number, y = ((const Device *)b)->number;

    return x < y ? -1 : x > y;
}

static bool block_number(const char *name, unsigned *ret)
{
    guint64 number;

    if (!g_str_has_prefix(name, "memory") ||
        !g_ascii_string_to_unsigned(name + strlen("memory"), 10, 0, G_MAXUINT32, &number, NULL)) {
        return false;
    }
    *ret = (unsigned)number;
    return true;
}

/* Memory blocks in rising order; empty when the kernel has none. */
static GArray *list_blocks(const char *root)
{
    GArray *blocks = g_array_new(FALSE, FALSE, sizeof(Device));
    g_autofree char *path = g_build_filename(root, MEMORY_DIR, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && blocks->len < FORE_SEA_BLOCKS_MAX && (name = g_dir_read_name(dir))) {
        char attr[64], state[16];
        Device block = {0};
        ssize_t n;
        if (!block_number(name, &block.number)) {
            continue;
        }
        g_snprintf(attr, sizeof attr, MEMORY_DIR "/memory%u/state", block.number);
        n = read_attr(root, attr, state, sizeof state);
        if (n <= 0) { /* it left while we looked */
            continue;
        }
        block.online = (size_t)n >= strlen("online") && memcmp(state, "online", 6) == 0;
        g_array_append_val(blocks, block);
    }
    g_array_sort(blocks, compare_devices);
    return blocks;
}

static uint64_t block_size(const char *root)
{
    char text[32];
    ssize_t n = read_attr(root, MEMORY_DIR "/block_size_bytes", text, sizeof text);
    uint64_t bytes = 0;

    /* Below 2^44, so that the sum over all blocks cannot overflow. */
    if (n <= 0 || !fore_sea_text_hex(text, (size_t)n, &bytes) || bytes >> 44) {
        return 0;
    }
    return bytes;
}

static unsigned count_online(const GArray *devices)
{
    unsigned n = 0;

    for (unsigned i = 0; i < devices->len; i++) {
        n += g_array_index(devices, Device, i).online ? 1 : 0;
    }
    return n;
}

bool fore_sea_hotplug_scan(const char *sysfs_root, ForeSeaCapacity *ret, GError **error)
{
    g_autoptr(GArray) cpus = list_cpus(sysfs_root, error);
    ForeSeaCapacity capacity = {0};
    ForeSeaCpus possible;

    if (!cpus || !read_cpus(sysfs_root, "possible", &possible, error)) {
        return false;
    }
    capacity.vcpus_possible = possible.n;
    capacity.vcpus_present = cpus->len;
    capacity.vcpus_online = count_online(cpus);
    capacity.block_bytes = block_size(sysfs_root);
    if (capacity.block_bytes > 0) {
        g_autoptr(GArray) blocks = list_blocks(sysfs_root);
        capacity.blocks_present = blocks->len;
        capacity.blocks_online = count_online(blocks);
    }
    *ret = capacity;
    return true;
}

/* Keeps the first of several errors. */
static bool keep_first(bool ok, GError **kept, GError **next)
{
    if (!ok && !*kept) {
        *kept = g_steal_pointer(next);
    }
    g_clear_error(next);
    return ok;
}

static void online_block(const char *root, unsigned number, GError **error)
{
    g_autoptr(GError) movable_error = NULL;
    char name[64];

    g_snprintf(name, sizeof name, MEMORY_DIR "/memory%u/state", number);
    /* A block that cannot be movable (no such zone there) still serves. */
    if (!write_attr(root, name, "online_movable", &movable_error)) {
        write_attr(root, name, "online", error);
    }
}

bool fore_sea_hotplug_grow(const char *sysfs_root, unsigned vcpus, uint64_t mem_bytes,
                           GError **error)
{
    g_autoptr(GArray) cpus = list_cpus(sysfs_root, error);
    g_autoptr(GArray) blocks = NULL;
    uint64_t size = block_size(sysfs_root), blocks_max = size > 0 ? mem_bytes / size : 0;
    GError *first = NULL, *err = NULL;
    unsigned online;

    if (!cpus) {
        return false;
    }
    online = count_online(cpus);
    for (unsigned i = 0; i < cpus->len && online < vcpus; i++) {
        const Device *cpu = &g_array_index(cpus, Device, i);
        char name[64];
        if (cpu->online || cpu->fixed) {
            continue;
        }
        g_snprintf(name, sizeof name, CPU_DIR "/cpu%u/online", cpu->number);
        online += keep_first(write_attr(sysfs_root, name, "1", &err), &first, &err) ? 1 : 0;
    }
    blocks = list_blocks(sysfs_root);
    online = count_online(blocks);
    for (unsigned i = 0; i < blocks->len && online < blocks_max; i++) {
        const Device *block = &g_array_index(blocks, Device, i);
        if (!block->online) {
            online_block(sysfs_root, block->number, &err);
            online += keep_first(!err, &first, &err) ? 1 : 0;
        }
    }
    if (first) {
        g_propagate_error(error, first);
        return false;
    }
    return true;
}

bool fore_sea_hotplug_shrink_cpus(const char *sysfs_root, unsigned vcpus, GError **error)
{
    g_autoptr(GArray) cpus = list_cpus(sysfs_root, error);
    GError *first = NULL, *err = NULL;
    unsigned online;

    if (!cpus) {
        return false;
    }
    online = count_online(cpus);
    for (unsigned i = cpus->len; i > 0 && online > MAX(vcpus, 1); i--) {
        const Device *cpu = &g_array_index(cpus, Device, i - 1);
        char name[64];
        if (!cpu->online || cpu->fixed || cpu->number == 0) {
            continue;
        }
        g_snprintf(name, sizeof name, CPU_DIR "/cpu%u/online", cpu->number);
        online -= keep_first(write_attr(sysfs_root, name, "0", &err), &first, &err) ? 1 : 0;
    }
    if (first) {
        g_propagate_error(error, first);
        return false;
    }
    return true;
}

/* A block that the kernel says cannot leave is not tried: the attempt alone costs seconds. */
static bool is_removable(const char *root, unsigned number)
{
    char name[64], flag = '1';

    g_snprintf(name, sizeof name, MEMORY_DIR "/memory%u/removable", number);
    return read_attr(root, name, &flag, 1) != 1 || flag == '1';
}

bool fore_sea_hotplug_shrink_memory(const char *sysfs_root, uint64_t mem_bytes, unsigned max_tries,
                                    GError **error)
{
    g_autoptr(GArray) blocks = list_blocks(sysfs_root);
    uint64_t size = block_size(sysfs_root);
    GError *first = NULL, *err = NULL;
    unsigned online = count_online(blocks);

    for (unsigned i = blocks->len; i > 0 && max_tries > 0 && online * size > mem_bytes; i--) {
        const Device *block = &g_array_index(blocks, Device, i - 1);
        char name[64];
        if (!block->online || !is_removable(sysfs_root, block->number)) {
            continue;
        }
        g_snprintf(name, sizeof name, MEMORY_DIR "/memory%u/state", block->number);
        max_tries--;
        online -= keep_first(write_attr(sysfs_root, name, "offline", &err), &first, &err) ? 1 : 0;
    }
    if (first) {
        g_propagate_error(error, first);
        return false;
    }
    return true;
}

bool fore_sea_hotplug_hold(const char *sysfs_root, GError **error)
{
    static const char attr[] = MEMORY_DIR "/auto_online_blocks";
    char text[32] = "";
    ssize_t n = read_attr(sysfs_root, attr, text, sizeof text - 1);
    g_autoptr(GError) err = NULL;

    if (n <= 0 || g_str_has_prefix(text, "offline")) { /* no memory hot-plug in this kernel */
        return true;
    }
    if (!write_attr(sysfs_root, attr, "offline", &err)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "new memory comes online without a grant (%s); boot with "
                    "memhp_default_state=offline maxcpus=N, N the vCPUs at boot",
                    err->message);
        return false;
    }
    return true;
}

char *fore_sea_hotplug_lists(const char *sysfs_root)
{
    char present[1024], online[1024];
    ssize_t n = read_attr(sysfs_root, CPU_DIR "/present", present, sizeof present);
    ssize_t m = read_attr(sysfs_root, CPU_DIR "/online", online, sizeof online);

    return g_strdup_printf("%.*s|%.*s", (int)MAX(n, 0), present, (int)MAX(m, 0), online);
}

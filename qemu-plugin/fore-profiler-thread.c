/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-plugin/fore-profiler-thread.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SMALL 256 /* bytes of the one-line files */

/* One line of a file, by path or by descriptor.  Returns: bytes, 0 when it cannot be read */
static size_t read_at(int fd, char *to, size_t size)
{
    ssize_t got = fd >= 0 ? pread(fd, to, size, 0) : -1;

    return got > 0 ? (size_t)got : 0;
}

static size_t read_path(const char *path, char *to, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    size_t got = read_at(fd, to, size);

    if (fd >= 0) {
        close(fd);
    }
    return got;
}

static size_t read_link(int fd, char *to, size_t size)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t got = readlink(path, to, size);
    return got > 0 ? (size_t)got : 0;
}

/* The number that a directory entry is named by; -1: it is named otherwise. */
static int number_of(const struct dirent *entry)
{
    guint64 value = 0;

    return g_ascii_string_to_unsigned(entry->d_name, 10, 0, G_MAXINT32, &value, NULL) ? (int)value
                                                                                      : -1;
}

bool fore_thread_has_kvm(void)
{
    DIR *dir = opendir("/proc/self/fd");
    bool found = false;
    struct dirent *entry;
    char link[SMALL];

    while (dir != NULL && !found && (entry = readdir(dir)) != NULL) {
        int fd = number_of(entry);
        found = fd >= 0 && fore_proc_is_kvm_vm(link, read_link(fd, link, sizeof(link)));
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return found;
}

bool fore_thread_resident(uint64_t *ret_bytes)
{
    char text[SMALL];
    uint64_t pages = 0;

    if (!fore_proc_parse_resident(text, read_path("/proc/self/statm", text, sizeof(text)),
                                  &pages) ||
        pages > UINT64_MAX / (uint64_t)sysconf(_SC_PAGESIZE)) {
        return false;
    }
    *ret_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return true;
}

/* --- a thread --- */

/* A counter of what the thread does inside the guest.  perf_event_open(2); glibc has no wrapper. */
static int open_counter(int tid, uint64_t what, int group)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_HARDWARE,
        .size = sizeof(attr),
        .config = what,
        .read_format =
            PERF_FORMAT_GROUP | PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
        .exclude_host = 1,
        .exclude_hv = 1,
    };

    return (int)syscall(SYS_perf_event_open, &attr, tid, -1, group, PERF_FLAG_FD_CLOEXEC);
}

static void open_perf(ForeThread *thread)
{
    thread->perf = open_counter(thread->tid, PERF_COUNT_HW_INSTRUCTIONS, -1);
    thread->perf_cycles =
        thread->perf >= 0 ? open_counter(thread->tid, PERF_COUNT_HW_CPU_CYCLES, thread->perf) : -1;
    if (thread->perf >= 0 && thread->perf_cycles < 0) {
        close(thread->perf);
        thread->perf = -1;
    }
}

static bool open_thread(int tid, ForeThread *ret)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", tid);
    *ret = (ForeThread){.tid = tid, .schedstat = open(path, O_RDONLY | O_CLOEXEC)};
    if (ret->schedstat < 0) {
        return false;
    }
    open_perf(ret);
    return true;
}

void fore_thread_scan(unsigned limit, ForeThreadKnown known, ForeThreadFound found, void *data)
{
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry;
    char path[64], name[SMALL];

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        int tid = number_of(entry);
        unsigned index = 0;
        ForeThread thread;

        if (tid <= 0) {
            continue;
        }
        snprintf(path, sizeof(path), "/proc/self/task/%d/comm", tid);
        if (fore_proc_parse_vcpu_name(name, read_path(path, name, sizeof(name)), limit, &index) &&
            !known(index, tid) && open_thread(tid, &thread)) {
            found(index, &thread, data);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

/* perf shares counters among users: a count is of the time that it had one. */
static uint64_t scaled(uint64_t count, uint64_t enabled, uint64_t running)
{
    return running == 0 || running >= enabled
               ? count
               : (uint64_t)((double)count * (double)enabled / (double)running);
}

static void read_perf(const ForeThread *thread, ForeThreadReading *ret)
{
    /* PERF_FORMAT_GROUP: n, time enabled, time running, value of each */
    uint64_t words[5];

    if (thread->perf >= 0 && read(thread->perf, words, sizeof(words)) == (ssize_t)sizeof(words) &&
        words[0] == 2) {
        ret->has_perf = true;
        ret->insns = scaled(words[3], words[1], words[2]);
        ret->cycles = scaled(words[4], words[1], words[2]);
    }
}

static void read_stats(const ForeThreadKvm *kvm, unsigned index, ForeThreadReading *ret)
{
    uint64_t data[FORE_PROC_STATS_MAX_DATA / sizeof(uint64_t)];
    int at = kvm->of_vcpu[index];

    if (at < 0) {
        return;
    }
    const ForeProcLayout *layout = &kvm->files[at].layout;
    ssize_t got = pread(kvm->files[at].fd, data, layout->data_bytes, (off_t)layout->data_offset);
    if (got == (ssize_t)layout->data_bytes) {
        ret->has_stats = true;
        for (int i = 0; i < FORE_PROC_N; i++) {
            ret->stats[i] = fore_proc_stat(layout, data, (ForeProcStat)i);
        }
    }
}

bool fore_thread_read(const ForeThread *thread, const ForeThreadKvm *kvm, unsigned index,
                      ForeThreadReading *ret)
{
    char text[SMALL];

    *ret = (ForeThreadReading){0};
    if (!fore_proc_parse_schedstat(text, read_at(thread->schedstat, text, sizeof(text)),
                                   &ret->run_ns, &ret->wait_ns)) {
        return false;
    }
    read_perf(thread, ret);
    read_stats(kvm, index, ret);
    return true;
}

void fore_thread_close(ForeThread *thread)
{
    if (thread->tid == 0) {
        return;
    }
    close(thread->schedstat);
    if (thread->perf >= 0) {
        close(thread->perf_cycles);
        close(thread->perf);
    }
    *thread = (ForeThread){0};
}

/* --- KVM's statistics files --- */

void fore_thread_kvm_init(ForeThreadKvm *kvm)
{
    memset(kvm, 0, sizeof(*kvm));
    for (unsigned i = 0; i < FORE_PAGE_MAX_VCPUS; i++) {
        kvm->of_vcpu[i] = -1;
    }
}

static bool is_known_id(const ForeThreadKvm *kvm, unsigned id)
{
    for (unsigned i = 0; i < kvm->n; i++) {
        if (kvm->files[i].id == id) {
            return true;
        }
    }
    return false;
}

/* QEMU may close its descriptor, and the number may become another file: we keep a duplicate, and
 * ask what it is only then. */
static void take_file(ForeThreadKvm *kvm, int fd)
{
    uint64_t front[FORE_PROC_STATS_MAX_BYTES / sizeof(uint64_t)];
    char link[SMALL];
    unsigned id = 0;

    if (kvm->n >= FORE_PAGE_MAX_VCPUS ||
        !fore_proc_parse_stats_link(link, read_link(fd, link, sizeof(link)), &id) ||
        is_known_id(kvm, id)) {
        return;
    }
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    ssize_t got = own >= 0 ? pread(own, front, sizeof(front), 0) : -1;
    if (got > 0 && fore_proc_parse_stats_link(link, read_link(own, link, sizeof(link)), &id) &&
        !is_known_id(kvm, id) &&
        fore_proc_parse_layout(front, (size_t)got, &kvm->files[kvm->n].layout)) {
        kvm->files[kvm->n].fd = own;
        kvm->files[kvm->n].id = id;
        kvm->files[kvm->n].index = -1;
        kvm->n++;
    } else if (own >= 0) {
        close(own);
    }
}

/* The file with the lowest id that belongs to no vCPU yet; -1: none. */
static int lowest_free(const ForeThreadKvm *kvm)
{
    int lowest = -1;

    for (unsigned i = 0; i < kvm->n; i++) {
        if (kvm->files[i].index < 0 && (lowest < 0 || kvm->files[i].id < kvm->files[lowest].id)) {
            lowest = (int)i;
        }
    }
    return lowest;
}

/* KVM's id is the APIC id, which has gaps where a socket has three cores; QEMU's index has none.
 * Both grow in the same order, so the new ids are those of the new vCPUs in order, as soon as there
 * are as many of each. */
static void match(ForeThreadKvm *kvm, const bool *plugged, unsigned n)
{
    unsigned files = 0, vcpus = 0;

    for (unsigned i = 0; i < kvm->n; i++) {
        files += kvm->files[i].index < 0 ? 1 : 0;
    }
    for (unsigned i = 0; i < n; i++) {
        vcpus += plugged[i] && kvm->of_vcpu[i] < 0 ? 1 : 0;
    }
    for (unsigned i = 0; files == vcpus && i < n; i++) {
        if (plugged[i] && kvm->of_vcpu[i] < 0) {
            kvm->of_vcpu[i] = lowest_free(kvm);
            kvm->files[kvm->of_vcpu[i]].index = (int)i;
        }
    }
}

void fore_thread_kvm_scan(ForeThreadKvm *kvm, const bool *plugged, unsigned n)
{
    bool missing = false;
    struct dirent *entry;

    for (unsigned i = 0; i < n; i++) {
        missing = missing || (plugged[i] && kvm->of_vcpu[i] < 0);
    }
    DIR *dir = missing ? opendir("/proc/self/fd") : NULL;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        int fd = number_of(entry);
        if (fd >= 0) {
            take_file(kvm, fd);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    match(kvm, plugged, n);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works: the files stay open and are read again from their start, which makes procfs build
 * them anew: opening costs more than reading.  The run queue comes from /proc/loadavg, not from
 * procs_running in /proc/stat: it is the same number (nr_running()) without the interrupt table in
 * front of it, which is worth it at five looks a report.  A counter that went backwards (a CPU
 * left, a snapshot was restored) leaves its rate out once.
 */
#include "guest-agent/fore-sea-usage.h"

#include <fcntl.h>
#include <unistd.h>

#include "guest-agent/fore-sea-text.h"

typedef enum {
    FILE_STAT,
    FILE_LOADAVG,
    FILE_MEMINFO,
    FILE_VMSTAT,
    FILE_PSI_CPU,
    FILE_PSI_MEM,
    FILE_N
} UsageFile;

/* A file of one record comes whole with one read; one of many comes in pages. */
static const struct {
    const char *name;
    bool paged;
} files[] = {{"stat", false},  {"loadavg", false},      {"meminfo", false},
             {"vmstat", true}, {"pressure/cpu", false}, {"pressure/memory", false}};
G_STATIC_ASSERT(G_N_ELEMENTS(files) == FILE_N);

static const char *const field_keys[] = {"cpu-busy",  "runnable",      "psi-cpu",  "psi-mem",
                                         "mem-total", "mem-available", "mem-used", "swap-out"};
G_STATIC_ASSERT(G_N_ELEMENTS(field_keys) == FORE_SEA_USAGE_N);

/* A counter of the kernel, as it was at the previous report. */
typedef struct {
    uint64_t value;
    bool known;
} Counter;

struct ForeSeaUsage {
    char *root;
    int fd[FILE_N];
    Counter busy, idle, psi_cpu, psi_mem, swap_out;
    unsigned online, online_was; /* vCPUs now and at the report before; 0 = not told */
    int64_t last_us;             /* 0: no report yet */
    uint64_t runnable_sum;
    unsigned looks;
    char text[FORE_SEA_TEXT_MAX];
};

ForeSeaUsage *fore_sea_usage_new(const char *procfs_root)
{
    ForeSeaUsage *usage = g_new0(ForeSeaUsage, 1);

    usage->root = g_strdup(procfs_root);
    for (unsigned i = 0; i < FILE_N; i++) {
        usage->fd[i] = -1;
    }
    return usage;
}

void fore_sea_usage_free(ForeSeaUsage *usage)
{
    if (!usage) {
        return;
    }
    for (unsigned i = 0; i < FILE_N; i++) {
        if (usage->fd[i] >= 0) {
            close(usage->fd[i]);
        }
    }
    g_free(usage->root);
    g_free(usage);
}

/* One of the files into usage->text.  Returns: bytes, 0 when it cannot be had. */
static size_t read_file(ForeSeaUsage *usage, UsageFile which)
{
    size_t have = 0;

    if (usage->fd[which] < 0) {
        g_autofree char *path = g_build_filename(usage->root, files[which].name, NULL);
        usage->fd[which] = open(path, O_RDONLY | O_CLOEXEC);
        if (usage->fd[which] < 0) {
            return 0;
        }
    }
    while (have < sizeof usage->text) {
        ssize_t n =
            pread(usage->fd[which], usage->text + have, sizeof usage->text - have, (off_t)have);
        if (n < 0) { /* for example pressure files when PSI is off: EOPNOTSUPP */
            close(usage->fd[which]);
            usage->fd[which] = -1;
            return 0;
        }
        if (n == 0) {
            break;
        }
        have += (size_t)n;
        if (!files[which].paged) {
            break;
        }
    }
    return have;
}

static void set_field(ForeSeaReport *report, ForeSeaUsageField field, double value)
{
    report->value[field] = value;
    report->valid |= 1u << field;
}

/* Growth of @counter since the previous report; false when there is no rate to tell. */
static bool advance(Counter *counter, bool read_ok, uint64_t value, uint64_t *ret_growth)
{
    bool ok = read_ok && counter->known && value >= counter->value;

    if (ok) {
        *ret_growth = value - counter->value;
    }
    counter->known = read_ok;
    counter->value = read_ok ? value : 0;
    return ok;
}

void fore_sea_usage_look(ForeSeaUsage *usage)
{
    size_t size = read_file(usage, FILE_LOADAVG);
    uint64_t tasks;

    if (fore_sea_text_runnable(usage->text, size, &tasks)) {
        usage->runnable_sum += tasks > 0 ? tasks - 1 : 0; /* this very task is running */
        usage->looks++;
    }
}

/*
 * vCPUs in use.  The kernel samples busy time by its tick and measures idle time.  A vCPU that its
 * host does not run loses ticks, so a starved guest would look half idle by them; what was not idle
 * is what it used or wanted.  While vCPUs come and go the smaller number of them counts.
 */
static void report_cpu(ForeSeaUsage *usage, ForeSeaReport *report)
{
    double seconds = (double)report->interval_us / 1e6, hz = (double)sysconf(_SC_CLK_TCK);
    size_t size = read_file(usage, FILE_STAT);
    unsigned online = MIN(usage->online, usage->online_was);
    uint64_t busy_ticks = 0, idle_ticks = 0, busy = 0, idle = 0;
    bool ok = fore_sea_text_busy(usage->text, size, &busy_ticks) &&
              fore_sea_text_idle(usage->text, size, &idle_ticks);
    bool have_busy = advance(&usage->busy, ok, busy_ticks, &busy);
    bool have_idle = advance(&usage->idle, ok, idle_ticks, &idle);
    double vcpus;

    usage->online_was = usage->online;
    if (!have_busy || seconds <= 0) {
        return;
    }
    vcpus = (double)busy / hz / seconds;
    if (have_idle && online > 0) {
        vcpus = MAX(vcpus, online - (double)idle / hz / seconds);
    }
    set_field(report, FORE_SEA_USAGE_CPU_BUSY, vcpus);
}

static void report_rates(ForeSeaUsage *usage, ForeSeaReport *report)
{
    double us = (double)report->interval_us;
    uint64_t value = 0, growth;
    bool ok;

    report_cpu(usage, report);
    ok = fore_sea_text_stalled(usage->text, read_file(usage, FILE_PSI_CPU), &value);
    if (advance(&usage->psi_cpu, ok, value, &growth) && us > 0) {
        set_field(report, FORE_SEA_USAGE_PSI_CPU, MIN((double)growth / us, 1.0));
    }
    ok = fore_sea_text_stalled(usage->text, read_file(usage, FILE_PSI_MEM), &value);
    if (advance(&usage->psi_mem, ok, value, &growth) && us > 0) {
        set_field(report, FORE_SEA_USAGE_PSI_MEM, MIN((double)growth / us, 1.0));
    }
}

/* /proc/vmstat is the dearest of the files, and says nothing new where there is no swap. */
static void report_swap(ForeSeaUsage *usage, bool swapless, ForeSeaReport *report)
{
    uint64_t value = 0, growth;
    bool ok;

    if (swapless) {
        usage->swap_out.known = false;
        set_field(report, FORE_SEA_USAGE_SWAP_OUT, 0);
        return;
    }
    ok = fore_sea_text_labelled(usage->text, read_file(usage, FILE_VMSTAT), "pswpout", &value);
    if (advance(&usage->swap_out, ok, value, &growth) && report->interval_us > 0) {
        set_field(report, FORE_SEA_USAGE_SWAP_OUT,
                  (double)growth * 1e6 / (double)report->interval_us);
    }
}

static void report_memory(ForeSeaUsage *usage, ForeSeaReport *report, bool *ret_swapless)
{
    size_t size = read_file(usage, FILE_MEMINFO);
    uint64_t total, available, swap;

    *ret_swapless = fore_sea_text_labelled(usage->text, size, "SwapTotal:", &swap) && swap == 0;
    if (!fore_sea_text_labelled(usage->text, size, "MemTotal:", &total) ||
        total > UINT64_MAX / 1024) {
        return;
    }
    set_field(report, FORE_SEA_USAGE_MEM_TOTAL, (double)(total * 1024));
    if (!fore_sea_text_labelled(usage->text, size, "MemAvailable:", &available) ||
        available > total) {
        return;
    }
    set_field(report, FORE_SEA_USAGE_MEM_AVAILABLE, (double)(available * 1024));
    set_field(report, FORE_SEA_USAGE_MEM_USED, (double)((total - available) * 1024));
}

void fore_sea_usage_online(ForeSeaUsage *usage, unsigned vcpus)
{
    usage->online = vcpus;
}

void fore_sea_usage_report(ForeSeaUsage *usage, int64_t now_us, ForeSeaReport *ret)
{
    ForeSeaReport report = {0};
    bool swapless;

    if (usage->last_us > 0 && now_us > usage->last_us) {
        report.interval_us = (uint64_t)(now_us - usage->last_us);
    }
    usage->last_us = now_us;
    report_rates(usage, &report);
    report_memory(usage, &report, &swapless);
    report_swap(usage, swapless, &report);
    if (usage->looks > 0) {
        set_field(&report, FORE_SEA_USAGE_RUNNABLE,
                  (double)usage->runnable_sum / (double)usage->looks);
    }
    usage->runnable_sum = 0;
    usage->looks = 0;
    *ret = report;
}

static bool is_bytes(ForeSeaUsageField field)
{
    return field == FORE_SEA_USAGE_MEM_TOTAL || field == FORE_SEA_USAGE_MEM_AVAILABLE ||
           field == FORE_SEA_USAGE_MEM_USED;
}

json_t *fore_sea_report_json(const ForeSeaReport *report, uint64_t seq, unsigned vcpus_online)
{
    json_t *data = json_object();

    json_object_set_new(data, "seq", json_integer((json_int_t)seq));
    json_object_set_new(data, "interval-ms",
                        json_integer((json_int_t)(report->interval_us / 1000)));
    json_object_set_new(data, "vcpus-online", json_integer(vcpus_online));
    for (unsigned i = 0; i < FORE_SEA_USAGE_N; i++) {
        if (!(report->valid >> i & 1u)) {
            continue;
        }
        json_object_set_new(data, field_keys[i],
                            is_bytes(i) ? json_integer((json_int_t)report->value[i])
                                        : json_real(report->value[i]));
    }
    return data;
}

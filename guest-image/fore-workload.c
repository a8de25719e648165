/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fore-workload: the demonstration workload and the truth about it.
 *
 * How it works: one control thread ticks every 20 ms.  It reads commands from a virtio-serial port,
 * asks the schedule what holds now, feeds the service, the arena and the preparation, and writes
 * one line of JSON every 200 ms.  It has a real-time priority, so that an overloaded guest does not
 * delay the report of being overloaded; it does no work that could matter to the load.
 * The port's reader may be absent: then lines are lost, never waited for.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fore-arena.h"
#include "fore-prepare.h"
#include "fore-schedule.h"
#include "fore-service.h"
#include "fore-tamper.h"

#define DEFAULT_PORT    "/dev/virtio-ports/org.foresee.demo.0"
#define DIRECTORY       "/run/fore-workload"
#define TICK_NS         UINT64_C(20000000)
#define REPORT_NS       UINT64_C(200000000)
#define ARENA_MIB       448u
#define ARENA_MIB_MAX   8192u
#define HOG_SECONDS_MAX 600u

typedef struct {
    int port;
    char line[256]; /* a command that is not complete yet */
    size_t n_line;
    bool skip_line; /* it was too long: forget it up to its end */

    ForeSchedule schedule;
    uint64_t start_ns;
    uint64_t arena_bytes; /* nominal, of the next start */
    uint64_t hog_until_ns;

    ForeArena *arena;
    ForeService *service;
    ForePrepare *prepare;
} Workload;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* Writes a line to the port, or loses it. */
static void __attribute__((format(printf, 2, 3))) say(Workload *w, const char *format, ...)
{
    char text[1024];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n > 0 && (size_t)n < sizeof text && write(w->port, text, (size_t)n) != n) {
        /* Nobody listens, or too slowly. */
    }
}

/* The number of CPUs in a file with a list such as "0,2-4"; 0 when it cannot be read. */
static uint32_t count_cpus(const char *path)
{
    char text[256];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    uint32_t count = 0;

    if (fd >= 0) {
        close(fd);
    }
    text[n < 0 ? 0 : n] = '\0';
    for (char *at = text; *at >= '0' && *at <= '9';) {
        unsigned long first = strtoul(at, &at, 10);
        unsigned long last = *at == '-' ? strtoul(at + 1, &at, 10) : first;

        count += (uint32_t)(last - first + 1);
        at += *at == ',';
    }
    return count;
}

static void report(Workload *w, const ForeMoment *moment, uint64_t now)
{
    ForeServiceStats stats;
    ForeMemory memory;
    uint64_t arena_bytes = fore_arena_got(w->arena);
    uint64_t used_bytes;
    uint32_t permille = moment->load_permille;

    fore_memory_read(&memory);
    fore_service_read(w->service, &stats);
    used_bytes = memory.total_bytes - memory.available_bytes;
    used_bytes -= arena_bytes < used_bytes ? arena_bytes : used_bytes;
    permille += moment->phase == FORE_PHASE_PREPARE ? FORE_SCHEDULE_PREPARE_PERMILLE : 0;
    permille += now < w->hog_until_ns ? 1000 : 0;
    say(w,
        "{\"t_ms\":%llu,\"phase\":\"%s\",\"cycle\":%u,\"demand_vcpus\":%u.%03u,"
        "\"demand_mem_bytes\":%llu,\"online\":%u,\"present\":%u,\"mem_total_bytes\":%llu,"
        "\"mem_available_bytes\":%llu,\"arena_want_bytes\":%llu,\"arena_bytes\":%llu,"
        "\"queue\":%zu,\"served\":%llu,\"dropped\":%llu}\n",
        (unsigned long long)(now / 1000000), fore_phase_name(moment->phase), moment->cycle,
        permille / 1000, permille % 1000,
        (unsigned long long)(used_bytes + moment->arena_bytes +
                             (moment->arena_bytes > 0 ? FORE_ARENA_RESERVE_BYTES : 0)),
        count_cpus("/sys/devices/system/cpu/online"), count_cpus("/sys/devices/system/cpu/present"),
        (unsigned long long)memory.total_bytes, (unsigned long long)memory.available_bytes,
        (unsigned long long)moment->arena_bytes, (unsigned long long)arena_bytes, stats.queue,
        (unsigned long long)stats.served, (unsigned long long)stats.dropped);
}

/* A child, so that its CPU time is nobody's request and it ends by itself. */
static bool start_hog(uint64_t seconds)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct sched_param normal = {0};

        sched_setscheduler(0, SCHED_OTHER, &normal);
        alarm((unsigned)seconds);
        fore_service_burn(seconds * UINT64_C(1000000000), NULL);
        _exit(0);
    }
    return pid > 0;
}

static bool power_off(Workload *w, char *text, size_t size)
{
    say(w, "{\"reply\":\"poweroff\",\"ok\":true,\"text\":\"powering off\"}\n");
    sync();
    reboot(RB_POWER_OFF);
    snprintf(text, size, "reboot: %s", strerror(errno));
    return false;
}

/* Runs one command; what it answers goes to @text. */
static bool run_command(Workload *w, const char *command, char *text, size_t size)
{
    unsigned long long seed;
    unsigned cycles, mib = (unsigned)(w->arena_bytes >> 20), seconds;
    int n = sscanf(command, "start %llu %u %u", &seed, &cycles, &mib);

    snprintf(text, size, "done");
    if (n >= 2 && mib >= 1 && mib <= ARENA_MIB_MAX &&
        fore_schedule_init(&w->schedule, seed, cycles, (uint64_t)mib << 20)) {
        w->start_ns = now_ns();
        return true;
    }
    if (n >= 2) {
        snprintf(text, size, "start SEED CYCLES [MIB]: CYCLES is 1..%u, MIB 1..%u",
                 FORE_SCHEDULE_MAX_CYCLES, ARENA_MIB_MAX);
        return false;
    }
    if (sscanf(command, "hog %u", &seconds) == 1 && seconds >= 1 && seconds <= HOG_SECONDS_MAX) {
        w->hog_until_ns = now_ns() + seconds * UINT64_C(1000000000);
        return start_hog(seconds);
    }
    if (strcmp(command, "stop") == 0) {
        w->schedule = (ForeSchedule){0};
        return true;
    }
    if (strcmp(command, "tamper-ima") == 0) {
        return fore_tamper_ima(text, size);
    }
    if (strcmp(command, "tamper-pcr") == 0) {
        return fore_tamper_pcr(text, size);
    }
    if (strcmp(command, "poweroff") == 0) {
        return power_off(w, text, size);
    }
    snprintf(text, size,
             "known: start SEED CYCLES [MIB], stop, hog SECONDS (1..%u), tamper-ima, "
             "tamper-pcr, poweroff",
             HOG_SECONDS_MAX);
    return false;
}

/* The answer repeats the command's word when it is one, so that it needs no escaping. */
static void on_command(Workload *w, const char *command)
{
    char text[160], word[16];
    size_t n = strspn(command, "abcdefghijklmnopqrstuvwxyz-");
    bool ok = run_command(w, command, text, sizeof text);

    snprintf(word, sizeof word, "%.*s", (int)n, command);
    say(w, "{\"reply\":\"%s\",\"ok\":%s,\"text\":\"%s\"}\n", word, ok ? "true" : "false", text);
}

static void read_commands(Workload *w)
{
    char bytes[256];
    ssize_t n = read(w->port, bytes, sizeof bytes);

    for (ssize_t i = 0; i < n; i++) {
        if (bytes[i] != '\n') {
            w->skip_line = w->skip_line || w->n_line == sizeof w->line - 1;
            w->line[w->skip_line ? 0 : w->n_line++] = bytes[i];
            continue;
        }
        w->line[w->n_line] = '\0';
        if (!w->skip_line && w->n_line > 0) {
            on_command(w, w->line);
        }
        w->n_line = 0;
        w->skip_line = false;
    }
}

static void run(Workload *w)
{
    uint64_t next_ns = now_ns(), report_ns = next_ns;

    for (;;) {
        struct timespec until = {.tv_sec = (time_t)(next_ns / 1000000000),
                                 .tv_nsec = (long)(next_ns % 1000000000)};
        ForeMoment moment;
        uint64_t now;

        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        read_commands(w);
        while (waitpid(-1, NULL, WNOHANG) > 0) {
            /* a hog that ended */
        }
        now = now_ns();
        fore_schedule_at(&w->schedule, now - w->start_ns, &moment);
        fore_service_offer(w->service, moment.load_permille,
                           w->schedule.seed + ((uint64_t)moment.cycle << 32), now);
        fore_arena_want(w->arena, moment.arena_bytes);
        fore_prepare_run(w->prepare, moment.phase == FORE_PHASE_PREPARE);
        if (now >= report_ns) {
            report(w, &moment, now);
            report_ns += (1 + (now - report_ns) / REPORT_NS) * REPORT_NS;
        }
        next_ns += (1 + (now - next_ns) / TICK_NS) * TICK_NS;
    }
}

static int fail(const char *what)
{
    fprintf(stderr, "fore-workload: %s: %s\n", what, strerror(errno));
    return 1;
}

int main(int argc, char **argv)
{
    const struct sched_param real_time = {.sched_priority = 1};
    const char *path = argc > 1 ? argv[1] : DEFAULT_PORT;
    Workload w = {.arena_bytes = (uint64_t)ARENA_MIB << 20};

    if (argc > 2 || path[0] == '-') {
        fprintf(stderr, "usage: fore-workload [PORT]   (default %s)\n", DEFAULT_PORT);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    w.port = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (w.port < 0) {
        return fail(path);
    }
    w.arena = fore_arena_new();
    w.service = w.arena ? fore_service_new(w.arena) : NULL;
    w.prepare = w.service ? fore_prepare_new(DIRECTORY, FORE_SCHEDULE_PREPARE_PERMILLE) : NULL;
    if (!w.prepare) {
        return fail("cannot start its threads");
    }
    /* Only this thread: those started above keep the normal policy. */
    if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &real_time) != 0) {
        fprintf(stderr, "fore-workload: no real-time priority; reports may come late\n");
    }
    run(&w);
    return 0;
}

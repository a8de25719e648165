/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fore-prepare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS 10000000L

struct ForePrepare {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool run;

    char directory[64];
    uint32_t permille;
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static void look_at_file(const char *path)
{
    char bytes[512];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return;
    }
    if (fstat(fd, &st) == 0) {
        while (read(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes) {
            /* to the end, in small reads */
        }
    }
    close(fd);
}

static void look_at_directory(const char *path)
{
    DIR *dir = opendir(path);

    if (dir) {
        while (readdir(dir)) {
            /* getdents is what counts */
        }
        closedir(dir);
    }
}

/* Writes, renames and removes a file, as programs do that update their state. */
static void update_file(const char *directory, uint32_t n)
{
    char from[96], to[96];
    int fd;

    snprintf(from, sizeof from, "%s/%u.new", directory, n % 16);
    snprintf(to, sizeof to, "%s/%u", directory, n % 16);
    fd = open(from, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return;
    }
    if (write(fd, from, sizeof from) == (ssize_t)sizeof from) {
        rename(from, to);
    }
    close(fd);
    if (n % 16 == 15) {
        unlink(to);
    }
}

static void one_round(ForePrepare *prepare, uint32_t n)
{
    char target[128];

    look_at_file("/proc/self/stat");
    look_at_file("/proc/self/maps");
    if (readlink("/proc/self/exe", target, sizeof target) > 0) {
        look_at_file("/proc/self/limits");
    }
    look_at_directory("/proc/self/fd");
    update_file(prepare->directory, n);
    look_at_directory(prepare->directory);
}

static void *on_prepare(void *opaque)
{
    ForePrepare *prepare = opaque;
    uint32_t n = 0;

    for (;;) {
        uint64_t start_ns, used_ns;
        bool run = true;

        pthread_mutex_lock(&prepare->lock);
        while (!prepare->run) {
            pthread_cond_wait(&prepare->changed, &prepare->lock);
        }
        pthread_mutex_unlock(&prepare->lock);
        start_ns = clock_ns(CLOCK_MONOTONIC);
        used_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        while (run) {
            uint64_t share_ns = (clock_ns(CLOCK_MONOTONIC) - start_ns) / 1000 * prepare->permille;

            if (clock_ns(CLOCK_THREAD_CPUTIME_ID) - used_ns < share_ns) {
                one_round(prepare, n++);
            } else {
                nanosleep(&(struct timespec){.tv_nsec = SLICE_NS}, NULL);
            }
            pthread_mutex_lock(&prepare->lock);
            run = prepare->run;
            pthread_mutex_unlock(&prepare->lock);
        }
    }
    return NULL;
}

ForePrepare *fore_prepare_new(const char *directory, uint32_t permille)
{
    ForePrepare *prepare = calloc(1, sizeof *prepare);
    pthread_t thread;
    int err;

    if (!prepare) {
        return NULL;
    }
    pthread_mutex_init(&prepare->lock, NULL);
    pthread_cond_init(&prepare->changed, NULL);
    snprintf(prepare->directory, sizeof prepare->directory, "%s", directory);
    prepare->permille = permille;
    err = mkdir(directory, 0700) == 0 || errno == EEXIST ? 0 : errno;
    if (err == 0) {
        err = pthread_create(&thread, NULL, on_prepare, prepare);
    }
    if (err != 0) {
        free(prepare);
        errno = err;
        return NULL;
    }
    pthread_detach(thread);
    return prepare;
}

void fore_prepare_run(ForePrepare *prepare, bool run)
{
    pthread_mutex_lock(&prepare->lock);
    prepare->run = run;
    pthread_cond_signal(&prepare->changed);
    pthread_mutex_unlock(&prepare->lock);
}

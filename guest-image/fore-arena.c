/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fore-arena.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "fore-schedule.h"

#define PAGE_BYTES 4096u
#define HUGE_BYTES (UINT64_C(2) << 20)
#define RETRY_NS   50000000L

struct ForeArena {
    pthread_mutex_t lock; /* @want_chunks, and the condition */
    pthread_cond_t changed;
    uint32_t want_chunks;

    pthread_rwlock_t chunks_lock; /* readers visit pages, the arena's thread adds and removes */
    unsigned char *base;          /* address space for all chunks, aligned for huge pages */
    uint32_t n_chunks;            /* the first of them are touched */
};

/* The value of a "Name:   123 kB" line, in bytes; 0 when it is missing. */
static uint64_t meminfo_field(const char *text, const char *name)
{
    const char *line = strstr(text, name);

    return line ? strtoull(line + strlen(name), NULL, 10) * 1024 : 0;
}

void fore_memory_read(ForeMemory *ret_memory)
{
    char text[2048];
    int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (fd >= 0) {
        close(fd);
    }
    text[n < 0 ? 0 : n] = '\0';
    ret_memory->total_bytes = meminfo_field(text, "MemTotal:");
    ret_memory->available_bytes = meminfo_field(text, "MemAvailable:");
}

/* Touches one chunk more; false when there is no room for it now. */
static bool grow(ForeArena *arena)
{
    ForeMemory memory;
    unsigned char *chunk = arena->base + arena->n_chunks * FORE_ARENA_CHUNK_BYTES;

    fore_memory_read(&memory);
    if (memory.available_bytes < FORE_ARENA_RESERVE_BYTES + FORE_ARENA_CHUNK_BYTES) {
        return false;
    }
    for (uint64_t at = 0; at < FORE_ARENA_CHUNK_BYTES; at += PAGE_BYTES) {
        chunk[at] = 1;
    }
    pthread_rwlock_wrlock(&arena->chunks_lock);
    arena->n_chunks++;
    pthread_rwlock_unlock(&arena->chunks_lock);
    return true;
}

static void shrink(ForeArena *arena)
{
    pthread_rwlock_wrlock(&arena->chunks_lock);
    arena->n_chunks--;
    pthread_rwlock_unlock(&arena->chunks_lock);
    madvise(arena->base + arena->n_chunks * FORE_ARENA_CHUNK_BYTES, FORE_ARENA_CHUNK_BYTES,
            MADV_DONTNEED);
}

/* Waits until the wanted size changes, or for a retry when @retry. */
static void wait_change(ForeArena *arena, uint32_t seen, bool retry)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += RETRY_NS;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&arena->lock);
    while (arena->want_chunks == seen) {
        if (!retry) {
            pthread_cond_wait(&arena->changed, &arena->lock);
        } else if (pthread_cond_timedwait(&arena->changed, &arena->lock, &until) == ETIMEDOUT) {
            break;
        }
    }
    pthread_mutex_unlock(&arena->lock);
}

static void *on_arena(void *opaque)
{
    ForeArena *arena = opaque;

    /* A service loads its data before it serves from it: ahead of the workers, or one CPU would
     * make the memory's demand trail the CPU's by seconds.  Without the right to it, it only loads
     * later. */
    setpriority(PRIO_PROCESS, (id_t)gettid(), -19);
    for (;;) {
        uint32_t want;

        pthread_mutex_lock(&arena->lock);
        want = arena->want_chunks;
        pthread_mutex_unlock(&arena->lock);
        if (arena->n_chunks > want) {
            shrink(arena);
        } else if (arena->n_chunks == want) {
            wait_change(arena, want, false);
        } else if (!grow(arena)) {
            wait_change(arena, want, true);
        }
    }
    return NULL;
}

/* Address space only: MAP_NORESERVE keeps it out of the kernel's account. */
static unsigned char *map_space(void)
{
    uint64_t size = FORE_ARENA_MAX_CHUNKS * FORE_ARENA_CHUNK_BYTES + HUGE_BYTES;
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1, 0);

    if (at == MAP_FAILED) {
        return NULL;
    }
    return (unsigned char *)(((uintptr_t)at + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES);
}

ForeArena *fore_arena_new(void)
{
    ForeArena *arena = calloc(1, sizeof *arena);
    pthread_condattr_t attr;
    pthread_t thread;
    int err;

    if (!arena) {
        return NULL;
    }
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&arena->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&arena->lock, NULL);
    pthread_rwlock_init(&arena->chunks_lock, NULL);
    arena->base = map_space();
    err = arena->base ? pthread_create(&thread, NULL, on_arena, arena) : errno;
    if (err != 0) {
        free(arena);
        errno = err;
        return NULL;
    }
    pthread_detach(thread);
    return arena;
}

void fore_arena_want(ForeArena *arena, uint64_t bytes)
{
    uint64_t chunks = bytes / FORE_ARENA_CHUNK_BYTES;

    pthread_mutex_lock(&arena->lock);
    arena->want_chunks =
        (uint32_t)(chunks < FORE_ARENA_MAX_CHUNKS ? chunks : FORE_ARENA_MAX_CHUNKS);
    pthread_cond_signal(&arena->changed);
    pthread_mutex_unlock(&arena->lock);
}

uint64_t fore_arena_got(ForeArena *arena)
{
    uint64_t bytes;

    pthread_rwlock_rdlock(&arena->chunks_lock);
    bytes = arena->n_chunks * FORE_ARENA_CHUNK_BYTES;
    pthread_rwlock_unlock(&arena->chunks_lock);
    return bytes;
}

void fore_arena_visit(ForeArena *arena, uint64_t seed, uint32_t n_pages)
{
    pthread_rwlock_rdlock(&arena->chunks_lock);
    for (uint32_t i = 0; i < n_pages && arena->n_chunks > 0; i++) {
        uint64_t random = fore_random_next(&seed);
        unsigned char *chunk =
            arena->base + (random >> 32) % arena->n_chunks * FORE_ARENA_CHUNK_BYTES;

        /* Two workers may write one byte at once: any value will do, but not a data race. */
        __atomic_store_n(chunk +
                             (uint32_t)random % (FORE_ARENA_CHUNK_BYTES / PAGE_BYTES) * PAGE_BYTES,
                         (unsigned char)i, __ATOMIC_RELAXED);
    }
    pthread_rwlock_unlock(&arena->chunks_lock);
}

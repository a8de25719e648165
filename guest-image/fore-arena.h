/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory of a burst: touched when wanted, given back when not.  It never takes the
 * last FORE_ARENA_RESERVE_BYTES of MemAvailable, so it cannot call the OOM killer; what it lacks it
 * keeps trying to get for as long as it is wanted.
 */
#pragma once

#include <stdint.h>

#define FORE_ARENA_CHUNK_BYTES   (UINT64_C(4) << 20)
#define FORE_ARENA_MAX_CHUNKS    2048u
#define FORE_ARENA_RESERVE_BYTES (UINT64_C(48) << 20)

typedef struct ForeArena ForeArena;

typedef struct {
    uint64_t total_bytes;     /* MemTotal: what is online, less the kernel's own */
    uint64_t available_bytes; /* MemAvailable */
} ForeMemory;

/** fore_memory_read: /proc/meminfo; all zero when it cannot be read */
void fore_memory_read(ForeMemory *ret_memory);

/** fore_arena_new: starts the arena's thread; NULL with errno set when it cannot */
ForeArena *fore_arena_new(void);

/** fore_arena_want: sets the wanted size, rounded down to chunks, at most 8 GiB; returns at once */
void fore_arena_want(ForeArena *arena, uint64_t bytes);

/** fore_arena_got: bytes that are touched now */
uint64_t fore_arena_got(ForeArena *arena);

/** fore_arena_visit: writes one word in each of @n_pages pages, chosen by @seed; none if empty */
void fore_arena_visit(ForeArena *arena, uint64_t seed, uint32_t n_pages);

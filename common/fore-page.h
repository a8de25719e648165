/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The profile page: one file per VM that the plugin in QEMU maps and writes, and that foreseed
 * reads. This header is the layout (docs/wire-format.md, "Profile page"), the writer's publishing
 * step (inline, because the plugin links nothing of ours) and the reader.
 *
 * The reader takes the page for hostile input: a guest can break out into QEMU, and QEMU owns the
 * file.  It never maps the page, it copies it with pread(), so a file that shrinks under it is a
 * short read and not a SIGBUS.
 */
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/fore-flow.h"

#define FORE_PAGE_MAGIC       "FOREPAGE" /* 8 bytes, no NUL */
#define FORE_PAGE_VERSION     1
#define FORE_PAGE_HEADER      256 /* bytes */
#define FORE_PAGE_BLOCK       128 /* bytes of one vCPU's block */
#define FORE_PAGE_MAX_VCPUS   255
#define FORE_PAGE_BYTES       36864 /* of the whole file: header, 255 blocks, zeros up to 9 * 4096 */
#define FORE_PAGE_BOOT_ID     16    /* bytes */
#define FORE_PAGE_TARGET_MAX  15    /* bytes of QEMU's target name */
#define FORE_PAGE_INTERVAL_MS 100   /* default time between two publications of a busy vCPU */

/* Bits of the valid mask: these fields are real in this mode. */
typedef enum {
    FORE_PAGE_HAS_INSNS = 1 << 0,
    FORE_PAGE_HAS_BLOCKS = 1 << 1,
    FORE_PAGE_HAS_LOADS = 1 << 2,
    FORE_PAGE_HAS_STORES = 1 << 3,
    FORE_PAGE_HAS_SYSCALLS = 1 << 4, /* x86 guests only */
    FORE_PAGE_HAS_IDLE = 1 << 5,     /* one thread per vCPU (the default) only */
    FORE_PAGE_HAS_ALL = (1 << 6) - 1
} ForePageValid;

/* How the guest runs, as far as the plugin can tell. */
typedef enum {
    FORE_PAGE_MODE_UNKNOWN, /* no vCPU was seen: KVM, or QEMU is still starting */
    FORE_PAGE_MODE_TCG,
    FORE_PAGE_MODE_N
} ForePageMode;

/* What the writer last said about itself. */
typedef enum {
    FORE_PAGE_WRITER_RUNNING, /* also what a QEMU that was killed leaves behind */
    FORE_PAGE_WRITER_EXITED,  /* QEMU ended in order */
    FORE_PAGE_WRITER_N
} ForePageWriter;

typedef enum {
    FORE_PAGE_VCPU_NONE,    /* never plugged; its counters are 0 */
    FORE_PAGE_VCPU_RUNNING, /* executes guest code; counters are as old as updated_ns */
    FORE_PAGE_VCPU_IDLE,    /* halted or stopped since idle_since_ns; counters are exact */
    FORE_PAGE_VCPU_GONE,    /* unplugged; counters stay, and go on when it is plugged again */
    FORE_PAGE_VCPU_N
} ForePageVcpuState;

/* One vCPU's counters.  All grow only, for as long as the boot id stays the same. */
typedef struct {
    uint32_t state;         /* ForePageVcpuState */
    uint64_t plugged_ns;    /* CLOCK_MONOTONIC of the last time it was plugged; 0: never */
    uint64_t updated_ns;    /* CLOCK_MONOTONIC of this publication */
    uint64_t idle_since_ns; /* CLOCK_MONOTONIC, 0 when not idle */
    uint64_t idle_ns;       /* idle time in all finished idle periods */
    uint64_t insns;         /* instructions of the translated blocks that were entered */
    uint64_t blocks;        /* translated blocks entered */
    uint64_t loads;         /* memory accesses that read */
    uint64_t stores;        /* memory accesses that wrote */
    uint64_t syscalls;      /* system-call instructions executed */
    uint64_t resumes;       /* finished idle periods */
} ForePageVcpu;

/* --- layout, little-endian; offsets are pinned in fore-page.c --- */
typedef struct {
    char magic[8];
    uint32_t version;
    uint32_t header_bytes;
    uint32_t page_bytes;
    uint32_t block_bytes;
    uint32_t max_blocks;
    uint32_t mode;  /* ForePageMode; live */
    uint64_t valid; /* ForePageValid bits; live, bits are only ever added */
    char uuid[40];  /* text of the VM's UUID, NUL-padded; empty when none was given */
    uint8_t boot_id[FORE_PAGE_BOOT_ID]; /* random, new with each start of the writer */
    uint64_t start_ns;                  /* CLOCK_MONOTONIC */
    uint64_t interval_ns; /* longest time between two publications of a busy vCPU, about */
    char target[16];      /* QEMU's target name, NUL-padded: "x86_64" */
    uint32_t max_vcpus;   /* blocks 0..max_vcpus-1 may come into use; 1..255 */
    uint32_t pid;         /* of QEMU, in its own PID namespace; for display only */
    uint8_t reserved1[56];
    uint64_t heartbeat_ns; /* CLOCK_MONOTONIC of the newest publication of any vCPU; live */
    uint32_t writer;       /* ForePageWriter; live */
    uint8_t reserved2[52];
} ForePageHeader;

typedef struct {
    uint32_t seq;   /* odd while the block is being written */
    uint32_t state; /* as in ForePageVcpu from here on */
    uint64_t plugged_ns;
    uint64_t updated_ns;
    uint64_t idle_since_ns;
    uint64_t idle_ns;
    uint64_t insns;
    uint64_t blocks;
    uint64_t loads;
    uint64_t stores;
    uint64_t syscalls;
    uint64_t resumes;
    uint8_t reserved[40];
} ForePageBlock;

/**
 * fore_page_publish: write one vCPU's block
 * @block: in the mapped page; only one thread at a time may publish to it
 *
 * Why this is correct under C11: every store to the block is atomic, so there is no data race.  The
 * release fence after the odd sequence number keeps the data stores from moving before it; the
 * release store of the even one keeps them from moving after it.  So a reader that sees the same
 * even number before and after its copy (with acquire order between the three) holds one
 * publication whole.  No system call, no lock, no allocation.
 */
static inline void fore_page_publish(ForePageBlock *block, const ForePageVcpu *c)
{
    uint32_t seq = __atomic_load_n(&block->seq, __ATOMIC_RELAXED) | 1u;

    __atomic_store_n(&block->seq, seq, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(&block->state, c->state, __ATOMIC_RELAXED);
    __atomic_store_n(&block->plugged_ns, c->plugged_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&block->updated_ns, c->updated_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&block->idle_since_ns, c->idle_since_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&block->idle_ns, c->idle_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&block->insns, c->insns, __ATOMIC_RELAXED);
    __atomic_store_n(&block->blocks, c->blocks, __ATOMIC_RELAXED);
    __atomic_store_n(&block->loads, c->loads, __ATOMIC_RELAXED);
    __atomic_store_n(&block->stores, c->stores, __ATOMIC_RELAXED);
    __atomic_store_n(&block->syscalls, c->syscalls, __ATOMIC_RELAXED);
    __atomic_store_n(&block->resumes, c->resumes, __ATOMIC_RELAXED);
    __atomic_store_n(&block->seq, seq + 1, __ATOMIC_RELEASE);
}

/* --- reader --- */

/* One consistent copy; each vCPU's entry is one publication whole, vCPUs are not tied to each
 * other. */
typedef struct {
    uint64_t mono_ns;      /* CLOCK_MONOTONIC of the host, after the copy was taken */
    uint64_t heartbeat_ns; /* as in the header; an idle VM beats no more, so old is not dead */
    uint64_t interval_ns;
    uint64_t valid; /* ForePageValid bits */
    uint8_t boot_id[FORE_PAGE_BOOT_ID];
    char uuid[FORE_UUID_LEN + 1];          /* "" when the plugin was not told one */
    char target[FORE_PAGE_TARGET_MAX + 1]; /* printable ASCII */
    ForePageMode mode;
    ForePageWriter writer;
    uint32_t pid;     /* as QEMU wrote it: display only, never a kill target */
    unsigned n_vcpus; /* entries of @vcpu, 1..255; many may be _NONE */
    ForePageVcpu vcpu[FORE_PAGE_MAX_VCPUS]; /* by vCPU index */
} ForePageSnapshot;

typedef struct ForePage ForePage;

/**
 * fore_page_open: open the page at @path for reading and check its header
 * @expected_uuid: canonical text of the VM's UUID, or NULL to take any
 * Returns: (transfer full) or NULL with
 *   FORE_ERROR_NOT_FOUND    there is no such file
 *   FORE_ERROR_INVALID      a symbolic link, not a regular file, wrong size, magic, layout or value
 *   FORE_ERROR_UNSUPPORTED  a page of another version
 *   FORE_ERROR_UNTRUSTED    the page of another VM
 *   FORE_ERROR_UNAVAILABLE  cannot be opened or read now
 */
ForePage *fore_page_open(const char *path, const char *expected_uuid, GError **error);
/** fore_page_free: close it.  NULL is allowed. */
void fore_page_free(ForePage *page);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForePage, fore_page_free)

/**
 * fore_page_read: take one consistent copy; never waits for the writer, never stops it
 * @ret: about 25 KiB, written on success only
 * Errors, beside those of fore_page_open():
 *   FORE_ERROR_CLOSED       the file at the path is another one now, or gone: open it again
 *   FORE_ERROR_UNAVAILABLE  a vCPU's block stayed in mid-write through all tries: try again later
 */
bool fore_page_read(ForePage *page, ForePageSnapshot *ret, GError **error);

/**
 * fore_page_parse: the pure half of the reader: check and decode @size bytes of a page
 * @expected_uuid: as above
 * @now_ns: CLOCK_MONOTONIC; no time stamp of the page may lie after it
 * @ret: written on success only.  Errors: INVALID, UNSUPPORTED, UNTRUSTED as above; UNAVAILABLE
 * when a block is in mid-write
 */
bool fore_page_parse(const void *data, size_t size, const char *expected_uuid, uint64_t now_ns,
                     ForePageSnapshot *ret, GError **error);

/**
 * fore_page_is_reset: counters of @cur do not continue those of @prev
 * True for another boot id, and for any counter of any vCPU that went backwards.
 */
bool fore_page_is_reset(const ForePageSnapshot *prev, const ForePageSnapshot *cur);

/**
 * fore_page_delta: what ran between two snapshots of one page
 * @sample: gets INSNS, LOADS, STORES, SYSCALLS (per second, summed over vCPUs) and IDLE (share of
 *   plugged vCPU time, 0..1) with their valid bits; a field that the page does not measure, and any
 *   of the five on failure, has its bit cleared.  Its other fields, and mono_ns, stay untouched.
 * Errors:
 *   FORE_ERROR_UNAVAILABLE  no time passed, or the counters were reset: there is no rate this time
 *   FORE_ERROR_UNTRUSTED    more than physics allows: over 1e12 events a second, or more idle time
 *                           than time passed
 */
bool fore_page_delta(const ForePageSnapshot *prev, const ForePageSnapshot *cur, ForeSample *sample,
                     GError **error);

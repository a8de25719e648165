/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The profile page: one file per VM that the plugin in QEMU maps and writes, and that foreseed
 * reads. This header is the layout (docs/wire-format.md, "Profile page"), the writer's publishing
 * step (inline, because the plugin links nothing of ours) and the reader; what to make of two
 * readings is in fore-page-rates.h.
 *
 * The file is: header, the VM's section, one block a vCPU.  Section and blocks carry a sequence
 * lock each.  The reader takes the page for hostile input: a guest can break out into QEMU, and
 * QEMU owns the file.  It never maps the page, it copies it with pread(), so a file that shrinks
 * under it is a short read and not a SIGBUS.
 */
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/fore-flow.h"

#define FORE_PAGE_MAGIC       "FOREPAGE" /* 8 bytes, no NUL */
#define FORE_PAGE_VERSION     2
#define FORE_PAGE_HEADER      512  /* bytes */
#define FORE_PAGE_VM          4608 /* bytes of the VM's section, which follows the header */
#define FORE_PAGE_BLOCK       1024 /* bytes of one vCPU's block */
#define FORE_PAGE_MAX_VCPUS   255
#define FORE_PAGE_BLOCKS      5120   /* offset of vCPU 0's block: header and section */
#define FORE_PAGE_BYTES       266240 /* of the whole file: 5120 + 255 * 1024 = 65 * 4096 */
#define FORE_PAGE_BOOT_ID     16     /* bytes */
#define FORE_PAGE_TARGET_MAX  15     /* bytes of QEMU's target name */
#define FORE_PAGE_INTERVAL_MS 100    /* default time between two publications */
#define FORE_PAGE_SIGNATURE   64     /* buckets of the execution signature */
#define FORE_PAGE_SYSCALLS    512    /* buckets of the system-call histogram; the last: all above */
#define FORE_PAGE_SPACES      8      /* address spaces that are named */

/* Bits of the valid mask: these fields are real in this mode, at this level, for this guest. */
typedef enum {
    FORE_PAGE_HAS_INSNS = 1 << 0,
    FORE_PAGE_HAS_BLOCKS = 1 << 1,
    FORE_PAGE_HAS_LOADS = 1 << 2,
    FORE_PAGE_HAS_STORES = 1 << 3,
    FORE_PAGE_HAS_SYSCALLS = 1 << 4,
    FORE_PAGE_HAS_IDLE = 1 << 5, /* idle_since_ns, idle_ns, resumes */
    FORE_PAGE_HAS_BRANCHES = 1 << 6,
    FORE_PAGE_HAS_MIX = 1 << 7,
    FORE_PAGE_HAS_MMIO = 1 << 8,
    FORE_PAGE_HAS_SWITCHES = 1 << 9, /* space_switches */
    FORE_PAGE_HAS_SIGNATURE = 1 << 10,
    FORE_PAGE_HAS_SYSCALL_NUMBERS = 1 << 11,
    FORE_PAGE_HAS_SPACES = 1 << 12,
    FORE_PAGE_HAS_WORKING_SET = 1 << 13,
    FORE_PAGE_HAS_RUN = 1 << 14, /* run_ns, wait_ns */
    FORE_PAGE_HAS_CYCLES = 1 << 15,
    FORE_PAGE_HAS_EXITS = 1 << 16, /* exits and exit[] */
    FORE_PAGE_HAS_HALT = 1 << 17,  /* halt_poll_ns, halt_wait_ns */
    FORE_PAGE_HAS_DIRTY = 1 << 18,
    FORE_PAGE_HAS_RESIDENT = 1 << 19,
    FORE_PAGE_HAS_ALL = (1 << 20) - 1
} ForePageValid;

/* How the guest runs, as far as the plugin can tell. */
typedef enum {
    FORE_PAGE_MODE_UNKNOWN, /* no vCPU was seen: QEMU is still starting */
    FORE_PAGE_MODE_TCG,
    FORE_PAGE_MODE_KVM,
    FORE_PAGE_MODE_N
} ForePageMode;

/* profile= of the plugin: each level has the fields of the one before. */
typedef enum {
    FORE_PAGE_LEVEL_LEAN,
    FORE_PAGE_LEVEL_STANDARD,
    FORE_PAGE_LEVEL_FULL,
    FORE_PAGE_LEVEL_N
} ForePageLevel;

/* What the writer last said about itself. */
typedef enum {
    FORE_PAGE_WRITER_RUNNING, /* also what a QEMU that was killed leaves behind */
    FORE_PAGE_WRITER_EXITED,  /* QEMU ended in order */
    FORE_PAGE_WRITER_N
} ForePageWriter;

typedef enum {
    FORE_PAGE_VCPU_NONE,    /* never plugged; its counters are 0 */
    FORE_PAGE_VCPU_RUNNING, /* executes guest code, or may */
    FORE_PAGE_VCPU_IDLE,    /* halted or stopped since idle_since_ns */
    FORE_PAGE_VCPU_GONE,    /* unplugged; counters stay, and go on when it is plugged again */
    FORE_PAGE_VCPU_N
} ForePageVcpuState;

/* Branch instructions by class, whether or not they were taken. */
typedef enum {
    FORE_PAGE_BRANCH_CONDITIONAL,
    FORE_PAGE_BRANCH_JUMP,     /* to a fixed target */
    FORE_PAGE_BRANCH_INDIRECT, /* jump through a register or memory */
    FORE_PAGE_BRANCH_CALL,
    FORE_PAGE_BRANCH_RETURN,
    FORE_PAGE_BRANCH_N
} ForePageBranch;

/* Every instruction is of one kind; their sum is insns. */
typedef enum {
    FORE_PAGE_MIX_INTEGER, /* moves and arithmetic, and what is of no other kind */
    FORE_PAGE_MIX_SIMD_FP,
    FORE_PAGE_MIX_CONTROL, /* branches, system calls, interrupts and returns from them */
    FORE_PAGE_MIX_STRING,
    FORE_PAGE_MIX_PRIVILEGED, /* control registers, MSRs, halt, interrupt flag, TLB */
    FORE_PAGE_MIX_IO,         /* port I/O */
    FORE_PAGE_MIX_N
} ForePageMix;

/* Exits of a KVM guest by reason; the sum may be below or above exits. */
typedef enum {
    FORE_PAGE_EXIT_IO,
    FORE_PAGE_EXIT_MMIO,
    FORE_PAGE_EXIT_HALT,
    FORE_PAGE_EXIT_IRQ, /* a host interrupt, or the guest may take one */
    FORE_PAGE_EXIT_SIGNAL,
    FORE_PAGE_EXIT_EMULATION,
    FORE_PAGE_EXIT_HYPERCALL,
    FORE_PAGE_EXIT_FAULT,
    FORE_PAGE_EXIT_N
} ForePageExit;

/*
 * One vCPU's block, in the file and in a snapshot alike.  All little-endian; offsets are pinned in
 * fore-page-parse.c.  From idle_ns on all are counters: they only grow, for as long as the boot id
 * stays the same.  Everything in it is as of updated_ns.
 */
typedef struct {
    uint32_t seq;           /* odd while the block is being written; 0 in a snapshot */
    uint32_t state;         /* ForePageVcpuState */
    uint64_t plugged_ns;    /* CLOCK_MONOTONIC of the last time it was plugged; 0: never */
    uint64_t updated_ns;    /* CLOCK_MONOTONIC of this publication */
    uint64_t idle_since_ns; /* CLOCK_MONOTONIC, not above updated_ns; 0 when not idle */
    uint64_t idle_ns;       /* idle time in all finished idle periods */
    uint64_t resumes;       /* finished idle periods */
    uint64_t insns;         /* TCG: of the translated blocks that were entered; KVM: retired */
    uint64_t blocks;        /* translated blocks entered */
    uint64_t loads;         /* memory accesses that read */
    uint64_t stores;        /* memory accesses that wrote */
    uint64_t syscalls;      /* system-call instructions */
    uint64_t branch[FORE_PAGE_BRANCH_N];
    uint64_t mix[FORE_PAGE_MIX_N];
    uint64_t mmio;           /* accesses to devices in memory space */
    uint64_t space_switches; /* loads of the page-table base */
    uint64_t run_ns;         /* the vCPU thread's time on a host CPU */
    uint64_t wait_ns;        /* its time runnable, waiting for a host CPU */
    uint64_t cycles;         /* host cycles in the guest */
    uint64_t exits;
    uint64_t exit[FORE_PAGE_EXIT_N];
    uint64_t halt_poll_ns; /* KVM polled for a wake-up */
    uint64_t halt_wait_ns; /* KVM slept until a wake-up */
    uint64_t reserved[26];
    uint64_t signature[FORE_PAGE_SIGNATURE]; /* instructions by a hash of their block's code */
} ForePageVcpu;

/* One address space of the window. */
typedef struct {
    uint64_t id; /* x86: CR3 without its low 12 and high 12 bits; opaque otherwise */
    uint64_t ns; /* vCPU time in it */
} ForePageSpace;

/* What the VM has once.  Up to resident_bytes it speaks of the last finished window; the histogram
 * is of counters. */
typedef struct {
    uint32_t seq;            /* as above */
    uint32_t n_spaces;       /* entries of spaces, 0..8 */
    uint64_t updated_ns;     /* end of the window */
    uint64_t window_ns;      /* its length; 0: none has ended yet */
    uint64_t ws_pages;       /* working set: 4096-byte pages touched in it, estimated */
    uint64_t ws_error_pages; /* standard error of ws_pages */
    uint64_t ws_samples;     /* accesses that were looked at */
    uint64_t ws_seen_pages;  /* different pages among them */
    uint64_t space_ns;       /* vCPU time in all address spaces */
    ForePageSpace spaces[FORE_PAGE_SPACES]; /* the largest, largest first */
    uint64_t dirty_bytes_per_s;             /* memory newly written, per second */
    uint64_t resident_bytes;                /* guest memory resident on the host */
    uint64_t reserved[38];
    uint64_t syscall_number[FORE_PAGE_SYSCALLS]; /* executed, by number, summed over vCPUs */
} ForePageVm;

typedef struct {
    char magic[8];
    uint32_t version;
    uint32_t header_bytes;
    uint32_t page_bytes;
    uint32_t vm_bytes;
    uint32_t block_bytes;
    uint32_t max_blocks;
    uint32_t mode;                      /* ForePageMode; live */
    uint32_t level;                     /* ForePageLevel */
    uint64_t valid;                     /* ForePageValid bits; live, bits are only ever added */
    uint8_t boot_id[FORE_PAGE_BOOT_ID]; /* random, new with each start of the writer */
    uint64_t start_ns;                  /* CLOCK_MONOTONIC */
    uint64_t interval_ns;               /* between two publications, about */
    uint64_t heartbeat_ns;              /* CLOCK_MONOTONIC of the newest publication; live */
    uint32_t writer;                    /* ForePageWriter; live */
    uint32_t max_vcpus;                 /* blocks 0..max_vcpus-1 may come into use; 1..255 */
    uint32_t pid;                       /* of QEMU, in its own PID namespace; for display only */
    uint32_t reserved1;
    char uuid[40];   /* text of the VM's UUID, NUL-padded; empty when none was given */
    char target[16]; /* QEMU's target name, NUL-padded: "x86_64" */
    uint8_t reserved2[352];
} ForePageHeader;

/* --- writer --- */

/* Why this is correct under C11: every store to the words is atomic, so there is no data race.  The
 * release fence after the odd sequence number keeps the data stores from moving before it; the
 * release store of the even one keeps them from moving after it.  So a reader that sees the same
 * even number before and after its copy (with acquire order between the three) holds one
 * publication whole.  No system call, no lock, no allocation. */
static inline void fore_page_publish_words(uint64_t *to, const uint64_t *from, size_t n)
{
    uint32_t *seq_at = (uint32_t *)(void *)to; /* first half of word 0, the other half is data */
    uint32_t seq = __atomic_load_n(seq_at, __ATOMIC_RELAXED) | 1u;

    __atomic_store_n(seq_at, seq, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(seq_at + 1, ((const uint32_t *)(const void *)from)[1], __ATOMIC_RELAXED);
    for (size_t i = 1; i < n; i++) {
        __atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
    }
    __atomic_store_n(seq_at, seq + 1, __ATOMIC_RELEASE);
}

/**
 * fore_page_publish: write one vCPU's block
 * @block: in the mapped page; only one thread at a time may publish to it.  Its seq goes on
 * @from: what to write; its seq does not matter
 */
static inline void fore_page_publish(ForePageVcpu *block, const ForePageVcpu *from)
{
    fore_page_publish_words((uint64_t *)(void *)block, (const uint64_t *)(const void *)from,
                            sizeof(*block) / sizeof(uint64_t));
}

/** fore_page_publish_vm: the same for the VM's section */
static inline void fore_page_publish_vm(ForePageVm *section, const ForePageVm *from)
{
    fore_page_publish_words((uint64_t *)(void *)section, (const uint64_t *)(const void *)from,
                            sizeof(*section) / sizeof(uint64_t));
}

/* --- reader --- */

/* One consistent copy; the section and each vCPU's entry are one publication whole, they are not
 * tied to each other. */
typedef struct {
    uint64_t mono_ns;      /* CLOCK_MONOTONIC of the host, after the copy was taken */
    uint64_t heartbeat_ns; /* as in the header; beats as long as QEMU lives, stopped VM or not */
    uint64_t interval_ns;
    uint64_t valid; /* ForePageValid bits */
    uint8_t boot_id[FORE_PAGE_BOOT_ID];
    char uuid[FORE_UUID_LEN + 1];          /* "" when the plugin was not told one */
    char target[FORE_PAGE_TARGET_MAX + 1]; /* printable ASCII */
    ForePageMode mode;
    ForePageLevel level;
    ForePageWriter writer;
    uint32_t pid;     /* as QEMU wrote it: display only, never a kill target */
    unsigned n_vcpus; /* entries of @vcpu, 1..255; many may be _NONE */
    ForePageVm vm;
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
 * @ret: about 260 KiB, written on success only
 * Errors, beside those of fore_page_open():
 *   FORE_ERROR_CLOSED       the file at the path is another one now, or gone: open it again
 *   FORE_ERROR_UNAVAILABLE  a block stayed in mid-write through all tries: try again later
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

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-plugin/fore-profiler-ram.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fore-page.h"

/*
 * How it works
 *
 * Guest memory is what QEMU maps in large pieces, so ranges of at least 16 MiB are taken for it;
 * the code buffer of TCG is executable and left out.  Pages are read through /proc/self/mem: a
 * mapping that goes away meanwhile (memory unplug) is an error there and not a signal.  Only a page
 * that /proc/self/pagemap says is present is read: reading another one would give it memory, fetch
 * it from swap, or wait for it while a migration has yet to bring it.  The maps are looked at anew
 * with each step, because memory is plugged and unplugged.
 *
 * The share of changed pages among n random ones has a standard error of sqrt(p (1 - p) / n), for
 * 256 samples at most 3 per cent of the guest's memory.
 */

#define PRESENT         (UINT64_C(1) << 63) /* admin-guide/mm/pagemap.rst */
#define SWAPPED         (UINT64_C(1) << 62)
#define HASH_ABSENT     0
#define HASH_UNREADABLE UINT64_MAX
#define MAX_PAGE        65536

void fore_ram_init(ForeRam *ram, uint64_t random)
{
    memset(ram, 0, sizeof(*ram));
    ram->mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    ram->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    ram->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    ram->random = random;
}

void fore_ram_done(ForeRam *ram)
{
    if (ram->mem >= 0) {
        close(ram->mem);
    }
    if (ram->pagemap >= 0) {
        close(ram->pagemap);
    }
    ram->mem = ram->pagemap = -1;
}

static uint64_t next_random(ForeRam *ram)
{
    ram->random ^= ram->random << 13;
    ram->random ^= ram->random >> 7;
    ram->random ^= ram->random << 17;
    return ram->random;
}

static bool read_ranges(ForeRam *ram)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");

    ram->n_ranges = 0;
    ram->total_pages = 0;
    while (maps != NULL && ram->n_ranges < FORE_RAM_MAX_RANGES &&
           fgets(line, sizeof(line), maps) != NULL) {
        ForeProcRange *range = &ram->ranges[ram->n_ranges];
        if (fore_proc_parse_ram(line, strcspn(line, "\n"), FORE_RAM_MIN_BYTES, range)) {
            ram->total_pages += (range->end - range->start) / ram->page_bytes;
            ram->n_ranges++;
        }
    }
    if (maps != NULL) {
        fclose(maps);
    }
    return ram->n_ranges > 0;
}

static uint64_t random_address(ForeRam *ram)
{
    uint64_t page = next_random(ram) % ram->total_pages;

    for (unsigned i = 0; i < ram->n_ranges; i++) {
        uint64_t pages = (ram->ranges[i].end - ram->ranges[i].start) / ram->page_bytes;
        if (page < pages) {
            return ram->ranges[i].start + page * ram->page_bytes;
        }
        page -= pages;
    }
    g_assert_not_reached();
}

/* FNV-1a over words; the two values that mean something else are moved aside. */
static uint64_t hash_words(const uint64_t *words, size_t n)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ words[i]) * UINT64_C(0x100000001b3);
        hash ^= hash >> 29;
    }
    return hash == HASH_ABSENT || hash == HASH_UNREADABLE ? 1 : hash;
}

static uint64_t hash_page(const ForeRam *ram, uint64_t address)
{
    uint64_t words[MAX_PAGE / sizeof(uint64_t)], entry = 0;
    off_t entry_at = (off_t)(address / ram->page_bytes * sizeof(entry));

    if (pread(ram->pagemap, &entry, sizeof(entry), entry_at) != (ssize_t)sizeof(entry) ||
        (entry & SWAPPED) != 0) {
        return HASH_UNREADABLE;
    }
    if ((entry & PRESENT) == 0) {
        return HASH_ABSENT;
    }
    if (pread(ram->mem, words, ram->page_bytes, (off_t)address) != (ssize_t)ram->page_bytes) {
        return HASH_UNREADABLE;
    }
    return hash_words(words, ram->page_bytes / sizeof(uint64_t));
}

/* Pages among the samples that hold something else now; @ret_n: samples that could be compared. */
static unsigned count_changed(const ForeRam *ram, unsigned *ret_n)
{
    unsigned changed = 0, n = 0;

    for (unsigned i = 0; i < FORE_RAM_SAMPLES; i++) {
        uint64_t hash = hash_page(ram, ram->samples[i].address), was = ram->samples[i].hash;
        bool taken_away = hash == HASH_ABSENT && was != HASH_ABSENT; /* unplug, balloon */
        if (hash != HASH_UNREADABLE && was != HASH_UNREADABLE && !taken_away) {
            n++;
            changed += hash != was ? 1 : 0;
        }
    }
    *ret_n = n;
    return changed;
}

bool fore_ram_step(ForeRam *ram, uint64_t now_ns, uint64_t *ret_bytes_per_s)
{
    bool known = false;

    if (ram->mem < 0 || ram->pagemap < 0 || ram->page_bytes > MAX_PAGE) {
        return false;
    }
    if (ram->taken_ns != 0 && now_ns > ram->taken_ns) {
        unsigned n = 0, changed = count_changed(ram, &n);
        double seconds = (double)(now_ns - ram->taken_ns) / (double)FORE_NS_PER_S;
        double bytes = (double)ram->total_pages * (double)ram->page_bytes;

        known = n >= FORE_RAM_SAMPLES / 2;
        if (known) {
            *ret_bytes_per_s = (uint64_t)(bytes * changed / n / seconds);
        }
    }
    ram->taken_ns = 0;
    if (read_ranges(ram)) {
        for (unsigned i = 0; i < FORE_RAM_SAMPLES; i++) {
            ram->samples[i].address = random_address(ram);
            ram->samples[i].hash = hash_page(ram, ram->samples[i].address);
        }
        ram->taken_ns = now_ns;
    }
    return known;
}

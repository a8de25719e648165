/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-plugin/fore-profiler-slot.h"

#include <string.h>

#define BUCKETS 65536u /* of the hash table: a power of two, about twice FORE_SLOT_N */

static struct {
    GMutex lock; /* of what follows; readers below n need none */
    unsigned n;
    ForeSlot slots[FORE_SLOT_N];
    uint32_t of_hash[BUCKETS]; /* slot + 1; 0: free */
} table;

void fore_slot_add_insn(ForeSlot *slot, const ForeInsn *insn)
{
    slot->insns++;
    slot->mix[insn->kind]++;
    if (!insn->dynamic) {
        slot->loads += insn->loads;
        slot->stores += insn->stores;
    }
    slot->branch = insn->branch;
    slot->syscalls = insn->syscall;
}

/* FNV-1a (draft-eastlake-fnv), folded */
static uint32_t hash_of(const ForeSlot *key)
{
    const uint8_t *bytes = (const uint8_t *)key;
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < sizeof(*key); i++) {
        h = (h ^ bytes[i]) * 16777619u;
    }
    return (h ^ (h >> 16)) & (BUCKETS - 1);
}

int fore_slot_find(const ForeSlot *key)
{
    uint32_t at = hash_of(key);
    int found = -1;

    g_mutex_lock(&table.lock);
    while (table.of_hash[at] != 0 &&
           memcmp(&table.slots[table.of_hash[at] - 1], key, sizeof(*key)) != 0) {
        at = (at + 1) & (BUCKETS - 1);
    }
    if (table.of_hash[at] != 0) {
        found = (int)table.of_hash[at] - 1;
    } else if (table.n < FORE_SLOT_N) {
        found = (int)table.n;
        table.slots[table.n] = *key;
        table.of_hash[at] = table.n + 1;
        __atomic_store_n(&table.n, table.n + 1, __ATOMIC_RELEASE);
    }
    g_mutex_unlock(&table.lock);
    return found;
}

unsigned fore_slot_count(void)
{
    return __atomic_load_n(&table.n, __ATOMIC_ACQUIRE);
}

const ForeSlot *fore_slot_get(unsigned index)
{
    return &table.slots[index];
}

void fore_slot_sum(const ForeSlot *slot, uint64_t times, ForePageVcpu *to)
{
    to->insns += times * slot->insns;
    to->blocks += times;
    to->loads += times * slot->loads;
    to->stores += times * slot->stores;
    to->syscalls += times * slot->syscalls;
    if (slot->branch != FORE_INSN_NO_BRANCH) {
        to->branch[slot->branch] += times;
    }
    for (unsigned i = 0; i < FORE_PAGE_MIX_N; i++) {
        to->mix[i] += times * slot->mix[i];
    }
    to->signature[slot->bucket] += times * slot->insns;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "profile/fore-ring.h"

struct ForeRing {
    ForeSample *slot; /* [room] */
    size_t room;      /* allocated, grows by doubling up to capacity */
    size_t capacity;
    uint64_t first, next; /* next - first <= room; sample seq lives in slot[seq % room] */
};

ForeRing *fore_ring_new(size_t capacity)
{
    ForeRing *ring = g_new0(ForeRing, 1);

    g_assert(capacity >= 1);
    ring->capacity = capacity;
    ring->room = MIN(capacity, 16u);
    ring->slot = g_new0(ForeSample, ring->room);
    return ring;
}

void fore_ring_free(ForeRing *ring)
{
    if (ring != NULL) {
        g_free(ring->slot);
        g_free(ring);
    }
}

static void grow(ForeRing *ring)
{
    size_t room = MIN(ring->room * 2, ring->capacity);
    ForeSample *slot = g_new0(ForeSample, room);

    for (uint64_t seq = ring->first; seq < ring->next; seq++) {
        slot[seq % room] = ring->slot[seq % ring->room];
    }
    g_free(ring->slot);
    ring->slot = slot;
    ring->room = room;
}

void fore_ring_push(ForeRing *ring, const ForeSample *sample)
{
    if (ring->next - ring->first == ring->room) {
        if (ring->room < ring->capacity) {
            grow(ring);
        } else {
            ring->first++;
        }
    }
    ring->slot[ring->next % ring->room] = *sample;
    ring->next++;
}

uint64_t fore_ring_first(const ForeRing *ring)
{
    return ring->first;
}

uint64_t fore_ring_next(const ForeRing *ring)
{
    return ring->next;
}

const ForeSample *fore_ring_at(const ForeRing *ring, uint64_t seq)
{
    if (seq < ring->first || seq >= ring->next) {
        return NULL;
    }
    return &ring->slot[seq % ring->room];
}

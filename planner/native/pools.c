/* The caching allocator's two pools.
 *
 * The rules are those of planner/allocator/python_pools.py, which runs where this was not built and which it equals in
 * every reading (tests/planner/allocator/test_native_pools.py). Plain C without Python's headers: one library serves
 * every release of Python, and ctypes releases the GIL around each call. planner/native_library.py declares
 * the functions marked PUBLIC. Tensors are known by handles.
 */
#include "bins.h"

#include <stdlib.h>
#include <string.h>

#define MIB ((int64_t)1 << 20)
/* c10/cuda/CUDACachingAllocator.cpp; named as in planner/allocator/caching_allocator.py. */
#define SMALL_SEGMENT (2 * MIB)
#define MIN_LARGE (10 * MIB)
#define LARGE_SEGMENT (20 * MIB)
#define ROUND_LARGE (2 * MIB)

/* The handle of a tensor without elements. */
enum { NOTHING = INT32_MAX };

static int64_t segment_bytes(int64_t size) {
    if (size <= SMALL_SIZE) return SMALL_SEGMENT;
    if (size < MIN_LARGE) return LARGE_SEGMENT;
    return round_up(size, ROUND_LARGE);
}

/* ---- records of blocks ---- */

/* The number of a record with nothing in it. */
static int32_t new_record(pool *p) {
    int32_t number = p->unused;
    if (number != NONE) {
        p->unused = p->block[number].above;
        return number;
    }
    if (p->blocks == p->blocks_room) {
        int32_t room = p->blocks_room ? 2 * p->blocks_room : 256;
        block *moved = realloc(p->block, room * sizeof *moved);
        if (!moved) return OUT_OF_HOST_MEMORY;
        p->block = moved;
        p->blocks_room = room;
    }
    return p->blocks++;
}

/* A block in use that is the whole of what the driver gave. */
static int32_t new_block(pool *p, int64_t address, int64_t size, int32_t below) {
    int32_t number = new_record(p);
    if (number >= 0) {
        p->block[number] = (block){.address = address, .size = size, .below = below, .above = NONE, .state = USED};
    }
    return number;
}

static void drop_block(pool *p, int32_t number) {
    p->block[number].state = UNUSED_RECORD;
    p->block[number].above = p->unused;
    p->unused = number;
}

/* ---- memory from the driver ---- */

static int64_t needed(const pools *all, const pool *p, int64_t size) {
    if (!all->expandable) return segment_bytes(size);
    return round_up(size - (is_free(p, p->last) ? p->block[p->last].size : 0), p->page);
}

static int64_t lacking(const pools *all, const pool *p, int64_t size) {
    return all->capacity == NONE ? 0 : all->reserved + needed(all, p, size) - all->capacity;
}

static void reserve(pools *all, int64_t size) {
    all->reserved += size;
    if (all->reserved > all->peak_reserved) all->peak_reserved = all->reserved;
}

/* The whole pages of the free block at the end of the range. */
static void unmap_end(pools *all, pool *p) {
    int32_t last = p->last;
    if (!is_free(p, last)) return;
    withdraw(p, last);
    block *b = &p->block[last];
    int64_t kept = round_up(b->address, p->page) - b->address;
    all->reserved -= b->size - kept;
    p->edge = b->address + kept;
    if (kept) {
        b->size = kept;
        offer(p, last);
        return;
    }
    p->last = b->below;
    if (p->last != NONE) p->block[p->last].above = NONE;
    drop_block(p, last);
}

/* Every segment that is one free block. */
static void give_back_segments(pools *all, pool *p) {
    for (int32_t number = first_from(p, 0), next; number != NONE; number = next) {
        next = next_of(p, number);
        const block *b = &p->block[number];
        if (b->below != NONE || b->above != NONE) continue;
        withdraw(p, number);
        all->reserved -= b->size;
        drop_block(p, number);
    }
}

PUBLIC void pools_empty_cache(pools *all) {
    for (pool *p = all->of; p < all->of + POOLS; p++) {
        if (all->expandable) unmap_end(all, p);
        else give_back_segments(all, p);
    }
}

/* Where the next segment lies, which never touches another; BEYOND_RANGE where there is no room for it. */
static int64_t next_address(const pools *all, const pool *p, int64_t size) {
    int64_t span = size + MIN_BLOCK;
    if (all->oldest_first) return span > HIGHEST_ADDRESS - p->edge ? BEYOND_RANGE : p->edge + MIN_BLOCK;
    return span > p->edge ? BEYOND_RANGE : p->edge - span;
}

/* A block of at least `size` on no list. */
static int32_t grow(pools *all, pool *p, int64_t size) {
    if (lacking(all, p, size) > 0) {
        pools_empty_cache(all);
        if (lacking(all, p, size) > 0) {
            all->requested = size;
            all->shortage = lacking(all, p, size);
            return OUT_OF_DEVICE_MEMORY;
        }
    }
    int64_t more = needed(all, p, size);
    if (!all->expandable) {
        int64_t address = next_address(all, p, more);
        if (address < 0) return BEYOND_RANGE;
        p->edge = all->oldest_first ? address + more : address;
        reserve(all, more);
        return new_block(p, address, more, NONE);
    }
    if (p->edge + more > HIGHEST_ADDRESS) return BEYOND_RANGE;
    int32_t number = p->last;
    if (is_free(p, number)) {
        withdraw(p, number);
        p->block[number].size += more;
        p->block[number].state = USED;
    } else {
        number = new_block(p, p->edge, more, p->last);
        if (number < 0) return number;
        if (p->last != NONE) p->block[p->last].above = number;
        p->last = number;
    }
    p->edge += more;
    reserve(all, more);
    return number;
}

/* ---- tensors ---- */

/* What is above `size` becomes a block of its own, on no list; returns it. */
static int32_t cut(pool *p, int32_t number, int64_t size) {
    int32_t rest = new_record(p);
    if (rest < 0) return rest;
    block *lower = &p->block[number], *upper = &p->block[rest];
    upper->address = lower->address + size;
    upper->size = lower->size - size;
    upper->below = number;
    upper->above = lower->above;
    if (lower->above != NONE) p->block[lower->above].below = rest;
    lower->above = rest;
    lower->size = size;
    if (p->last == number) p->last = rest;
    return rest;
}

PUBLIC int32_t pools_allocate(pools *all, int64_t bytes) {
    if (bytes > HIGHEST_ADDRESS) return BEYOND_RANGE;
    if (bytes == 0) return NOTHING;
    int64_t size = round_up(bytes, MIN_BLOCK);
    const int is_small = size <= SMALL_SIZE;
    pool *p = &all->of[is_small];
    int32_t number = best_fit(p, size);
    /* The block at the range's end counts as large as it can become: any other that is enough fits better. */
    if (all->expandable && number != NONE && number == p->last) {
        int32_t next = next_of(p, number);
        if (next != NONE) number = next;
    }
    if (number != NONE) withdraw(p, number);
    else number = grow(all, p, size);
    if (number < 0) return number;
    p->block[number].state = USED;
    if (p->block[number].size - size >= p->smallest_rest) {
        const int32_t rest = cut(p, number, size);
        if (rest < 0) return rest;
        offer(p, rest);
    }
    all->allocated += p->block[number].size;
    return number * POOLS + is_small;
}

/* `upper` becomes part of `lower`, which lies below it. */
static void absorb(pool *p, int32_t lower, int32_t upper) {
    p->block[lower].size += p->block[upper].size;
    p->block[lower].above = p->block[upper].above;
    if (p->block[upper].above != NONE) p->block[p->block[upper].above].below = lower;
    if (p->last == upper) p->last = lower;
    drop_block(p, upper);
}

PUBLIC void pools_free(pools *all, int32_t handle) {
    if (handle == NOTHING) return;
    pool *p = &all->of[handle % POOLS];
    int32_t number = handle / POOLS;
    all->allocated -= p->block[number].size;
    int32_t below = p->block[number].below, above = p->block[number].above;
    if (is_free(p, above)) {
        withdraw(p, above);
        absorb(p, number, above);
    }
    if (is_free(p, below)) {
        withdraw(p, below);
        absorb(p, below, number);
        number = below;
    }
    offer(p, number);
}

int pools_meet(const pools *all) { return all->capacity != NONE; }

int32_t pools_move(pools *all, const move *moves, int32_t count, int32_t *numbered) {
    for (const move *each = moves; each < moves + count; each++) {
        if (each->number < 0) {
            pools_free(all, numbered[~each->number]);
            continue;
        }
        const int32_t made = numbered[each->number] = pools_allocate(all, each->bytes);
        if (made < 0) return made;
    }
    return 0;
}

/* ---- the life of the pools ---- */

PUBLIC void pools_delete(pools *all) {
    for (pool *p = all->of; p < all->of + POOLS; p++) {
        free(p->block);
    }
    free(all);
}

PUBLIC pools *pools_new(int32_t expandable, int32_t oldest_first, int64_t capacity) {
    pools *all = calloc(1, sizeof *all);
    if (!all) return NULL;
    all->expandable = expandable;
    all->oldest_first = oldest_first;
    all->capacity = capacity;
    for (int which = 0; which < POOLS; which++) {
        pool *p = &all->of[which];
        p->edge = expandable || oldest_first ? 0 : HIGHEST_ADDRESS;
        p->page = which == SMALL ? SMALL_SEGMENT : LARGE_SEGMENT;
        p->smallest_rest = expandable || which == SMALL ? MIN_BLOCK : SMALL_SIZE + 1;
        p->last = p->unused = NONE;
    }
    return all;
}

static void *copy_of(const void *from, size_t bytes) {
    void *to = malloc(bytes ? bytes : 1);
    if (to && bytes) memcpy(to, from, bytes);
    return to;
}

PUBLIC pools *pools_copy(const pools *all) {
    pools *twin = copy_of(all, sizeof *all);
    if (!twin) return NULL;
    int whole = 1;
    for (int which = 0; which < POOLS; which++) {
        const pool *p = &all->of[which];
        twin->of[which].block = copy_of(p->block, p->blocks_room * sizeof *p->block);
        whole = whole && twin->of[which].block;
    }
    if (whole) return twin;
    pools_delete(twin);
    return NULL;
}

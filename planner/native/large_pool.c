/* The caching allocator's large pool.
 *
 * The rules are those of planner/allocator/large_pool.py, which runs where this was not built and which it equals in
 * every reading (tests/planner/allocator/test_native_pool.py). Plain C without Python's headers: one library serves
 * every release of Python, and ctypes releases the GIL around each call. planner/allocator/native_pool.py declares the
 * functions marked PUBLIC. Tensors are known by the number of their block.
 */
#include "large_pool.h"

#include <stdlib.h>
#include <string.h>

#define MIB ((int64_t)1 << 20)
/* c10/cuda/CUDACachingAllocator.cpp; named as in planner/allocator/caching_allocator.py. */
#define MIN_BLOCK ((int64_t)512)
#define SMALL_SEGMENT (2 * MIB)
#define MIN_LARGE (10 * MIB)
#define LARGE_SEGMENT (20 * MIB)
#define ROUND_LARGE (2 * MIB)
/* A key has 48 bits for a size and 48 for an address. What needs more is left to Python's integers. */
#define HIGHEST_ADDRESS ((int64_t)1 << 47)

enum { NONE = -1 };
enum { FREE, USED, UNUSED_RECORD };

static int64_t round_up(int64_t size, int64_t unit) { return (size + unit - 1) / unit * unit; }

static int64_t segment_bytes(int64_t size) {
    if (size <= SMALL_SIZE) return SMALL_SEGMENT;
    if (size < MIN_LARGE) return LARGE_SEGMENT;
    return round_up(size, ROUND_LARGE);
}

/* ---- records of blocks ---- */

static int32_t new_block(pool *p, block made) {
    int32_t number = p->unused;
    if (number != NONE) {
        p->unused = p->block[number].above;
    } else {
        if (p->blocks == p->blocks_room) {
            int32_t room = p->blocks_room ? 2 * p->blocks_room : 256;
            block *moved = realloc(p->block, room * sizeof *moved);
            if (!moved) return OUT_OF_HOST_MEMORY;
            p->block = moved;
            p->blocks_room = room;
        }
        number = p->blocks++;
    }
    p->block[number] = made;
    return number;
}

static void drop_block(pool *p, int32_t number) {
    p->block[number].state = UNUSED_RECORD;
    p->block[number].above = p->unused;
    p->unused = number;
}

static int is_free(const pool *p, int32_t number) { return number != NONE && p->block[number].state == FREE; }

/* ---- the free blocks ---- */

static key key_of(int64_t size, int64_t address, int32_t number) {
    return (key)(uint64_t)size << 80 | (key)(uint64_t)address << 32 | (uint32_t)number;
}

static int32_t first_not_below(const pool *p, key wanted) {
    int32_t low = 0, high = p->keys;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (p->key[middle] < wanted) low = middle + 1;
        else high = middle;
    }
    return low;
}

static int offer(pool *p, int32_t number) {
    block *b = &p->block[number];
    if (p->keys == p->keys_room) {
        int32_t room = p->keys_room ? 2 * p->keys_room : 128;
        key *moved = realloc(p->key, room * sizeof *moved);
        if (!moved) return OUT_OF_HOST_MEMORY;
        p->key = moved;
        p->keys_room = room;
    }
    key own = key_of(b->size, b->address, number);
    int32_t at = first_not_below(p, own);
    memmove(p->key + at + 1, p->key + at, (p->keys - at) * sizeof *p->key);
    p->key[at] = own;
    p->keys++;
    b->state = FREE;
    return 0;
}

static void withdraw_at(pool *p, int32_t at) {
    p->keys--;
    memmove(p->key + at, p->key + at + 1, (p->keys - at) * sizeof *p->key);
}

static void withdraw(pool *p, int32_t number) {
    const block *b = &p->block[number];
    withdraw_at(p, first_not_below(p, key_of(b->size, b->address, number)));
}

/* ---- memory from the driver ---- */

static int64_t needed(const pool *p, int64_t size) {
    if (!p->expandable) return segment_bytes(size);
    return round_up(size - (is_free(p, p->last) ? p->block[p->last].size : 0), LARGE_SEGMENT);
}

static int64_t lacking(const pool *p, int64_t size) {
    return p->capacity == NONE ? 0 : p->reserved + needed(p, size) - p->capacity;
}

static void reserve(pool *p, int64_t size) {
    p->reserved += size;
    if (p->reserved > p->peak_reserved) p->peak_reserved = p->reserved;
}

/* The whole pages of the free block at the end of the range. */
static int unmap_end(pool *p) {
    int32_t last = p->last;
    if (!is_free(p, last)) return 0;
    withdraw(p, last);
    block *b = &p->block[last];
    int64_t kept = round_up(b->address, LARGE_SEGMENT) - b->address;
    p->reserved -= b->size - kept;
    p->edge = b->address + kept;
    if (kept) {
        b->size = kept;
        return offer(p, last);
    }
    p->last = b->below;
    if (p->last != NONE) p->block[p->last].above = NONE;
    drop_block(p, last);
    return 0;
}

/* Every segment that is one free block. */
static void give_back_segments(pool *p) {
    int32_t kept = 0;
    for (int32_t at = 0; at < p->keys; at++) {
        int32_t number = (int32_t)p->key[at];
        const block *b = &p->block[number];
        if (b->below == NONE && b->above == NONE) {
            p->reserved -= b->size;
            drop_block(p, number);
        } else {
            p->key[kept++] = p->key[at];
        }
    }
    p->keys = kept;
}

PUBLIC int32_t pool_empty_cache(pool *p) {
    if (p->expandable) return unmap_end(p);
    give_back_segments(p);
    return 0;
}

/* Of a segment, which never touches another; below zero where there is none. */
static int64_t new_address(pool *p, int64_t size) {
    int64_t span = size + MIN_BLOCK;
    if (p->oldest_first) {
        if (span > HIGHEST_ADDRESS - p->edge) return BEYOND_RANGE;
        p->edge += span;
        return p->edge - size;
    }
    if (span > p->edge) return BEYOND_RANGE;
    p->edge -= span;
    return p->edge;
}

/* A block of at least `size` on no list. */
static int32_t grow(pool *p, int64_t size) {
    if (lacking(p, size) > 0) {
        int failed = pool_empty_cache(p);
        if (failed) return failed;
        if (lacking(p, size) > 0) {
            p->requested = size;
            p->shortage = lacking(p, size);
            return OUT_OF_DEVICE_MEMORY;
        }
    }
    int64_t more = needed(p, size);
    if (!p->expandable) {
        int64_t address = new_address(p, more);
        if (address < 0) return BEYOND_RANGE;
        reserve(p, more);
        return new_block(p, (block){address, more, NONE, NONE, USED});
    }
    if (p->edge + more > HIGHEST_ADDRESS) return BEYOND_RANGE;
    int32_t number = p->last;
    if (is_free(p, number)) {
        withdraw(p, number);
        p->block[number].size += more;
        p->block[number].state = USED;
    } else {
        number = new_block(p, (block){p->edge, more, p->last, NONE, USED});
        if (number < 0) return number;
        if (p->last != NONE) p->block[p->last].above = number;
        p->last = number;
    }
    p->edge += more;
    reserve(p, more);
    return number;
}

/* ---- tensors ---- */

static int cut(pool *p, int32_t number, int64_t size) {
    block whole = p->block[number];
    int32_t rest = new_block(p, (block){whole.address + size, whole.size - size, number, whole.above, USED});
    if (rest < 0) return rest;
    if (whole.above != NONE) p->block[whole.above].below = rest;
    p->block[number].above = rest;
    p->block[number].size = size;
    if (p->last == number) p->last = rest;
    return offer(p, rest);
}

PUBLIC int32_t pool_allocate(pool *p, int64_t bytes) {
    if (bytes > HIGHEST_ADDRESS) return BEYOND_RANGE;
    int64_t size = round_up(bytes, MIN_BLOCK);
    int32_t at = first_not_below(p, key_of(size, 0, 0)), number;
    if (at < p->keys) {
        /* The block at the range's end counts as large as it can become: any other that is enough fits better. */
        if (p->expandable && at + 1 < p->keys && (int32_t)p->key[at] == p->last) at++;
        number = (int32_t)p->key[at];
        withdraw_at(p, at);
    } else {
        number = grow(p, size);
        if (number < 0) return number;
    }
    p->block[number].state = USED;
    if (p->block[number].size - size >= p->smallest_rest) {
        int failed = cut(p, number, size);
        if (failed) return failed;
    }
    p->allocated += p->block[number].size;
    return number;
}

/* `upper` becomes part of `lower`, which lies below it. */
static void absorb(pool *p, int32_t lower, int32_t upper) {
    p->block[lower].size += p->block[upper].size;
    p->block[lower].above = p->block[upper].above;
    if (p->block[upper].above != NONE) p->block[p->block[upper].above].below = lower;
    if (p->last == upper) p->last = lower;
    drop_block(p, upper);
}

PUBLIC int32_t pool_free(pool *p, int32_t number) {
    p->allocated -= p->block[number].size;
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
    return offer(p, number);
}

/* ---- the life of a pool ---- */

PUBLIC void pool_delete(pool *p) {
    free(p->block);
    free(p->key);
    free(p);
}

PUBLIC pool *pool_new(int32_t expandable, int32_t oldest_first, int64_t capacity) {
    pool *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->expandable = expandable;
    p->oldest_first = oldest_first;
    p->capacity = capacity;
    p->edge = expandable || oldest_first ? 0 : HIGHEST_ADDRESS;
    p->smallest_rest = expandable ? MIN_BLOCK : SMALL_SIZE + 1;
    p->last = p->unused = NONE;
    return p;
}

static void *copy_of(const void *from, size_t bytes) {
    void *to = malloc(bytes ? bytes : 1);
    if (to && bytes) memcpy(to, from, bytes);
    return to;
}

PUBLIC pool *pool_copy(const pool *p) {
    pool *twin = copy_of(p, sizeof *p);
    if (!twin) return NULL;
    twin->block = copy_of(p->block, p->blocks_room * sizeof *p->block);
    twin->key = copy_of(p->key, p->keys_room * sizeof *p->key);
    if (twin->block && twin->key) return twin;
    pool_delete(twin);
    return NULL;
}

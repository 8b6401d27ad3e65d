/* The caching allocator's two pools.
 *
 * The rules are those of planner/allocator/python_pools.py, which runs where this was not built and which it equals in
 * every reading (tests/planner/allocator/test_native_pools.py). Plain C without Python's headers: one library serves
 * every release of Python, and ctypes releases the GIL around each call. planner/native_pools.py declares
 * the functions marked PUBLIC. Tensors are known by handles.
 */
#include "pools.h"

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
/* The handle of a tensor without elements. */
enum { NOTHING = INT32_MAX };
enum { FREE, USED, RELEASED, UNUSED_RECORD };

static int64_t round_up(int64_t size, int64_t unit) { return (size + unit - 1) / unit * unit; }

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
    if (number >= 0) p->block[number] = (block){address, size, below, NONE, USED};
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

/* Of the keys from `low` up to `high` the first that is not below `wanted`. Without a branch: which half it is in is as
 * good as random, and a processor guesses wrong half of the time. */
static int32_t first_between(const pool *p, int32_t low, int32_t high, key wanted) {
    const key *from = p->key + low;
    for (int32_t left = high - low; left > 0;) {
        int32_t half = (left + 1) / 2;
        from += from[half - 1] < wanted ? half : 0;
        left -= half;
    }
    return (int32_t)(from - p->key);
}

static int32_t first_not_below(const pool *p, key wanted) { return first_between(p, 0, p->keys, wanted); }

/* The first that is large enough: the upper half of a key decides, as the lower half of the wanted one would be 0. */
static int32_t first_of_size(const pool *p, int64_t size) {
    const uint64_t wanted = (uint64_t)size << 16;
    const key *from = p->key;
    for (int32_t left = p->keys; left > 0;) {
        int32_t half = (left + 1) / 2;
        from += (uint64_t)(from[half - 1] >> 64) < wanted ? half : 0;
        left -= half;
    }
    return (int32_t)(from - p->key);
}

static int32_t place_of(const pool *p, int32_t number) {
    const block *b = &p->block[number];
    return first_not_below(p, key_of(b->size, b->address, number));
}

static int make_room(pool *p, int32_t keys) {
    if (keys <= p->keys_room) return 0;
    key *moved = realloc(p->key, keys * sizeof *moved);
    if (!moved) return OUT_OF_HOST_MEMORY;
    p->key = moved;
    p->keys_room = keys;
    return 0;
}

static int offer(pool *p, int32_t number) {
    block *b = &p->block[number];
    int failed = p->keys == p->keys_room ? make_room(p, p->keys_room ? 2 * p->keys_room : 128) : 0;
    if (failed) return failed;
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

static void withdraw(pool *p, int32_t number) { withdraw_at(p, place_of(p, number)); }

/* Block `number`, whose size has changed, takes the place of the free block at `at`, and is moved from there. */
static void replace_at(pool *p, int32_t at, int32_t number) {
    block *b = &p->block[number];
    key own = key_of(b->size, b->address, number), *k = p->key;
    int32_t to = at;
    if (at > 0 && k[at - 1] > own) {
        to = first_between(p, 0, at, own);
        memmove(k + to + 1, k + to, (at - to) * sizeof *k);
    } else if (at + 1 < p->keys && k[at + 1] < own) {
        to = first_between(p, at + 1, p->keys, own) - 1;
        memmove(k + at, k + at + 1, (to - at) * sizeof *k);
    }
    k[to] = own;
    b->state = FREE;
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
static int unmap_end(pools *all, pool *p) {
    int32_t last = p->last;
    if (!is_free(p, last)) return 0;
    withdraw(p, last);
    block *b = &p->block[last];
    int64_t kept = round_up(b->address, p->page) - b->address;
    all->reserved -= b->size - kept;
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
static void give_back_segments(pools *all, pool *p) {
    int32_t kept = 0;
    for (int32_t at = 0; at < p->keys; at++) {
        int32_t number = (int32_t)p->key[at];
        const block *b = &p->block[number];
        if (b->below == NONE && b->above == NONE) {
            all->reserved -= b->size;
            drop_block(p, number);
        } else {
            p->key[kept++] = p->key[at];
        }
    }
    p->keys = kept;
}

PUBLIC int32_t pools_empty_cache(pools *all) {
    int failed = 0;
    for (pool *p = all->of; p < all->of + POOLS && !failed; p++) {
        if (all->expandable) failed = unmap_end(all, p);
        else give_back_segments(all, p);
    }
    return failed;
}

/* Of a segment, which never touches another; below zero where there is none. */
static int64_t new_address(const pools *all, pool *p, int64_t size) {
    int64_t span = size + MIN_BLOCK;
    if (all->oldest_first) {
        if (span > HIGHEST_ADDRESS - p->edge) return BEYOND_RANGE;
        p->edge += span;
        return p->edge - size;
    }
    if (span > p->edge) return BEYOND_RANGE;
    p->edge -= span;
    return p->edge;
}

/* A block of at least `size` on no list. */
static int32_t grow(pools *all, pool *p, int64_t size) {
    if (lacking(all, p, size) > 0) {
        int failed = pools_empty_cache(all);
        if (failed) return failed;
        if (lacking(all, p, size) > 0) {
            all->requested = size;
            all->shortage = lacking(all, p, size);
            return OUT_OF_DEVICE_MEMORY;
        }
    }
    int64_t more = needed(all, p, size);
    if (!all->expandable) {
        int64_t address = new_address(all, p, more);
        if (address < 0) return BEYOND_RANGE;
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
    int is_small = size <= SMALL_SIZE;
    pool *p = &all->of[is_small];
    int32_t at = first_of_size(p, size), number;
    int is_listed = at < p->keys;
    if (is_listed) {
        /* The block at the range's end counts as large as it can become: any other that is enough fits better. */
        if (all->expandable && at + 1 < p->keys && (int32_t)p->key[at] == p->last) at++;
        number = (int32_t)p->key[at];
    } else {
        number = grow(all, p, size);
        if (number < 0) return number;
    }
    p->block[number].state = USED;
    if (p->block[number].size - size >= p->smallest_rest) {
        int32_t rest = cut(p, number, size);
        if (rest < 0) return rest;
        if (is_listed) {
            replace_at(p, at, rest);
        } else {
            int failed = offer(p, rest);
            if (failed) return failed;
        }
    } else if (is_listed) {
        withdraw_at(p, at);
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

PUBLIC int32_t pools_free(pools *all, int32_t handle) {
    if (handle == NOTHING) return 0;
    pool *p = &all->of[handle % POOLS];
    int32_t number = handle / POOLS;
    all->allocated -= p->block[number].size;
    int32_t below = p->block[number].below, above = p->block[number].above, listed = NONE;
    if (is_free(p, above)) listed = above;
    if (is_free(p, below)) {
        if (listed != NONE) withdraw(p, above);
        listed = below;
    }
    if (listed == NONE) return offer(p, number);
    int32_t at = place_of(p, listed);
    if (is_free(p, above)) absorb(p, number, above);
    if (listed == below) {
        absorb(p, below, number);
        number = below;
    }
    replace_at(p, at, number);
    return 0;
}

int pools_meet(const pools *all) { return all->capacity != NONE; }

int32_t pools_move(pools *all, const move *moves, int32_t count, int32_t *numbered) {
    for (const move *each = moves; each < moves + count; each++) {
        int32_t result;
        if (each->number >= 0) result = numbered[each->number] = pools_allocate(all, each->bytes);
        else result = pools_free(all, numbered[~each->number]);
        if (result < 0) return result;
    }
    return 0;
}

static int in_order(const void *one, const void *other) {
    key a = *(const key *)one, b = *(const key *)other;
    return (a > b) - (a < b);
}

/* Merges block `number` with what is released above it; a released block below takes it in when its turn comes. */
static void gather(pool *p, int32_t number) {
    block *b = &p->block[number];
    if (b->state != RELEASED || (b->below != NONE && p->block[b->below].state == RELEASED)) return;
    while (b->above != NONE && p->block[b->above].state == RELEASED) absorb(p, number, b->above);
    b->state = FREE;
    p->key[p->keys++] = key_of(b->size, b->address, number);
}

/* Frees many at a time: the list of free blocks is made anew and sorted, which takes less than a place for each. The
 * outcome is the same in whatever order they go. */
PUBLIC int32_t pools_free_many(pools *all, const int32_t *handles, int32_t count) {
    int32_t in_pool[POOLS] = {0, 0};
    for (int32_t i = 0; i < count; i++) {
        if (handles[i] == NOTHING) continue;
        block *b = &all->of[handles[i] % POOLS].block[handles[i] / POOLS];
        b->state = RELEASED;
        all->allocated -= b->size;
        in_pool[handles[i] % POOLS]++;
    }
    for (pool *p = all->of; p < all->of + POOLS; p++) {
        if (!in_pool[p - all->of]) continue;
        int32_t listed = p->keys;
        int failed = make_room(p, listed + in_pool[p - all->of]);
        if (failed) return failed;
        int32_t *before = malloc((listed + 1) * sizeof *before);
        if (!before) return OUT_OF_HOST_MEMORY;
        for (int32_t i = 0; i < listed; i++) {
            before[i] = (int32_t)p->key[i];
            p->block[before[i]].state = RELEASED;
        }
        p->keys = 0;
        for (int32_t i = 0; i < listed; i++) gather(p, before[i]);
        free(before);
        for (int32_t i = 0; i < count; i++) {
            if (handles[i] != NOTHING && &all->of[handles[i] % POOLS] == p) gather(p, handles[i] / POOLS);
        }
        qsort(p->key, p->keys, sizeof *p->key, in_order);
    }
    return 0;
}

/* ---- the life of the pools ---- */

PUBLIC void pools_delete(pools *all) {
    for (pool *p = all->of; p < all->of + POOLS; p++) {
        free(p->block);
        free(p->key);
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
        twin->of[which].key = copy_of(p->key, p->keys_room * sizeof *p->key);
        whole = whole && twin->of[which].block && twin->of[which].key;
    }
    if (whole) return twin;
    pools_delete(twin);
    return NULL;
}

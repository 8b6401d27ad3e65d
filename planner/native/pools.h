/* Both pools of the caching allocator: their record, and what play.c calls of it. Bytes and addresses are int64_t. */
#ifndef FITPROOF_POOLS_H
#define FITPROOF_POOLS_H

#include <stdint.h>

#define PUBLIC __attribute__((visibility("default")))

/* c10/cuda/CUDACachingAllocator.cpp, kSmallSize; named as in planner/allocator/caching_allocator.py. */
#define SMALL_SIZE ((int64_t)1 << 20)

/* kMinBlockSize: every size is a multiple of it. */
#define MIN_BLOCK ((int64_t)512)

enum { NONE = -1 };
enum { FREE, USED, UNUSED_RECORD };

/* What a function returns instead of a block: the pools may then only be read and deleted. */
enum { OUT_OF_DEVICE_MEMORY = -1, BEYOND_RANGE = -2, OUT_OF_HOST_MEMORY = -3 };

typedef struct {
    int64_t address, size;
    int32_t below, above; /* neighbours in the segment; of an unused record, `above` is the next unused one */
    int32_t before, after; /* of a free block, its neighbours in the bin */
    int32_t state;
} block;

/* Free blocks lie in bins by size: 16 for each power of two, counted in blocks of 512 bytes, of which there are fewer
 * than 2^39. In a bin they are chained in order of size and, of equals, of address; the bins that hold any are marked by
 * a bit each. So a free block is found and put back in a few steps, and goes from between others in one. */
enum { BINS = 36 * 16, BITS = 64 };

typedef struct {
    int64_t edge; /* where the range ends, or the last segment lies */
    int64_t page; /* what an expandable range grows by */
    int64_t smallest_rest;
    int32_t last; /* expandable: the block at the end of the range */
    int32_t blocks, blocks_room, unused;
    block *block;
    uint64_t filled[BINS / BITS];
    int32_t first[BINS]; /* of each filled bin, its first block */
} pool;

enum { LARGE, SMALL, POOLS };

typedef struct {
    int64_t allocated, reserved, peak_reserved; /* of both; read by Python, as are the next two */
    int64_t requested, shortage;                /* of the request that ran out of memory */
    int64_t capacity;                           /* NONE: plenty */
    int32_t expandable;
    int32_t oldest_first; /* of equal blocks the oldest segment's: segments lie upwards, else downwards */
    pool of[POOLS];
} pools;

/* A tensor of so many bytes that comes as `number`, or one that goes, where that is below zero, as ~number. */
typedef struct {
    int64_t bytes;
    int32_t number;
} move;

/* Whether the pools have a capacity, which they share. */
int pools_meet(const pools *all);
/* Plays moves in their order; handles by number are in `numbered`. 0, or what a function returns instead of a block. */
int32_t pools_move(pools *all, const move *moves, int32_t count, int32_t *numbered);

/* A tensor's handle: the number of its block, and the pool it is in; negative where there is no block. */
int32_t pools_allocate(pools *all, int64_t bytes);
void pools_free(pools *all, int32_t handle);

#endif

/* The free blocks of one pool: in bins by size, each chained in order (pools.h). */
#ifndef FITPROOF_BINS_H
#define FITPROOF_BINS_H

#include "pools.h"

/* The bins end with it. What needs more is left to Python's integers. */
#define HIGHEST_ADDRESS ((int64_t)1 << 47)

static inline int64_t round_up(int64_t size, int64_t unit) { return (size + unit - 1) / unit * unit; }

static inline int is_free(const pool *p, int32_t number) { return number != NONE && p->block[number].state == FREE; }

static inline int bin_of(int64_t size) {
    uint64_t units = (uint64_t)size / MIN_BLOCK;
    if (units < 16) return (int)units;
    int shift = 59 - __builtin_clzll(units); /* until 16 to 31 are left */
    return 16 * shift + (int)(units >> shift);
}

/* The first block of the first bin from `bin` on that holds any; NONE where there is none. */
static inline int32_t first_from(const pool *p, int bin) {
    int word = bin / BITS;
    if (word == BINS / BITS) return NONE;
    uint64_t left = p->filled[word] & ~(uint64_t)0 << bin % BITS;
    while (!left) {
        if (++word == BINS / BITS) return NONE;
        left = p->filled[word];
    }
    return p->first[BITS * word + __builtin_ctzll(left)];
}

static inline int is_filled(const pool *p, int bin) { return p->filled[bin / BITS] >> bin % BITS & 1; }

/* The next larger free block, or of equals the next higher one. */
static inline int32_t next_of(const pool *p, int32_t number) {
    const block *b = &p->block[number];
    return b->after != NONE ? b->after : first_from(p, bin_of(b->size) + 1);
}

/* The smallest that is large enough and, of equals, the lowest. */
static inline int32_t best_fit(const pool *p, int64_t size) {
    int bin = bin_of(size);
    if (is_filled(p, bin)) {
        for (int32_t number = p->first[bin]; number != NONE; number = p->block[number].after) {
            if (p->block[number].size >= size) return number;
        }
    }
    return first_from(p, bin + 1);
}

static inline int is_before(const block *one, const block *other) {
    return one->size != other->size ? one->size < other->size : one->address < other->address;
}

static inline void offer(pool *p, int32_t number) {
    block *b = &p->block[number];
    int bin = bin_of(b->size);
    int32_t before = NONE, after = is_filled(p, bin) ? p->first[bin] : NONE;
    while (after != NONE && is_before(&p->block[after], b)) {
        before = after;
        after = p->block[after].after;
    }
    b->before = before;
    b->after = after;
    b->state = FREE;
    if (after != NONE) p->block[after].before = number;
    if (before != NONE) {
        p->block[before].after = number;
    } else {
        p->first[bin] = number;
        p->filled[bin / BITS] |= (uint64_t)1 << bin % BITS;
    }
}

static inline void withdraw(pool *p, int32_t number) {
    const block *b = &p->block[number];
    if (b->after != NONE) p->block[b->after].before = b->before;
    if (b->before != NONE) {
        p->block[b->before].after = b->after;
        return;
    }
    int bin = bin_of(b->size);
    p->first[bin] = b->after;
    if (b->after == NONE) p->filled[bin / BITS] &= ~((uint64_t)1 << bin % BITS);
}

#endif

/* Bytes of a program's tensors by key (planner/step/engine/tables.py, which has the same rule in Python).
 *
 * `keys`: how many; then of each its numerator and denominator, how many dimensions it has, and the places of their
 * numbers in `numbers`. The product over the denominator, rounded up, and then up to whole granules of `granule` bytes.
 */
#include "pools.h"

/* A sum of as many of these as a step has moves stays below 2^63. */
#define MOST_BYTES ((int64_t)1 << 44)

/* 0, or BEYOND_RANGE where some tensor is larger than segment_peaks.c can add up, or negative on the way. */
PUBLIC int32_t bytes_of_keys(const int64_t *keys, const int64_t *numbers, int64_t granule, int64_t *bytes) {
    const int64_t count = *keys++;
    for (int64_t i = 0; i < count; i++) {
        __int128 product = keys[0];
        const int64_t denominator = keys[1], *dimension = keys + 3, *end = dimension + keys[2];
        for (; dimension < end; dimension++) {
            product *= numbers[*dimension];
            if (product < 0 || product > INT64_MAX / 2) return BEYOND_RANGE;
        }
        keys = end;
        int64_t size = ((int64_t)product + denominator - 1) / denominator;
        if (size > MOST_BYTES) return BEYOND_RANGE;
        bytes[i] = (size + granule - 1) / granule * granule;
    }
    return 0;
}

/* The worst moment of each phase of a step (planner/step/engine/segment_peaks.py, which has the same rule in Python).
 *
 * `segments`: how many; then of each which phase it is of, how many moves it has, and these: key of a tensor that
 * comes, ~key of one that goes. `tables`: of each segment, the address of its bytes by key. `played`: the `length`
 * segments in the order they happen. `worst`: of each phase the most bytes, the position in `played` that has them, and
 * how many moves of it have happened then; untouched where a phase has none more than it says.
 */
#include "pools.h"

#include <stdlib.h>

typedef struct {
    int32_t phase, moves; /* `moves`: until the highest */
    int64_t highest, last; /* bytes above where the segment begins */
} segment_peak;

PUBLIC int32_t worst_of_phases(const int32_t *segments, const int64_t *const *tables, const int32_t *played,
                               int32_t length, int64_t (*worst)[3]) {
    const int32_t count = *segments++;
    segment_peak *peaks = calloc(count + 1, sizeof *peaks);
    if (!peaks) return OUT_OF_HOST_MEMORY;
    for (int32_t i = 0; i < count; i++) {
        segment_peak *own = &peaks[i];
        const int64_t *bytes = tables[i];
        own->phase = *segments++;
        const int32_t *first = segments + 1, *move = first, *end = first + *segments;
        for (; move < end; move++) {
            own->last += *move >= 0 ? bytes[*move] : -bytes[~*move];
            if (own->last > own->highest) {
                own->highest = own->last;
                own->moves = (int32_t)(move - first) + 1;
            }
        }
        segments = end;
    }
    int64_t level = 0;
    for (int32_t i = 0; i < length; i++) {
        const segment_peak *own = &peaks[played[i]];
        if (level + own->highest > worst[own->phase][0]) {
            worst[own->phase][0] = level + own->highest;
            worst[own->phase][1] = i;
            worst[own->phase][2] = own->moves;
        }
        level += own->last;
    }
    free(peaks);
    return 0;
}

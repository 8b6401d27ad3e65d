/* Plays a training step's instances in the pools, as `Run` in planner/answer/replay/played_run.py has them.
 *
 * A script is int32_t throughout (planner/answer/replay/flat_script.py):
 *   patterns, instances, where each pattern begins, where each instance begins
 *   pattern: moves, made, left; (twice the index of the size, and 1 where the tensor passes; number) for each move;
 *            the numbers that are left
 *   instance: pattern, whether what passes is played in the large pool, and in the small one, freed; the slots that go;
 *            the slots that stay, as many as the pattern leaves
 * A number below zero is ~number of a tensor that goes. `sizes` are bytes by index; `places` are handles by slot.
 *
 * Most instances share a pattern with others and play the same of it: which moves these are, and with which bytes, is
 * worked out once for all of them. Where there is no capacity the pools never meet, so each plays its own moves in one
 * go.
 */
#include "pools.h"

#include <stdlib.h>

enum { PATTERNS, INSTANCES, BEGINS };
enum { MOVES, MADE, LEFT, PATTERN_HEAD };
enum { PATTERN, PASSING_LARGE, PASSING_SMALL, FREED, INSTANCE_HEAD };

/* Of a pattern what is played with one choice of passing tensors: first the large pool's moves, then the small one's;
 * in the pattern's own order where there is a capacity. */
typedef struct {
    int32_t count, is_ready;
    move *moves;
} part;

/* What becomes of tensors of no bytes is the same in whichever pool. */
static int is_small(int64_t bytes) { return bytes <= SMALL_SIZE; }

/* Appends the moves of the `wanted` pool, or of both where it is POOLS. */
static void gather(part *own, const int32_t *pattern, const int32_t *instance, const int64_t *sizes, int wanted) {
    const int32_t *each = pattern + PATTERN_HEAD, *end = each + 2 * pattern[MOVES];
    for (; each < end; each += 2) {
        int64_t bytes = sizes[each[0] / 2];
        int which = is_small(bytes);
        if (which != wanted && wanted != POOLS) continue;
        if (each[0] % 2 && !instance[which ? PASSING_SMALL : PASSING_LARGE]) continue;
        own->moves[own->count++] = (move){bytes, each[1]};
    }
}

static int prepare(const pools *all, part *own, const int32_t *pattern, const int32_t *instance, const int64_t *sizes) {
    own->moves = malloc((pattern[MOVES] + 1) * sizeof *own->moves);
    if (!own->moves) return OUT_OF_HOST_MEMORY;
    own->is_ready = 1;
    if (pools_meet(all)) {
        gather(own, pattern, instance, sizes, POOLS);
        return 0;
    }
    gather(own, pattern, instance, sizes, LARGE);
    gather(own, pattern, instance, sizes, SMALL);
    return 0;
}

/* Instances `first` to `last`; `numbered` has room for the tensors of each of them, `parts` for four of each pattern. */
static int play_all(pools *all, const int32_t *script, const int64_t *sizes, int32_t *places, int32_t first,
                    int32_t last, int32_t *numbered, part *parts) {
    const int32_t *pattern_at = script + BEGINS, *instance_at = pattern_at + script[PATTERNS];
    for (int32_t i = first; i < last; i++) {
        const int32_t *instance = script + instance_at[i], *pattern = script + pattern_at[instance[PATTERN]];
        const int32_t *gone = instance + INSTANCE_HEAD, *stays = gone + instance[FREED];
        const int32_t *left = pattern + PATTERN_HEAD + 2 * pattern[MOVES];
        part *own = &parts[4 * instance[PATTERN] + 2 * !!instance[PASSING_LARGE] + !!instance[PASSING_SMALL]];
        int32_t result = own->is_ready ? 0 : prepare(all, own, pattern, instance, sizes);
        for (int32_t at = 0; at < instance[FREED]; at++) numbered[at] = places[gone[at]];
        if (result == 0) result = pools_move(all, own->moves, own->count, numbered);
        if (result) return result;
        for (int32_t at = 0; at < pattern[LEFT]; at++) places[stays[at]] = numbered[left[at]];
    }
    return 0;
}

/* Instances `first` to `last`. */
PUBLIC int32_t pools_play(pools *all, const int32_t *script, const int64_t *sizes, int32_t *places, int32_t first,
                          int32_t last) {
    const int32_t *pattern_at = script + BEGINS, *instance_at = pattern_at + script[PATTERNS];
    int32_t most = 0, result = OUT_OF_HOST_MEMORY;
    for (int32_t i = first; i < last; i++) {
        const int32_t *instance = script + instance_at[i];
        int32_t tensors = instance[FREED] + (script + pattern_at[instance[PATTERN]])[MADE];
        if (tensors > most) most = tensors;
    }
    const int32_t count = 4 * script[PATTERNS];
    int32_t *numbered = malloc((most + 1) * sizeof *numbered);
    part *parts = calloc(count + 1, sizeof *parts);
    if (numbered && parts) result = play_all(all, script, sizes, places, first, last, numbered, parts);
    for (int32_t i = 0; parts && i < count; i++) free(parts[i].moves);
    free(parts);
    free(numbered);
    return result;
}

/* One tensor for each of `sizes`; their handles go to `made`. */
PUBLIC int32_t pools_allocate_many(pools *all, const int64_t *sizes, int32_t count, int32_t *made) {
    for (int32_t i = 0; i < count; i++) {
        made[i] = pools_allocate(all, sizes[i]);
        if (made[i] < 0) return made[i];
    }
    return 0;
}

/* Casts tensor after tensor: makes one of each size that is not 0, frees the one before, and keeps its handle. */
PUBLIC int32_t pools_cast_many(pools *all, const int64_t *sizes, int32_t count, int32_t *handles) {
    for (int32_t i = 0; i < count; i++) {
        if (!sizes[i]) continue;
        const int32_t made = pools_allocate(all, sizes[i]);
        if (made < 0) return made;
        pools_free(all, handles[i]);
        handles[i] = made;
    }
    return 0;
}

/* The last first: they lie upwards for the most part, so that each is then the lowest of those of its size. */
PUBLIC void pools_free_many(pools *all, const int32_t *handles, int32_t count) {
    for (int32_t i = count - 1; i >= 0; i--) pools_free(all, handles[i]);
}

/* The same of what lies at `slots` of `places`. */
PUBLIC void pools_free_slots(pools *all, const int32_t *slots, int32_t count, const int32_t *places) {
    for (int32_t i = count - 1; i >= 0; i--) pools_free(all, places[slots[i]]);
}

/* Plays a training step's scenes in the large pool, as `_Run` in planner/answer/reserved_bytes.py has them.
 *
 * A script is int32_t throughout (planner/answer/flat_script.py):
 *   patterns, scenes, where each pattern begins, where each scene begins
 *   pattern: moves, made, left; (index of the size, number) for each move; the numbers that are left
 *   scene:   pattern, whole, freed; the slots that go; the slots that stay, as many as the pattern leaves
 * A number below zero is ~number of a tensor that goes. `sizes` are bytes by index; `places` are blocks by slot.
 */
#include "large_pool.h"

#include <stdlib.h>

enum { PATTERNS, SCENES, BEGINS };
enum { MOVES, MADE, LEFT, PATTERN_HEAD };
enum { PATTERN, WHOLE, FREED, SCENE_HEAD };

/* What a pattern adds to the small pool: at most, and at last. */
typedef struct {
    int64_t highest, net;
} small_part;

static small_part small_part_of(const int32_t *pattern, const int64_t *sizes) {
    small_part part = {0, 0};
    const int32_t *move = pattern + PATTERN_HEAD, *end = move + 2 * pattern[MOVES];
    for (; move < end; move += 2) {
        int64_t bytes = sizes[move[0]];
        if (bytes > SMALL_SIZE) continue;
        part.net += move[1] >= 0 ? bytes : -bytes;
        if (part.net > part.highest) part.highest = part.net;
    }
    return part;
}

/* The large tensors of one scene. `numbered` has room for the pattern's tensors. */
static int play_scene(pool *p, const int32_t *pattern, const int32_t *scene, const int64_t *sizes, int32_t *places,
                      int32_t *numbered) {
    const int32_t *gone = scene + SCENE_HEAD, *stays = gone + scene[FREED];
    for (int32_t i = 0; i < scene[FREED]; i++) numbered[i] = places[gone[i]];
    const int32_t *move = pattern + PATTERN_HEAD, *end = move + 2 * pattern[MOVES];
    for (; move < end; move += 2) {
        if (sizes[move[0]] <= SMALL_SIZE) continue;
        int32_t result;
        if (move[1] >= 0) result = numbered[move[1]] = pool_allocate(p, sizes[move[0]]);
        else result = pool_free(p, numbered[~move[1]]);
        if (result < 0) return result;
    }
    for (int32_t i = 0; i < pattern[LEFT]; i++) places[stays[i]] = numbered[end[i]];
    return 0;
}

/* Scenes `first` to `last`. `small` is what the small pool holds, and its peak; both go on from what they are. */
PUBLIC int32_t pool_play(pool *p, const int32_t *script, const int64_t *sizes, int32_t *places, int32_t first,
                         int32_t last, int64_t small[2]) {
    const int32_t patterns = script[PATTERNS], *pattern_at = script + BEGINS, *scene_at = pattern_at + patterns;
    int32_t most = 0, result = 0;
    small_part *parts = malloc((patterns + 1) * sizeof *parts);
    if (!parts) return OUT_OF_HOST_MEMORY;
    for (int32_t i = 0; i < patterns; i++) parts[i] = small_part_of(script + pattern_at[i], sizes);
    for (int32_t i = first; i < last; i++) {
        const int32_t *scene = script + scene_at[i];
        int32_t tensors = scene[FREED] + (script + pattern_at[scene[PATTERN]])[MADE];
        if (tensors > most) most = tensors;
    }
    int32_t *numbered = malloc((most + 1) * sizeof *numbered);
    if (!numbered) result = OUT_OF_HOST_MEMORY;
    for (int32_t i = first; i < last && result == 0; i++) {
        const int32_t *scene = script + scene_at[i];
        int64_t highest = small[0] + parts[scene[WHOLE]].highest;
        if (highest > small[1]) small[1] = highest;
        small[0] += parts[scene[PATTERN]].net;
        result = play_scene(p, script + pattern_at[scene[PATTERN]], scene, sizes, places, numbered);
    }
    free(numbered);
    free(parts);
    return result;
}

/* `count` tensors of `bytes`; their blocks go to `made`. */
PUBLIC int32_t pool_allocate_many(pool *p, int64_t bytes, int32_t count, int32_t *made) {
    for (int32_t i = 0; i < count; i++) {
        made[i] = pool_allocate(p, bytes);
        if (made[i] < 0) return made[i];
    }
    return 0;
}

/* Frees the large ones of `pairs` (index of the size, slot); takes the bytes of the others off `small`. */
PUBLIC int32_t pool_free_pairs(pool *p, const int32_t *pairs, int32_t count, const int64_t *sizes,
                               const int32_t *places, int64_t *small) {
    for (const int32_t *pair = pairs, *end = pairs + 2 * count; pair < end; pair += 2) {
        if (sizes[pair[0]] <= SMALL_SIZE) {
            *small -= sizes[pair[0]];
        } else {
            int32_t failed = pool_free(p, places[pair[1]]);
            if (failed) return failed;
        }
    }
    return 0;
}

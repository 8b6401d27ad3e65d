/* Plays a training step's scenes in the pools, as `Run` in planner/answer/played_run.py has them.
 *
 * A script is int32_t throughout (planner/answer/flat_script.py):
 *   patterns, scenes, where each pattern begins, where each scene begins
 *   pattern: moves, made, left; (twice the index of the size, and 1 where the tensor passes; number) for each move;
 *            the numbers that are left
 *   scene:   pattern, whether what passes is played in the large pool, and in the small one, freed; the slots that go;
 *            the slots that stay, as many as the pattern leaves
 * A number below zero is ~number of a tensor that goes. `sizes` are bytes by index; `places` are handles by slot.
 */
#include "pools.h"

#include <stdlib.h>

enum { PATTERNS, SCENES, BEGINS };
enum { MOVES, MADE, LEFT, PATTERN_HEAD };
enum { PATTERN, PASSING_LARGE, PASSING_SMALL, FREED, SCENE_HEAD };

/* The tensors of one scene. `numbered` has room for the pattern's tensors. */
static int play_scene(pools *all, const int32_t *pattern, const int32_t *scene, const int64_t *sizes, int32_t *places,
                      int32_t *numbered) {
    const int32_t *gone = scene + SCENE_HEAD, *stays = gone + scene[FREED];
    for (int32_t i = 0; i < scene[FREED]; i++) numbered[i] = places[gone[i]];
    const int32_t *move = pattern + PATTERN_HEAD, *end = move + 2 * pattern[MOVES];
    for (; move < end; move += 2) {
        int64_t bytes = sizes[move[0] / 2];
        if (move[0] % 2 && !scene[bytes <= SMALL_SIZE ? PASSING_SMALL : PASSING_LARGE]) continue;
        int32_t result;
        if (move[1] >= 0) result = numbered[move[1]] = pools_allocate(all, bytes);
        else result = pools_free(all, numbered[~move[1]]);
        if (result < 0) return result;
    }
    for (int32_t i = 0; i < pattern[LEFT]; i++) places[stays[i]] = numbered[end[i]];
    return 0;
}

/* Scenes `first` to `last`. */
PUBLIC int32_t pools_play(pools *all, const int32_t *script, const int64_t *sizes, int32_t *places, int32_t first,
                          int32_t last) {
    const int32_t *pattern_at = script + BEGINS, *scene_at = pattern_at + script[PATTERNS];
    int32_t most = 0, result = 0;
    for (int32_t i = first; i < last; i++) {
        const int32_t *scene = script + scene_at[i];
        int32_t tensors = scene[FREED] + (script + pattern_at[scene[PATTERN]])[MADE];
        if (tensors > most) most = tensors;
    }
    int32_t *numbered = malloc((most + 1) * sizeof *numbered);
    if (!numbered) return OUT_OF_HOST_MEMORY;
    for (int32_t i = first; i < last && result == 0; i++) {
        const int32_t *scene = script + scene_at[i];
        result = play_scene(all, script + pattern_at[scene[PATTERN]], scene, sizes, places, numbered);
    }
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

/* Frees what lies at `slots` of `places`. */
PUBLIC int32_t pools_free_slots(pools *all, const int32_t *slots, int32_t count, const int32_t *places) {
    int32_t *handles = malloc((count + 1) * sizeof *handles);
    if (!handles) return OUT_OF_HOST_MEMORY;
    for (int32_t i = 0; i < count; i++) handles[i] = places[slots[i]];
    int32_t result = pools_free_many(all, handles, count);
    free(handles);
    return result;
}

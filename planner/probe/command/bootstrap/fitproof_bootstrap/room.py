"""Whether this machine has memory for all ranks of a world, asked before any of them imports torch."""

import os

from fitproof_bootstrap import refusal

# What a process on virtual cards has for itself after one step, so that no rank takes less: Private_Dirty in
# /proc/self/smaps_rollup (Python 3.11) of a step of one layer of 8 x 8 is 231 MiB with torch 2.6.0 and 252 MiB with
# 2.14.1, rounded down to the least. With transformers and a small Llama it is 296 and 335 MiB, with its Trainer 351 and
# 395 MiB; what a program will import is not known here.
LEAST_RANK_BYTES = 230 << 20
_GIB = 1 << 30


def refuse_a_world_too_large(run):
    """End a rank whose world cannot have room here, with what would have."""
    world = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE", "")
    if not world.isdigit() or not os.environ.get("RANK", "").isdigit():
        return
    ranks = min(int(world), run["ranks"] or int(world))
    least_bytes = ranks * LEAST_RANK_BYTES
    if ranks > 1 and least_bytes > run["host_bytes"]:
        refusal.refuse(
            run,
            f"This machine has too little memory: {ranks} ranks take at least {least_bytes / _GIB:.1f} GiB of it and "
            f"{run['host_bytes'] / _GIB:.1f} GiB is free, so none was started; --ranks 1 runs the first of them alone.",
        )

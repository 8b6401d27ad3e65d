"""Whether this machine has memory for all ranks of a world, asked before any of them imports torch."""

import os

from fitproof_bootstrap import refusal

# What a process on virtual cards has for itself after one step of one layer of 8 x 8, so that no rank takes less:
# 252 MiB of Private_Dirty in /proc/self/smaps_rollup (torch 2.14.1, Python 3.11), rounded down.
LEAST_RANK_BYTES = 240 << 20
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

"""How the releases behind a published run loaded its model, and what its process would take so.

A process holds whatever holes loading left. The plan plays the loader of the releases it follows; a run is compared
with what its own would have left.
"""

from dataclasses import replace
from statistics import median

from planner.allocator.load_phase import Habits
from planner.answer.plan import Plan
from planner.answer.replay.reserved_bytes import reserved_bytes
from planner.evidence.publications.published import PublishedRun

# A threaded load is a race; this many are run, and the median is what is predicted.
RACES = 15


def habits_of(run: PublishedRun) -> tuple[Habits, ...]:
    """Each way the load may have gone.

    fitcheck loaded unquantized models in host memory and moved them, and quantized ones through transformers 5.0's
    threads with a peft that keeps the cache. Rows that name transformers 5.17, peft 0.20 and torch 2.14 read the same:
    their allocation after loading differs from run to run, which the later loader's does not, and what eager attention
    reserved is that of the allocator before torch 2.14, to the byte (published_dry_runs/releases.toml).
    fms-acceleration ran transformers 4.48, which loads one parameter at a time and has no warm-up block.
    """
    if run.request.method == "qlora" and not run.versions["transformers"].startswith("4."):
        return tuple(Habits(threads_seed=seed, keeps_cache=True, oldest_first=False) for seed in range(RACES))
    return (Habits(keeps_cache=True, moved=True, oldest_first=False),)


def likely_bytes_as_loaded(run: PublishedRun, plan: Plan) -> int:
    """`likely` with reserved bytes from the run's own way of loading, over races the median."""
    reserved = median(
        reserved_bytes(plan.model, plan.recipe, plan.gpu, habits=habits) for habits in habits_of(run)
    )
    return replace(plan.estimate, reserved_bytes=lambda: round(reserved)).required().likely

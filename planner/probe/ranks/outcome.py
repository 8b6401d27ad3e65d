"""Every rank that is to run, one after another, each in a process of its own with a card of its own.

Collectives return at once on a virtual card, so no rank waits for another and none needs the others' memory. The worst
rank's outcome is the run's: one that ran out of memory, else the one that reserved most.
"""

import importlib
from collections.abc import Sequence
from dataclasses import replace

from planner.measurement import RankReading
from planner.probe.card.spec import card_of
from planner.probe.devices.virtual_card import virtual_outcome
from planner.probe.meters.meter import tell_nobody
from planner.probe.processes.forked import in_fork
from planner.probe.progress import Silence
from planner.probe.ranks.group import join_world
from planner.probe.report import Outcome
from planner.probe.training.phases import Job


def ranks_outcome(job: Job) -> Outcome:
    """Run the first ranks of the world, as many as the options say.

    Raises:
        FitproofError: a rank cannot be built or run here.
        ChildFailedError: a rank's process ended without an outcome.
    """
    for name in ("planner.probe.ranks.cut", "torch._dynamo"):  # FSDP2's hooks do: here it is done once for all ranks
        importlib.import_module(name)
    outcomes = [in_fork(lambda rank=rank: rank_outcome(job, rank)) for rank in range(ranks_run(job))]  # type: ignore[misc]
    worst = max(outcomes, key=_badness)
    readings = tuple(_reading(rank, outcome) for rank, outcome in enumerate(outcomes))
    return replace(worst, ranks=readings, notes=(*worst.notes, *_notes(job, len(outcomes))))


def rank_outcome(job: Job, rank: int) -> Outcome:
    """One rank, in this process, which is then of no use for another."""
    first = rank == 0  # who speaks for the run while it goes on
    job = replace(job, rank=rank) if first else replace(job, rank=rank, tell=tell_nobody, progress=Silence())
    join_world(rank, job.recipe.layout.world)
    return virtual_outcome(job)


def ranks_run(job: Job) -> int:
    """How many ranks run."""
    world = job.recipe.layout.world
    return min(world, job.options.ranks or world)


def worst_rank(outcome: Outcome) -> int:
    """The rank whose outcome decided."""
    worst = max(outcome.ranks, key=lambda reading: (reading.outcome == "out_of_memory", reading.peak_reserved_bytes))
    return worst.rank


def _badness(outcome: Outcome) -> tuple[bool, int]:
    return outcome.failed_phase is not None, _reserved(outcome)


def _reserved(outcome: Outcome) -> int:
    return max((phase.peak_reserved_bytes or 0 for phase in outcome.phases), default=0)


def _reading(rank: int, outcome: Outcome) -> RankReading:
    return RankReading(
        rank=rank,
        outcome="ok" if outcome.failed_phase is None else "out_of_memory",
        failed_phase=outcome.failed_phase,
        peak_allocated_bytes=max((phase.peak_allocated_bytes for phase in outcome.phases), default=0),
        peak_reserved_bytes=_reserved(outcome),
        pinned_bytes=outcome.pinned_bytes or 0,
        managed_bytes=outcome.managed_bytes or 0,
    )


def _notes(job: Job, ran: int) -> Sequence[str]:
    layout = job.recipe.layout
    notes = [f"each rank had a {card_of(job.request.gpu).name} of its own; NCCL's buffers are not counted"]
    if ran < layout.world:
        notes.append(
            f"the first {ran} of {layout.world} ranks ran; later ones have shards of the same size or less "
            "(torch/distributed/tensor/placement_types.py, Shard: as torch.chunk cuts)"
        )
    return notes

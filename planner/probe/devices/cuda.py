"""The step on a card, real or virtual, under torch's own memory statistics; out of memory is caught as an answer."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from planner.errors import FitproofError
from planner.measurement import PhaseReading, RankReading
from planner.overheads.table import context_band
from planner.probe.devices.allocator_settings import allocator_settings
from planner.probe.devices.memory_limit import (
    MemoryLimit,
    cap_cuda_allocator,
    catch_out_of_memory,
    smallest_surviving_bytes,
)
from planner.probe.meters.cuda import CudaMeter, cuda_versions, open_cuda_meter, tokens_per_second
from planner.probe.meters.meter import STEP_PHASES, tell_nobody
from planner.probe.meters.step_parts import StepParts
from planner.probe.progress import watching
from planner.probe.report import Outcome
from planner.probe.training.phases import Job, story

# Whether the run survives a card of this many bytes.
Survives = Callable[[int], bool]


def device_outcome(job: Job) -> Outcome:
    """Run on the first CUDA device.

    Raises:
        FitproofError: there is no CUDA device.
    """
    if not torch.cuda.is_available():
        msg = "No CUDA device is visible here; use --on dry-run or --on cpu, or run it where a card is."
        raise FitproofError(msg)
    meter = open_cuda_meter(snapshot=job.options.snapshot)
    if job.recipe.layout.strategy == "device_map":
        meter.beside = [open_cuda_meter(card) for card in range(1, torch.cuda.device_count())]
    meter.tell = job.tell
    if told := allocator_settings(os.environ):
        meter.notes.append(f"torch's allocator was told {told}")
    return _run_on(torch.device("cuda", 0), job, meter)


def _run_on(device: torch.device, job: Job, meter: CudaMeter) -> Outcome:
    """The story on `device` under `meter`; out of memory ends it early and is an outcome."""
    recipe, options = job.recipe, job.options
    trained: Any = None
    # A snapshot is a history of its own, and the search for the smallest card needs bytes alone.
    watched = options.instrument == "dry-run" and options.snapshot is None and job.tell is not tell_nobody
    parts = StepParts() if watched else None
    with meter:
        if options.memory_limit_bytes is not None and options.memory_limit_bytes != meter.device().total_memory_bytes:
            limit = MemoryLimit(options.memory_limit_bytes, _context_bytes(meter))
            cap_cuda_allocator(limit, torch.cuda)
        with catch_out_of_memory(torch.cuda, torch._C) as watch, watching(meter, meter.tell):
            trained = story(job, device, meter, parts)
    if trained is not None:
        trained.verify()
    phases = fullest(meter).readings()
    steps = recipe.training.gradient_accumulation_steps * (options.steps - 1)
    timed = options.instrument == "cuda" and not watch.failed
    return Outcome(
        phases=phases,
        device=meter.device(),
        failed_phase=meter.phase if watch.failed else None,
        requested_bytes=watch.requested_bytes,
        short_bytes=watch.short_bytes,
        process_bytes=meter.process_bytes,
        context_bytes=meter.context_bytes,
        tokens_per_second=tokens_per_second(phases, STEP_PHASES, recipe.tokens * steps) if timed else None,
        ranks=_cards_read(meter, watch.device if watch.failed else None) if meter.beside else (),
        peak_parts=parts.beside(max(_steady_peaks(phases), default=0)) if parts else (),
        notes=(*meter.notes, *((watch.message,) if watch.message else ())),
        versions=cuda_versions(),
    )


def fullest(meter: CudaMeter) -> CudaMeter:
    """Of the meters of one process's cards, that of the card that reserved most."""
    return max((meter, *meter.beside), key=_reserved)


def _reserved(meter: CudaMeter) -> int:
    return max((phase.peak_reserved_bytes or 0 for phase in meter.readings()), default=0)


def _cards_read(meter: CudaMeter, failed: int | None) -> tuple[RankReading, ...]:
    """Each card of a process that has several; `failed` is the number of the one that was full, if one was."""
    return tuple(
        RankReading(
            rank=card.device_index,
            outcome="out_of_memory" if card.device_index == failed else "ok",
            failed_phase=meter.phase if card.device_index == failed else None,
            peak_allocated_bytes=max((phase.peak_allocated_bytes for phase in card.readings()), default=0),
            peak_reserved_bytes=_reserved(card),
        )
        for card in (meter, *meter.beside)
    )


def _steady_peaks(phases: Sequence[PhaseReading]) -> Iterator[int]:
    return (phase.peak_allocated_bytes for phase in phases if phase.name in STEP_PHASES)


def _context_bytes(meter: CudaMeter) -> int:
    """What the played card's context will take: this one's so far, or the evidence for its generation if that is more.

    Kernels load lazily: before the first step a context is smaller than it will be (CUDA_MODULE_LOADING=LAZY).
    """
    torch.zeros(1, device="cuda")  # the context exists from the first allocation
    if meter.driver is None:
        return _expected_context_bytes(torch.cuda.get_device_capability())
    process_bytes, _ = meter.driver.process_bytes()
    expected_bytes = _expected_context_bytes(torch.cuda.get_device_capability())
    return max(expected_bytes, process_bytes - torch.cuda.memory_reserved())


def _expected_context_bytes(capability: tuple[int, int]) -> int:
    return round(context_band(capability).likely)


def with_smallest(job: Job, outcome: Outcome, survives: Survives) -> Outcome:
    """Bisect the card to play, each try in a process of its own: a failed run leaves fragments behind."""
    if outcome.failed_phase is not None:
        return outcome
    # As much room as a run that plays a card leaves (`_context_bytes`), or the largest try would be smaller than this
    # run was.
    major, minor = (outcome.device.compute_capability or "0.0").split(".")
    context_bytes = max(outcome.context_bytes or 0, _expected_context_bytes((int(major), int(minor))))

    def tried(limit_bytes: int) -> bool:
        job.progress("find-smallest", limit_bytes)
        return survives(limit_bytes)

    peak_bytes = max(phase.peak_allocated_bytes for phase in outcome.phases)
    reserved_bytes = max(phase.peak_reserved_bytes or 0 for phase in outcome.phases)
    total_bytes = outcome.device.total_memory_bytes or 0
    enough_bytes = min(reserved_bytes + context_bytes, total_bytes)
    too_small_bytes = min(peak_bytes + context_bytes, enough_bytes) - 1
    smallest = smallest_surviving_bytes(tried, too_small_bytes=too_small_bytes, enough_bytes=enough_bytes)
    return replace(outcome, smallest_capacity_bytes=smallest)


def survives_in_a_new_program(job: Job) -> Survives:
    """Try on a real card: a context cannot be forked, so each try starts the program anew."""

    def survives(limit_bytes: int) -> bool:
        options = job.options
        command = [
            sys.executable, "-m", "planner.probe", "--on", options.instrument, "--memory-limit", str(limit_bytes),
            "--steps", str(options.steps), "--seed", str(options.seed), "--weights", options.weights,
        ]  # fmt: skip
        document = job.request.model_dump_json()
        ran = subprocess.run(command, input=document, capture_output=True, text=True, check=False)  # noqa: S603  # our own interpreter and program
        if ran.returncode != 0:
            msg = f"A run at {limit_bytes} bytes failed: {ran.stderr.strip().splitlines()[-1:]}"
            raise FitproofError(msg)
        return bool(json.loads(ran.stdout.strip().splitlines()[-1])["outcome"] == "ok")

    return survives

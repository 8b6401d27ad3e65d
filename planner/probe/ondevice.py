"""The proof on a real card: the same story under torch's own memory statistics, out of memory caught as an answer."""

import gc
import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import torch

from planner.errors import FitproofError
from planner.overheads import context_band
from planner.probe.allocsettings import allocator_settings
from planner.probe.limits import MemoryLimit, cap_cuda_allocator, catch_out_of_memory, smallest_surviving_bytes
from planner.probe.meters.cuda import CudaMeter, cuda_versions, open_cuda_meter, tokens_per_second
from planner.probe.meters.meter import STEP_PHASES
from planner.probe.options import Options
from planner.probe.progress import watching
from planner.probe.report import Outcome
from planner.probe.run import Job, own_quantization_tables, story
from planner.request import Request


def device_outcome(job: Job) -> Outcome:
    """Run on the first CUDA device.

    Raises:
        FitproofError: there is no CUDA device.
    """
    if not torch.cuda.is_available():
        msg = "No CUDA device is visible here; use --on dry-run or --on cpu, or run it where a card is."
        raise FitproofError(msg)
    meter = open_cuda_meter(snapshot=job.options.snapshot)
    meter.tell = job.tell
    if told := allocator_settings(os.environ):
        meter.notes.append(f"torch's allocator was told {told}")
    outcome = run_on(torch.device("cuda", 0), job, meter)
    if job.options.find_smallest and outcome.failed_phase is None:
        smallest = _smallest(job, outcome, meter)
        outcome = replace(outcome, smallest_capacity_bytes=smallest)
    return outcome


def run_on(device: torch.device, job: Job, meter: CudaMeter) -> Outcome:
    """The story on `device` under `meter`; out of memory ends it early and is an outcome."""
    recipe, options = job.recipe, job.options
    trained: Any = None
    with own_quantization_tables(), meter:
        if options.memory_limit_bytes is not None:
            limit = MemoryLimit(options.memory_limit_bytes, _context_bytes(meter))
            cap_cuda_allocator(limit, torch.cuda)
        with catch_out_of_memory(torch.cuda, torch._C) as watch, watching(meter, meter.tell):
            trained = story(job, device, meter)
    if trained is not None:
        trained.verify()
    phases = meter.readings()
    steps = recipe.training.gradient_accumulation_steps * (options.steps - 1)
    outcome = Outcome(
        phases=phases,
        device=meter.device(),
        failed_phase=meter.phase if watch.failed else None,
        requested_bytes=watch.requested_bytes,
        short_bytes=watch.short_bytes,
        process_bytes=meter.process_bytes,
        context_bytes=meter.context_bytes,
        tokens_per_second=None if watch.failed else tokens_per_second(phases, STEP_PHASES, recipe.tokens * steps),
        notes=tuple(meter.notes),
        versions=cuda_versions(),
    )
    del trained
    gc.collect()
    torch.cuda.empty_cache()
    return outcome


def _context_bytes(meter: CudaMeter) -> int:
    """What the played card's context will take: this one's so far, or the evidence for its generation if that is more.

    Kernels load lazily: before the first step a context is smaller than it will be (CUDA_MODULE_LOADING=LAZY).
    """
    torch.zeros(1, device="cuda")  # the context exists from the first allocation
    if meter.driver is None:
        return _expected_context_bytes()
    process_bytes, _ = meter.driver.process_bytes()
    return max(_expected_context_bytes(), process_bytes - torch.cuda.memory_reserved())


def _expected_context_bytes() -> int:
    return round(context_band(torch.cuda.get_device_capability()).likely)


def _smallest(job: Job, outcome: Outcome, meter: CudaMeter) -> int:
    """Bisect the card to play, each try in a process of its own: a failed run leaves fragments behind."""
    # As much room as a run that plays a card leaves (`_context_bytes`), or the largest try would be smaller than this
    # run was.
    context_bytes = max(outcome.context_bytes or 0, _expected_context_bytes())

    def survives(limit_bytes: int) -> bool:
        job.progress("find-smallest", limit_bytes)
        return bool(_run_again(job.request, job.options, limit_bytes)["outcome"] == "ok")

    peak_bytes = max(phase.peak_allocated_bytes for phase in outcome.phases)
    reserved_bytes = max(phase.peak_reserved_bytes or 0 for phase in outcome.phases)
    total_bytes = meter.device().total_memory_bytes or 0
    enough_bytes = min(reserved_bytes + context_bytes, total_bytes)
    return smallest_surviving_bytes(survives, too_small_bytes=peak_bytes, enough_bytes=enough_bytes)


def _run_again(request: Request, options: Options, limit_bytes: int) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "planner.probe", "--on", "cuda", "--memory-limit", str(limit_bytes),
        "--steps", str(options.steps), "--seed", str(options.seed), "--weights", options.weights,
    ]  # fmt: skip
    ran = subprocess.run(command, input=request.model_dump_json(), capture_output=True, text=True, check=False)  # noqa: S603  # our own interpreter and program
    if ran.returncode != 0:
        msg = f"A run at {limit_bytes} bytes failed: {ran.stderr.strip().splitlines()[-1:]}"
        raise FitproofError(msg)
    measurement: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
    return measurement

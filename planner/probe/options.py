"""The command line of `python -m planner.probe`."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from planner.measurement import Instrument
from planner.units import parse_size_bytes

Routing = Literal["even", "skewed"]

# What `weights` says besides a folder.
SYNTHETIC, HUB = "synthetic", "hub"

# The first rank of a run on several cards has the largest shards; a second one shows what the others are like.
DEFAULT_RANKS = 2
# One step to fill optimizer states, one steady step, one that proves it stays so.
DEFAULT_STEPS = 3


@dataclass(frozen=True, slots=True)
class Options:
    """What the probe was told besides the request.

    `weights` is `synthetic`, `hub` or a folder; of the hub's a dry run fetches headers only. `routing` is how made-up
    routers of a dry run spread tokens over experts. `ranks` is how many of a run on several cards run; 0: all.
    """

    instrument: Instrument = "dry-run"
    steps: int = DEFAULT_STEPS
    weights: str = SYNTHETIC
    seed: int = 0
    memory_limit_bytes: int | None = None
    find_smallest: bool = False
    routing: Routing = "even"
    ranks: int = DEFAULT_RANKS
    snapshot: Path | None = None
    deadline_seconds: float | None = None
    request_file: Path | None = None
    debug: bool = False


def parse_options(arguments: Sequence[str]) -> Options:
    """Read the command line; argparse exits with status 2 and one line on bad input."""
    space = _parser().parse_args(arguments)
    return Options(
        instrument=space.on,
        steps=space.steps,
        weights=space.weights,
        seed=space.seed,
        memory_limit_bytes=space.memory_limit,
        find_smallest=space.find_smallest,
        routing=space.routing,
        ranks=space.ranks,
        snapshot=space.snapshot,
        deadline_seconds=space.deadline,
        request_file=space.request,
        debug=space.debug,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m planner.probe",
        description="Run one real training step and print what it measured. Reads a request from stdin.",
    )
    add = parser.add_argument
    add("--on", choices=("dry-run", "cpu", "cuda"), default="dry-run", help="which instrument")
    add("--steps", type=_steps, default=DEFAULT_STEPS, help=f"optimizer steps, at least {DEFAULT_STEPS}")
    add("--weights", default=SYNTHETIC, help="synthetic (default), hub, or a folder with real weights")
    add("--seed", type=int, default=0)
    add("--memory-limit", type=_size, help="play a smaller card, e.g. 24GiB")
    add("--find-smallest", action="store_true", help="find the smallest memory that survives")
    add("--routing", choices=("even", "skewed"), default="even", help="how a dry run's routers spread tokens")
    add("--ranks", type=_ranks, default=DEFAULT_RANKS, help="run the first so many ranks of several cards; 0: all")
    add("--snapshot", type=Path, help="write torch's memory snapshot here (dry-run, cuda)")
    add("--deadline", type=_seconds, help="give up after this many seconds")
    add("--request", type=Path, help="read the request from this file instead of stdin")
    add("--debug", action="store_true", help="show a trace when the machinery fails")
    return parser


def _steps(text: str) -> int:
    if not text.isdigit() or int(text) < DEFAULT_STEPS:
        msg = f"at least {DEFAULT_STEPS} steps are needed to tell the first from the steady state"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _ranks(text: str) -> int:
    if not text.isdigit():
        msg = f"{text!r} is no number of ranks"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _size(text: str) -> int:
    try:
        return parse_size_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        msg = f"{text!r} is no positive number of seconds"
        raise argparse.ArgumentTypeError(msg)
    return seconds

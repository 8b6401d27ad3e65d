"""The command line of `python -m planner.probe`."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.measurement import Instrument
from planner.units import parse_size_bytes

# One step to fill optimizer states, one steady step, one that proves it stays so.
DEFAULT_STEPS = 3
_FOLLOW = re.compile(r"^(cpu|sm_\d{2,3})$")


@dataclass(frozen=True, slots=True)
class Options:
    """What the probe was told besides the request.

    `follow` is the device whose kernel choices a dry run follows: `cpu`, `sm_89`, or None for the request's card.
    `weights` is `synthetic`, `hub` or a folder. `layers` are the shallow depths to extrapolate from.
    """

    instrument: Instrument = "dry-run"
    follow: str | None = None
    layers: tuple[int, ...] = ()
    steps: int = DEFAULT_STEPS
    weights: str = "synthetic"
    seed: int = 0
    memory_limit_bytes: int | None = None
    find_smallest: bool = False
    snapshot: Path | None = None
    deadline_seconds: float | None = None
    request_file: Path | None = None
    debug: bool = False


def parse_options(arguments: Sequence[str]) -> Options:
    """Read the command line; argparse exits with status 2 and one line on bad input."""
    space = _parser().parse_args(arguments)
    return Options(
        instrument=space.on,
        follow=space.follow,
        layers=space.layers,
        steps=space.steps,
        weights=space.weights,
        seed=space.seed,
        memory_limit_bytes=space.memory_limit,
        find_smallest=space.find_smallest,
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
    add("--as", dest="follow", type=_follow, help="device a dry run follows: sm_89, cpu (default: the request's card)")
    add("--layers", type=_layers, default=(), help="two or more shallow depths to extrapolate from, e.g. 2,4")
    add("--steps", type=_steps, default=DEFAULT_STEPS, help=f"optimizer steps, at least {DEFAULT_STEPS}")
    add("--weights", default="synthetic", help="synthetic (default), hub, or a folder with real weights")
    add("--seed", type=int, default=0)
    add("--memory-limit", type=_size, help="play a smaller card, e.g. 24GiB")
    add("--find-smallest", action="store_true", help="find the smallest memory that survives")
    add("--snapshot", type=Path, help="write torch's memory snapshot here (cuda)")
    add("--deadline", type=_seconds, help="give up after this many seconds")
    add("--request", type=Path, help="read the request from this file instead of stdin")
    add("--debug", action="store_true", help="show a trace when the machinery fails")
    return parser


def _follow(text: str) -> str:
    if not _FOLLOW.match(text):
        msg = f"{text!r} is no device; write sm_89 or cpu"
        raise argparse.ArgumentTypeError(msg)
    return text


def _layers(text: str) -> tuple[int, ...]:
    try:
        depths = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        depths = ()
    if len(depths) < 2 or depths[0] < 1:
        msg = f"{text!r} is no list of depths; write two or more, e.g. 2,4"
        raise argparse.ArgumentTypeError(msg)
    return depths


def _steps(text: str) -> int:
    if not text.isdigit() or int(text) < DEFAULT_STEPS:
        msg = f"at least {DEFAULT_STEPS} steps are needed to tell the first from the steady state"
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

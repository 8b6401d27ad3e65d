"""Run `python -m planner.probe` as a child, show its progress, and lay its measurement beside the prediction."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli.errors import EXIT_BROKEN, EXIT_BY_VERDICT
from app.cli.terminal import console, table
from planner.address_space import limit_words
from planner.answer.plan import Plan
from planner.errors import FieldProblem, FitproofError, InvalidRequestError
from planner.request.schema import Request
from planner.units import format_gib

INSTRUMENTS = ("dry-run", "cpu", "cuda")
PROGRAM = (sys.executable, "-m", "planner.probe")
_NEEDED = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
_STEPS = 3
# How far along the run is when a stage begins. Steps share what lies between `prepare` and `save`.
_BEGINS = {"import": 0.0, "load": 0.15, "prepare": 0.35, "save": 0.95}
# A task of this bar has a field `read`: the bytes of the phase under way, in words.
COLUMNS = (TextColumn("{task.description:<10}"), BarColumn(40), TimeElapsedColumn(), TextColumn("{task.fields[read]}"))


def missing_packages() -> list[str]:
    """What a probe needs and this installation lacks. Looked for, never imported."""
    return [name for name in _NEEDED if importlib.util.find_spec(name) is None]


class ProbeFailedError(FitproofError):
    """The probe's machinery failed: no measurement, and nothing is known about the run."""

    code = "probe_failed"
    exit_status = EXIT_BROKEN


class ProbeRun:
    """One run on one instrument. `options` are the probe's own, by name; None leaves one out."""

    def __init__(self, instrument: str, options: Mapping[str, object]) -> None:
        if instrument not in INSTRUMENTS:
            problem = FieldProblem("--on", f"must be dry-run, cpu or cuda; got {instrument}")
            raise InvalidRequestError("The probe cannot run.", [problem])
        if missing := missing_packages():
            problem = FieldProblem("--on", f"{', '.join(missing)} not installed; pip install 'fitproof[probe]'")
            raise InvalidRequestError("A probe needs the training stack.", [problem])
        given = [word for name, value in options.items() for word in _option(name, value)]
        self._command = [*PROGRAM, "--on", instrument, *given]

    def of(self, request: Request) -> dict[str, Any]:
        """Measure `request`, with a live bar on stderr.

        Raises:
            InvalidRequestError: the probe cannot use the request or an option.
            ProbeFailedError: it ended without a measurement.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            said = self._watch(request, output)
            output.seek(0)
            lines = output.read().splitlines()
        if said.status == 0 and lines:
            measurement: dict[str, Any] = json.loads(lines[-1])
            return measurement
        reason = "; ".join(said.words) or f"it ended with status {said.status}"
        if said.status == 2:
            raise InvalidRequestError("The probe cannot use this.", [FieldProblem("probe", reason)])
        limited = "" if limit_words() in reason else f"{limit_words()} "
        raise ProbeFailedError(f"The probe failed: {limited}{reason}")

    def _watch(self, request: Request, output: IO[str]) -> "_Said":
        terminal = Console(stderr=True)
        with (
            subprocess.Popen(  # noqa: S603 (our own program; every word of the command is an argument, none a shell's)
                self._command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.PIPE, text=True
            ) as child,
            Progress(*COLUMNS, console=terminal, transient=True, disable=not terminal.is_terminal) as bar,
        ):
            assert child.stdin is not None  # noqa: S101 (PIPE above)
            assert child.stderr is not None  # noqa: S101 (PIPE above)
            child.stdin.write(request.model_dump_json())
            child.stdin.close()
            task = bar.add_task("starting", total=1.0, read="")
            words = []
            for line in _lines(child.stderr):
                if isinstance(line, str):
                    words.append(line)
                else:
                    bar.update(task, **moved_by(line))
        return _Said(child.returncode, words[-3:])


def _option(name: str, value: object) -> list[str]:
    if value is None:
        return []
    return [f"--{name}"] if value is True else [f"--{name}", str(value)]


class _Said:
    """How the child ended, and its last words that were no progress."""

    def __init__(self, status: int, words: list[str]) -> None:
        self.status = status
        self.words = words


def show_comparison(measurement: dict[str, Any], prediction: Plan | None, usable_bytes: int) -> None:
    """Print measured bytes beside predicted ones, moment by moment."""
    out = console()
    peak_bytes = measurement["peak_allocated_bytes"]
    if measurement["outcome"] == "out_of_memory":
        short = measurement.get("short_bytes")
        out.print(f"Out of memory in {measurement['failed_phase']}" + (f", {format_gib(short)} short" if short else ""))
    else:
        out.print(f"Measured on {measurement['instrument']}: {format_gib(peak_bytes)} allocated at the peak", end="")
        reserved = measurement.get("peak_reserved_bytes")
        out.print(f", {format_gib(reserved)} reserved" if reserved else "", end="")
        out.print(f", of {format_gib(usable_bytes)} usable")
    predicted = {phase.name: phase.allocated_bytes for phase in prediction.phases} if prediction else {}
    made = table("moment", ">predicted", ">measured", ">difference")
    for phase in measurement["phases"]:
        made.add_row(phase["name"], *_compared(predicted.get(phase["name"]), phase["peak_allocated_bytes"]))
    made.add_row("peak", *_compared(prediction.peak_allocated_bytes if prediction else None, peak_bytes), style="bold")
    out.print(made)
    _show_ranks(out, measurement.get("ranks") or [])  # a worker of an earlier release sends none
    if prediction is None:
        out.print("The formulas do not know this architecture; there is no prediction to compare with.")


def _show_ranks(out: Console, ranks: Sequence[Mapping[str, Any]]) -> None:
    """Each rank of a run on several cards; nothing where it ran on one."""
    if not ranks:
        return
    made = table("rank", ">allocated", ">reserved", ">pinned", "outcome")
    for rank in ranks:
        sizes = (rank["peak_allocated_bytes"], rank["peak_reserved_bytes"], rank["pinned_bytes"])
        outcome = f"out of memory in {rank['failed_phase']}" if rank["failed_phase"] else "ok"
        made.add_row(str(rank["rank"]), *(format_gib(size) for size in sizes), outcome)
    out.print(made)


def status_of(measurement: dict[str, Any], usable_bytes: int) -> int:
    """The exit status: a measurement has no `tight`."""
    needed_bytes = measurement.get("peak_reserved_bytes") or measurement["peak_allocated_bytes"]
    survives = measurement["outcome"] == "ok" and needed_bytes <= usable_bytes
    return EXIT_BY_VERDICT["fits" if survives else "does_not_fit"]


def _compared(predicted: int | None, measured: int) -> tuple[str, str, str]:
    if predicted is None or measured == 0:
        return "", f"{measured:,}", ""
    return f"{predicted:,}", f"{measured:,}", f"{(predicted - measured) / measured:+.2%}"


def _lines(stream: IO[str]) -> Iterator[str | dict[str, Any]]:
    """Progress lines decoded, other lines as they are."""
    for text in stream:
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict) and ("stage" in line or "phase" in line):
            yield line
        elif text.strip():
            yield text.strip()


def moved_by(line: Mapping[str, Any]) -> dict[str, Any]:
    """What a progress line changes in the bar: a stage moves it, a phase shows the bytes it has read so far."""
    if "phase" in line:
        phase = str(line["phase"]).replace("_", " ")
        return {"read": f"{format_gib(int(line.get('peak_allocated_bytes', 0)))} in {phase}"}
    return {"description": str(line["stage"]), "completed": _fraction_done(line)}


def _fraction_done(line: Mapping[str, Any]) -> float | None:
    """How far along a stage's line says we are; None where it does not say."""
    if line["stage"] == "step":
        share = (_BEGINS["save"] - _BEGINS["prepare"]) / _STEPS
        return _BEGINS["prepare"] + share * min(int(line.get("index", 1)) - 1, _STEPS)
    return _BEGINS.get(str(line["stage"]))

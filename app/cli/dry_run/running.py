"""Start `python -m planner.probe.command`, and say what it found."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from app.cli.answer import VERDICTS
from app.cli.errors import EXIT_BAD_INPUT, EXIT_BY_VERDICT
from app.cli.terminal import console, table
from planner.errors import FieldProblem, FitproofError, InvalidRequestError
from planner.units import MIB, format_gib, parse_size_bytes

SYSTEM = sys.platform
PROGRAM = (sys.executable, "-m", "planner.probe.command")
_ROWS_SHOWN = 8
# planner/probe/command/__main__.py ends so after one sentence on stderr: bad input, deadline, asked to stop.
_SAID_WHY = (2, 124, 143)


class DryRunRefusedError(FitproofError):
    """The dry run ended without a report; the reason was said on stderr."""

    code = "dry_run_refused"


def run_on_virtual_cards(
    command: Sequence[str],
    *,
    gpus: Sequence[str],
    memory_limit: str | None,
    taken: str | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Run `command` on one virtual card for each of `gpus`, its output passed on, and return the report.

    Raises:
        InvalidRequestError: the machine or an option cannot be used.
        DryRunRefusedError: there is no report, and nobody said why.
        typer.Exit: there is none, and the reason was said on stderr.
    """
    if SYSTEM != "linux":
        problem = FieldProblem(
            "dry-run", "needs Linux; on this system run it in a container or plan with `fitproof plan`"
        )
        raise InvalidRequestError("There is no virtual card here.", [problem])
    # Files without a name: killed with us, nothing is left of them.
    with tempfile.TemporaryFile("w+") as report, tempfile.TemporaryFile("w+") as spec:
        sizes = {
            "memory_limit_bytes": _size_bytes("--memory-limit", memory_limit),
            "taken_bytes": _size_bytes("--taken", taken) or 0,
        }
        json.dump({**options, **sizes, "gpus": list(gpus), "report": _path_of(report), "seed": 0}, spec)
        spec.flush()
        status = _run_undisturbed([*PROGRAM, _path_of(spec), "--", *command], (report.fileno(), spec.fileno()))
        written = report.read()
    if not written and status in _SAID_WHY:
        raise typer.Exit(EXIT_BAD_INPUT)
    if not written:
        raise DryRunRefusedError(f"There is no answer: the dry run ended with status {status}.")
    found: dict[str, Any] = json.loads(written)
    return found


def _path_of(file: IO[str]) -> str:
    """Where a child that is handed the descriptor opens it (proc(5), /proc/self/fd)."""
    return f"/dev/fd/{file.fileno()}"


def _run_undisturbed(command: Sequence[str], handed: Sequence[int]) -> int:
    """Run it; on Ctrl-C wait until it has ended what it started. subprocess.run would kill it first.

    Raises:
        typer.Exit: Ctrl-C; the program has said so.
    """
    with subprocess.Popen(command, pass_fds=handed) as child:  # noqa: S603 (the person's own words)
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.terminate()
            child.wait()
            raise typer.Exit(EXIT_BAD_INPUT) from None


def status_of(report: Mapping[str, Any]) -> int:
    """The exit status: the verdict's, or 2 where there is none."""
    return EXIT_BAD_INPUT if _has_no_answer(report) else EXIT_BY_VERDICT[report["verdict"]]


def _has_no_answer(report: Mapping[str, Any]) -> bool:
    return report["verdict"] is None or bool(report["sentence"])


def _size_bytes(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_size_bytes(text)
    except ValueError:
        problem = FieldProblem(option, f"must be a size such as 24GiB; got {text}")
        raise InvalidRequestError("The dry run cannot start.", [problem]) from None


def show_report(report: Mapping[str, Any]) -> None:
    """The verdict, each rank, what the peak is made of, and where it was asked for."""
    out = console()
    worst = next((p for p in report["processes"] if p["process_id"] == report["worst_process_id"]), None)
    out.print(Text(headline(report, worst), style="bold"))
    if worst is not None and not report["sentence"]:
        if worst["outcome"] == "out_of_memory":
            out.print(Text(worst["message"]))
        _ranks(out, report)
        _lines(out, worst)
        _peak(out, worst)
        _advice(out, worst)
    for note in report["notes"]:
        out.print(Text(f"Note: {note}", style="yellow"))


def headline(report: Mapping[str, Any], worst: Mapping[str, Any] | None) -> str:
    """`Fits: 21.4 GiB of 23.5 GiB on rank 0, in backward of step 1`; out of memory names the line that asked."""
    if worst is None or report["sentence"]:
        return str(report["sentence"])
    card, peak, refusal = worst["card"], worst["peak"], worst["out_of_memory"]
    word = VERDICTS[report["verdict"]][0]
    if worst["outcome"] == "out_of_memory":
        where = f" at {refusal['line']}" if refusal else ""
        return f"{word}: out of memory on rank {worst['rank']}{where}"
    moment = f", in {peak['phase']} of step {peak['step']}" if peak else ""
    used, total = format_gib(card["peak_used_bytes"]), format_gib(card["total_bytes"])
    return f"{word}: {used} of {total} on rank {worst['rank']}{moment}"


def _ranks(out: Console, report: Mapping[str, Any]) -> None:
    made = table("rank", ">allocated", ">reserved", ">context", ">card", ">pinned", ">managed", "verdict")
    for process in report["processes"]:
        card = process["card"]
        sizes = (
            process["peak_allocated_bytes"],
            process["peak_reserved_bytes"],
            card["context_bytes"],
            card["total_bytes"],
            card["peak_pinned_bytes"],
            card["peak_managed_bytes"],
        )
        cells = [str(process["rank"]), *(f"{size / MIB:,.1f}" for size in sizes), VERDICTS[process["verdict"]][0]]
        made.add_row(*cells)
    out.print(made)
    _smallest(out, report)
    out.print(
        Text("MiB; reserved and context are what the card holds, pinned and managed lie in host memory", style="dim")
    )


def _lines(out: Console, process: Mapping[str, Any]) -> None:
    made = table(f"on the card of rank {process['rank']}", ">MiB", "how that is known")
    for line in process["lines"]:
        low, high = line["low"] / MIB, line["high"] / MIB
        size = f"{low:,.1f}" if low == high else f"{low:,.1f} to {high:,.1f}"
        made.add_row(line["name"], size, escape(f"{line['evidence']}: {line['source']}"))
    out.print(made)


def _advice(out: Console, process: Mapping[str, Any]) -> None:
    if not process["advice"]:
        return
    made = table("what would make it fit", ">saves MiB", "enough alone", "computed from")
    for advice in process["advice"]:
        size = f"{advice['saves_bytes'] / MIB:,.1f}"
        made.add_row(
            escape(advice["change"]), size if advice["exact"] else f"at most {size}", advice["enough"], advice["why"]
        )
    out.print(made)


def _smallest(out: Console, report: Mapping[str, Any]) -> None:
    for process in report["processes"]:
        found = process.get("smallest")
        if found is not None:
            told = format_gib(found["bytes"]) if found["bytes"] else f"not known: {found['why']}"
            out.print(Text(f"smallest card for rank {process['rank']}: {told}"))


def _peak(out: Console, process: Mapping[str, Any]) -> None:
    if process["peak"] is None:
        return
    for title, rows in (("kind", "by_kind"), ("module", "by_module"), ("line", "by_line")):
        made = table(f"the peak by {title}", ">MiB")
        for row in process["peak"][rows][:_ROWS_SHOWN]:
            made.add_row(escape(row["name"]), f"{row['bytes'] / MIB:,.1f}")
        out.print(made)

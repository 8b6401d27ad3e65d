"""What all processes of a program told, as one answer: the worst rank decides."""

import json
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from planner.address_space import limit_words
from planner.overheads.table import Band
from planner.probe.card.spec import CardSpec
from planner.probe.command.lines import CardLine, as_documents, card_lines
from planner.probe.command.processes import Ending

Verdict = Literal["fits", "tight", "does_not_fit"]


@dataclass(frozen=True, slots=True)
class Run:
    """What was run and how it ended."""

    command: tuple[str, ...]
    cards: tuple[CardSpec, ...]
    context: Band
    ending: Ending
    seconds: float
    ranks: int = 0
    taken_bytes: int = 0


def processes_in(folder: Path) -> list[dict[str, Any]]:
    """The reports that the program's processes wrote, by rank."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("process-*.json")]
    return sorted(found, key=lambda process: (process["rank"], process["process_id"]))


def verdict_of(process: dict[str, Any], lines: Sequence[CardLine]) -> Verdict:
    """Out of memory does not fit; a survivor is tight where the high ends of its lines have no room together."""
    if process["outcome"] == "out_of_memory":
        return "does_not_fit"
    return "tight" if sum(line.high for line in lines) > process["card"]["total_bytes"] else "fits"


def report_of(run: Run, processes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The document that `fitproof dry-run --json` prints."""
    on_cards = [process for process in processes if process["card"]]
    judged = [_judged(process, run) for process in on_cards]
    worst = max(judged, key=_badness, default=None)
    return {
        "version": 1,
        "instrument": "dry-run",
        "verdict": worst["verdict"] if worst else None,
        "sentence": _sentence(run, processes, worst),
        "command": list(run.command),
        "program_exit_status": run.ending.status,
        "seconds": round(run.seconds, 2),
        "cards": [asdict(card) for card in run.cards],
        "worst_process_id": worst["process_id"] if worst else None,
        "context_bytes": {
            "low": round(run.context.low),
            "likely": round(run.context.likely),
            "high": round(run.context.high),
        },
        "processes": judged,
        "notes": _notes(run, judged),
    }


def _judged(process: dict[str, Any], run: Run) -> dict[str, Any]:
    lines = card_lines(process, run.context, run.taken_bytes)
    return {**process, "verdict": verdict_of(process, lines), "lines": as_documents(lines), "advice": []}


def _badness(process: dict[str, Any]) -> tuple[int, bool, int]:
    """Of equal verdicts that of a process that trained: others of the program may hold more of a card."""
    verdict = ["fits", "tight", "does_not_fit"].index(process["verdict"])
    return verdict, bool(process["steps"]), process["card"]["peak_used_bytes"]


def _sentence(run: Run, processes: Sequence[dict[str, Any]], worst: dict[str, Any] | None) -> str:
    """Why there is no answer; empty where there is one."""
    if worst is not None and worst["outcome"] == "out_of_memory":
        return ""
    if run.ending.status is None:
        return run.ending.why
    if run.ending.status != 0:
        said = f"The program {_ended(run.ending.status)}{_reason(processes) or '.'}"
        return " ".join(filter(None, [said, limit_words()]))
    if worst is None:
        return "The program ended with status 0 and never used a card."
    if not any(process.get("steps") for process in processes):
        return "The program ended with status 0, used the card, and made no optimizer step."
    return _missing_ranks(run, processes)


def _ended(status: int) -> str:
    """As subprocess writes a status; a shell or a launcher adds 128 to a signal's number."""
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return "was killed, as Linux does where memory runs out"
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _reason(processes: Sequence[dict[str, Any]]) -> str:
    """The first error that ended a process, on one line; a launcher only repeats those of its ranks."""
    failed = [process for process in processes if process["outcome"] == "failed"]
    failed.sort(key=lambda process: process["world_size"] == 1)
    message = " ".join(failed[0]["message"].split()) if failed else ""
    return f": {message}{'' if message.endswith(('.', '?', '!')) else '.'}" if message else ""


def _missing_ranks(run: Run, processes: Sequence[dict[str, Any]]) -> str:
    """A verdict over fewer ranks than were to run would be one over half the question."""
    world = max(process["world_size"] for process in processes)
    wanted = min(world, run.ranks or world)
    seen = {process["rank"] for process in processes if process["card"]}
    return "" if len(seen) >= wanted else f"Only {len(seen)} of {wanted} ranks used a card to the end."


def _notes(run: Run, processes: Sequence[dict[str, Any]]) -> list[str]:
    notes = []
    world = max((process["world_size"] for process in processes), default=0)
    if 0 < run.ranks < world:
        notes.append(
            f"The first {run.ranks} of {world} ranks ran, as if the others did the same; --ranks 0 runs all, as stages "
            "of a pipeline want."
        )
    if any(len(process["steps"]) == 1 for process in processes):
        notes.append("Only one optimizer step was seen; a second one may need more.")
    return notes

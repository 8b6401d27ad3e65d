"""`python -m planner.probe.command SPEC -- PROGRAM …`: run a program on virtual cards and write a report.

SPEC is a JSON file: `gpus` (a card of the catalogue for each), `memory_limit_bytes`, `taken_bytes` (what others hold of
each), `ranks` (how many run; 0: all; null: of more than two like cards two), `offline`, `scratch` (a folder or null),
`in_place`, `steps`, `most_steps`, `routing`, `seed`, `deadline_seconds`, `report` (the file to write), `snapshot` (a
file or null) and `find_smallest`.
The program's input and output are left alone. Exits 0 with a report, 2 with one sentence on stderr.
"""

import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from planner.errors import FieldProblem, FitproofError, InvalidRequestError
from planner.overheads.table import context_band
from planner.probe.card.preload import CARDS_VARIABLE
from planner.probe.card.spec import CardSpec, cards_of, cards_text
from planner.probe.command.advice import advice_for
from planner.probe.command.hub_cache import HUB_FOLDER, mirror_cache
from planner.probe.command.processes import run_to_its_end
from planner.probe.command.report import Run, processes_in, report_of
from planner.probe.command.smallest import LARGER, larger, smallest_capacities
from planner.probe.command.taken import taken
from planner.probe.processes.host_memory import available_bytes
from planner.probe.processes.lifecycle import EXIT_STATUS, Stopped, bounded_life, temporary_folder
from planner.units import format_gib

BOOTSTRAP = Path(__file__).parent / "bootstrap"
VALUES = Path(__file__).parents[1] / "values"
BUILDER = (sys.executable, "-m", "planner.probe.command.card_for")
MODEL_BUILDER = (sys.executable, "-m", "planner.probe.command.hollow_model")
EXIT_BAD_INPUT = 2
# The first rank does what only one does (logs, evaluates), the second what all others do, and no later one has larger
# shards (torch/distributed/tensor/placement_types.py, Shard: as torch.chunk cuts).
RANKS_OF_A_LARGE_WORLD = 2
# Where a process of the program says why it got no card, or could not report (fitproof_bootstrap/refusal.py).
REFUSAL = "refused.txt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    signal.signal(signal.SIGINT, lambda *_: None)  # the parent gets it too, and asks us to end
    spec_file, _, *command = sys.argv[1:] if arguments is None else arguments
    spec = json.loads(Path(spec_file).read_text(encoding="utf-8"))
    spec["ranks"] = _ranks_to_run(spec["ranks"], spec["gpus"])
    try:
        with bounded_life(), temporary_folder() as folder:
            report = measured(spec, command, folder)
            Path(spec["report"]).write_text(json.dumps(report), encoding="utf-8")
    except Stopped as stopped:
        return _refuse("The dry run was stopped; nothing is left behind.", EXIT_STATUS[stopped.reason])
    except FitproofError as error:
        problems = [f"{problem.field}: {problem.message}" for problem in error.problems]
        return _refuse(" ".join([error.title, *problems]), EXIT_BAD_INPUT)
    except OSError as error:
        return _refuse(f"The dry run cannot go on: {error.strerror or error}", EXIT_BAD_INPUT)
    return 0


def _ranks_to_run(asked: int | None, gpus: Sequence[str]) -> int:
    """How many ranks run; 0: all."""
    if asked is not None:
        return asked
    return RANKS_OF_A_LARGE_WORLD if len(gpus) > RANKS_OF_A_LARGE_WORLD and len(set(gpus)) == 1 else 0


def measured(spec: dict[str, Any], command: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run `command` on the cards that `spec` names and gather what its processes wrote into `folder`."""
    cards = _cards(spec["gpus"], spec["memory_limit_bytes"])
    if shutil.which(command[0]) is None:
        raise InvalidRequestError("The program cannot be run.", [FieldProblem("command", f"{command[0]} is not found")])
    run, processes = _run_on(cards, spec, command, folder / "run")
    if spec["snapshot"] and processes:
        shutil.copy(processes[0]["snapshot_file"], spec["snapshot"])
    report = report_of(run, processes)
    if report["sentence"]:
        return report
    if spec["find_smallest"]:
        _add_smallest(report, spec, command, folder)
    for process in (process for process in report["processes"] if process["verdict"] != "fits"):
        process["advice"] = advice_for(process)
    return report


def _cards(gpus: Sequence[str], limit_bytes: int | None) -> tuple[CardSpec, ...]:
    """The cards, each with no more than the limit.

    Raises:
        InvalidRequestError: a card has less than that, or nothing would be left beside the CUDA context.
    """
    for card in cards_of(gpus):
        if limit_bytes is not None and limit_bytes > card.total_bytes:
            fix = f"{card.name} has {format_gib(card.total_bytes)}; name at most that, or a larger card"
            raise InvalidRequestError("This card cannot play a larger one.", [FieldProblem("--memory-limit", fix)])
        if limit_bytes is not None and limit_bytes <= card.context_bytes:
            fix = f"name more than {format_gib(card.context_bytes)}, which the CUDA context takes"
            raise InvalidRequestError("Such a card has no room.", [FieldProblem("--memory-limit", fix)])
    return cards_of(gpus, limit_bytes)


def _run_on(
    cards: Sequence[CardSpec], spec: dict[str, Any], command: Sequence[str], folder: Path
) -> tuple[Run, list[dict[str, Any]]]:
    """Run the program once; its processes write into `folder`."""
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(_run_document(spec, folder)), encoding="utf-8")
    started = time.monotonic()
    card_set = secrets.token_hex(8)
    with taken(card_set, spec["taken_bytes"]):
        ending = run_to_its_end(
            command, _environment(folder, cards, card_set, offline=spec["offline"]), spec["deadline_seconds"]
        )
    if (folder / REFUSAL).exists():
        said = (folder / REFUSAL).read_text(encoding="utf-8").strip()
        raise InvalidRequestError(said or "The dry run's files cannot be written; the reason stands above.")
    run = Run(
        command=tuple(command),
        cards=tuple(cards),
        context=context_band(cards[0].compute_capability),
        ending=ending,
        seconds=time.monotonic() - started,
        ranks=spec["ranks"],
        taken_bytes=spec["taken_bytes"],
    )
    return run, processes_in(folder)


def _add_smallest(report: dict[str, Any], spec: dict[str, Any], command: Sequence[str], folder: Path) -> None:
    """Give every process `smallest`; one that ran out of memory is first seen to its end on larger cards."""
    cards, processes = cards_of(spec["gpus"], spec["memory_limit_bytes"]), report["processes"]
    if report["verdict"] == "does_not_fit":
        cards = larger(cards)
        _, processes = _run_on(cards, spec, command, folder / "larger")
        report["notes"].append(f"The smallest card is that of a second run, on cards with {LARGER} times the memory.")
    found = smallest_capacities(folder, _run_document(spec, folder), processes, cards)
    unknown = {"bytes": None, "why": "the program did not come to its steps on larger cards either"}
    for process in report["processes"]:
        process["smallest"] = found.get(process["rank"], unknown)


def _run_document(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What the bootstrap reads in each process."""
    return {
        "card_builder": BUILDER,
        "model_builder": MODEL_BUILDER,
        "offline": spec["offline"],
        "scratch": _scratch(spec, folder),
        "hub_cache": str(folder / HUB_FOLDER),
        "fitproof_path": str(Path(__file__).parents[3]),
        "values_folder": str(VALUES),
        "seed": spec["seed"],
        "routing": spec["routing"],
        "ranks": spec["ranks"],
        "host_bytes": available_bytes(),
        "steps": spec["steps"],
        "most_steps": spec["most_steps"],
        "snapshot": bool(spec["snapshot"]),
        "find_smallest": spec["find_smallest"],
        "progress_prefix": "fitproof: ",
        "refusal_file": str(folder / REFUSAL),
    }


def _scratch(spec: dict[str, Any], folder: Path) -> str | None:
    """Where what the program saves goes; None: where it says. A folder of ours goes with the run."""
    if spec["in_place"]:
        return None
    scratch = Path(spec["scratch"] or folder / "scratch").absolute()
    scratch.mkdir(parents=True, exist_ok=True)
    return str(scratch)


def _environment(folder: Path, cards: Sequence[CardSpec], card_set: str, *, offline: bool) -> dict[str, str]:
    """The person's own environment, our bootstrap first on its path."""
    path = os.pathsep.join(filter(None, [str(BOOTSTRAP), os.environ.get("PYTHONPATH", "")]))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "FITPROOF_DRY_RUN": str(folder),
        CARDS_VARIABLE: cards_text(cards),
        # Processes of one set see each other's memory on a card (planner/probe/card/src/peers.cpp).
        "FITPROOF_CARD_SET": card_set,
        **mirror_cache(folder, os.environ),
        **({"HF_HUB_OFFLINE": "1"} if offline else {}),
        # No run of noise among a person's experiments (docs.wandb.ai, "Environment variables").
        "WANDB_MODE": os.environ.get("WANDB_MODE", "disabled"),
    }


def _refuse(sentence: str, status: int) -> int:
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201  # the one sentence
    return status


if __name__ == "__main__":
    sys.exit(main())

"""`python -m planner.probe.command SPEC -- PROGRAM …`: run a program on virtual cards and write a report.

SPEC is a JSON file: `gpus` (a card of the catalogue for each), `memory_limit_bytes`, `ranks` (how many run; 0: all),
`steps`, `most_steps`, `routing`, `seed`, `deadline_seconds`, `report` (the file to write) and `snapshot` (a file or
null). The program's input and output are left alone. Exits 0 with a report, 2 with one sentence on stderr.
"""

import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from planner.errors import FieldProblem, FitproofError, InvalidRequestError
from planner.overheads.table import context_band
from planner.probe.card.preload import CARDS_VARIABLE
from planner.probe.card.spec import CardSpec, cards_of, cards_text
from planner.probe.command.hub_cache import mirror_cache
from planner.probe.command.processes import run_to_its_end
from planner.probe.command.report import Run, processes_in, report_of
from planner.probe.processes.lifecycle import EXIT_STATUS, SENTENCES, Stopped, bounded_life, temporary_folder

BOOTSTRAP = Path(__file__).parent / "bootstrap"
VALUES = Path(__file__).parents[1] / "values"
BUILDER = (sys.executable, "-m", "planner.probe.command.card_for")
EXIT_BAD_INPUT = 2
# The program's own exit status when its process got no card.
REFUSED_STATUS = 97


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    spec_file, _, *command = sys.argv[1:] if arguments is None else arguments
    spec = json.loads(Path(spec_file).read_text(encoding="utf-8"))
    try:
        with bounded_life(), temporary_folder() as folder:
            report = measured(spec, command, folder)
    except Stopped as stopped:
        return _refuse(SENTENCES[stopped.reason], EXIT_STATUS[stopped.reason])
    except FitproofError as error:
        problems = [f"{problem.field}: {problem.message}" for problem in error.problems]
        return _refuse(" ".join([error.title, *problems]), EXIT_BAD_INPUT)
    except OSError as error:
        return _refuse(f"The dry run cannot go on: {error.strerror or error}", EXIT_BAD_INPUT)
    Path(spec["report"]).write_text(json.dumps(report), encoding="utf-8")
    return 0


def measured(spec: dict[str, Any], command: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run `command` on the cards that `spec` names and gather what its processes wrote into `folder`."""
    cards = cards_of(spec["gpus"], spec["memory_limit_bytes"])
    executable = shutil.which(command[0])
    if executable is None:
        raise InvalidRequestError("The program cannot be run.", [FieldProblem("command", f"{command[0]} is not found")])
    (folder / "run.json").write_text(json.dumps(_run_document(spec)), encoding="utf-8")
    started = time.monotonic()
    status = run_to_its_end(command, _environment(folder, cards), spec["deadline_seconds"])
    run = Run(
        command=tuple(command),
        cards=cards,
        context=context_band(cards[0].compute_capability),
        status=status,
        seconds=time.monotonic() - started,
        ranks=spec["ranks"],
    )
    if status == REFUSED_STATUS:
        raise InvalidRequestError("The program got no virtual card; the reason stands above.")
    processes = processes_in(folder)
    if spec["snapshot"] and processes:
        shutil.copy(processes[0]["snapshot_file"], spec["snapshot"])
    return report_of(run, processes)


def _run_document(spec: dict[str, Any]) -> dict[str, Any]:
    """What the bootstrap reads in each process."""
    return {
        "card_builder": BUILDER,
        "fitproof_path": str(Path(__file__).parents[3]),
        "values_folder": str(VALUES),
        "seed": spec["seed"],
        "routing": spec["routing"],
        "ranks": spec["ranks"],
        "steps": spec["steps"],
        "most_steps": spec["most_steps"],
        "snapshot": bool(spec["snapshot"]),
        "progress_prefix": "fitproof: ",
        "refused_status": REFUSED_STATUS,
    }


def _environment(folder: Path, cards: Sequence[CardSpec]) -> dict[str, str]:
    """The person's own environment, our bootstrap first on its path."""
    path = os.pathsep.join(filter(None, [str(BOOTSTRAP), os.environ.get("PYTHONPATH", "")]))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "FITPROOF_DRY_RUN": str(folder),
        CARDS_VARIABLE: cards_text(cards),
        # Processes of one set see each other's memory on a card (planner/probe/card/src/peers.cpp).
        "FITPROOF_CARD_SET": secrets.token_hex(8),
        **mirror_cache(folder, os.environ),
    }


def _refuse(sentence: str, status: int) -> int:
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201  # the one sentence
    return status


if __name__ == "__main__":
    sys.exit(main())

"""Compare the cards of planner/step with torch's own record of each operator, and print a line per operator.

python -m planner.probe.recording.operators [--python PYTHON] [--card CARD] [--record] [OPERATOR ...]

A line says `equal`, or the first event in which torch and the card differ, and the first in which this release of torch
differs from the one in recorded.jsonl. Exit status 1 where a card differs.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import planner
from planner.errors import FitproofError
from planner.probe.card.preload import card_environment
from planner.probe.card.spec import card_of
from planner.probe.recording.operators.card_side import OPERATORS
from planner.probe.recording.operators.comparison import Line, compared, read_record, record

_SIDE = "planner.probe.recording.operators.torch_side"
_WHERE = "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"


def torch_lines(python: str, card: str, names: Sequence[str]) -> tuple[Line, list[Line]]:
    """What torch_side.py prints under `python` on a virtual card: its release, and a line per case.

    Raises:
        SystemExit: there is no torch, or it did not run; with what it said last.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(planner.__file__).parents[1])}
    torch = _said([python, "-c", _WHERE], environment)
    environment |= card_environment([card_of(card)], site=Path(torch.strip()).parent)
    release, *lines = map(json.loads, _said([python, "-m", _SIDE, *names], environment).splitlines())
    return release, lines


def _said(command: Sequence[str], environment: dict[str, str]) -> str:
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603  # ours
    if run.returncode:
        last = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
        raise SystemExit(f"{command[0]} could not run torch: {last}")
    return run.stdout


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m planner.probe.recording.operators", description=__doc__)
    add = parser.add_argument
    add("operators", nargs="*", metavar="OPERATOR", choices=(*OPERATORS, []), help="all, if none is named")
    add("--python", default=sys.executable, help="whose torch; that Python needs nothing else")
    add("--card", default="h100-sxm-80gb", help="the virtual card: its compute capability decides kernels")
    add("--record", action="store_true", help="print what torch does, as recorded.jsonl keeps it")
    options = parser.parse_args()
    try:
        release, lines = torch_lines(options.python, options.card, options.operators)
    except FitproofError as error:
        raise SystemExit(str(error)) from None
    if options.record:
        print("\n".join(json.dumps(line, ensure_ascii=False) for line in record(release, lines, options.card)))  # noqa: T201  a program
        return 0
    results = compared(lines, options.card, read_record())
    print(f"torch {release['torch']}")  # noqa: T201  a program
    for (operator, dtype), result in results.items():
        print(f"{operator}, {dtype}: {result}")  # noqa: T201  a program
    equal = sum(not result.card for result in results.values())
    print(f"{equal} of {len(results)} cards equal")  # noqa: T201  a program
    return 0 if equal == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())

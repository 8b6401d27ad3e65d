"""`make crossings`, or `python -m tests.planner.step.crossings`: formula against dry run on settings drawn at random.

    python -m tests.planner.step.crossings [--seed SEED] [--count 60] [--minutes 45] [--keep]

Prints a line for each setting as soon as its dry run is done: what the formula's bytes differ by before the step and in
each phase. A setting that is more than 0.3 % off anywhere follows with its request and, by
`planner.probe.recording.differences`, the tensors of which the two hold a different number. So does one that the
formula answers and the dry run refuses. The last lines are the summary, and the exit status is 1 where one was off.

`--seed` is today's date if it is not given; equal seeds draw equal settings. `--keep` adds what is off to
tests/planner/step/tables/recorded/drawn.jsonl, which holds the formulas from then on.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from statistics import median
from time import monotonic
from typing import Any

from planner.errors import FitproofError
from planner.probe.__main__ import be_quiet
from planner.probe.devices.virtual_card import insert_any_card
from planner.probe.processes.forked import ChildFailedError
from planner.probe.recording.agreement import record
from tests.planner.step.compared import ComparedRow, compared_row
from tests.planner.step.crossings.drawing import crossings
from tests.planner.step.crossings.drawn import FILE
from tests.planner.step.recorded import Recorded

OFF_FRACTION = 0.003
# Of one setting's unequal tensors, lines printed.
_LINES_SHOWN = 40

Setting = dict[str, Any]


class NotRun(str):
    """Why a setting that the formula answers has no dry run."""

    __slots__ = ()


def outcomes(settings: Iterable[Setting], seconds: float) -> Iterator[tuple[Setting, ComparedRow | NotRun]]:
    """Each setting beside its dry run; none begins when that many seconds have passed."""
    end = monotonic() + seconds
    for setting in settings:
        if monotonic() > end:
            return
        try:
            yield setting, compared_row(Recorded(**record(setting["name"], setting["request"])))
        except (FitproofError, ChildFailedError) as error:
            problems = [f"{problem.field}: {problem.message}" for problem in getattr(error, "problems", ())]
            yield setting, NotRun(" ".join(" ".join([str(error), *problems]).split())[:300])


def largest(row: ComparedRow) -> tuple[float, str]:
    """The largest difference of one setting, signed, and its phase."""
    return max(((row.fraction(phase), phase) for phase in row.differences_bytes), key=lambda pair: abs(pair[0]))


def line(name: str, outcome: ComparedRow | NotRun) -> str:
    """One setting in words."""
    if isinstance(outcome, NotRun):
        return f"not run {name}: {outcome}"
    unequal = [
        f"{phase} {outcome.fraction(phase):+.3%} ({difference_bytes:+,} bytes)"
        for phase, difference_bytes in outcome.differences_bytes.items()
        if difference_bytes
    ]
    word = "off" if is_off(outcome) else "near" if unequal else "equal"
    return f"{word:7} {name}" + (f": {', '.join(unequal)}" if unequal else "")


def is_off(outcome: ComparedRow | NotRun) -> bool:
    """Whether the two instruments disagree by more than is allowed."""
    return isinstance(outcome, NotRun) or abs(largest(outcome)[0]) > OFF_FRACTION


def explained(setting: Setting) -> str:
    """The request, and where the trace and torch part."""
    found = subprocess.run(
        [sys.executable, "-m", "planner.probe.recording.differences"],
        input=json.dumps(setting), capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = found.stdout if found.returncode == 0 else found.stderr[-2000:]
    return "\n".join([f"  {json.dumps(setting['request'])}", *(f"  {one}" for one in told.splitlines()[:_LINES_SHOWN])])


def summary(rows: list[ComparedRow | NotRun]) -> str:
    """How many agree."""
    ran = [row for row in rows if isinstance(row, ComparedRow)]
    phases = [difference for row in ran for difference in row.differences_bytes.values()]
    equal = sum(not any(row.differences_bytes.values()) for row in ran)
    found = [f"{len(rows)} settings: {equal} equal to the byte in every phase, {sum(map(is_off, rows))} off"]
    if ran:
        worst = max(ran, key=lambda row: abs(largest(row)[0]))
        fraction, phase = largest(worst)
        half = median(abs(largest(row)[0]) for row in ran)
        found.append(
            f"{phases.count(0)} of {len(phases)} phases equal; median {half:.4%}, worst {fraction:+.2%} "
            f"({phase} of {worst.row.name})"
        )
    return "\n".join(found)


def keep(row: Recorded) -> None:
    """Add a dry run to the recorded tables, which no name stands in twice."""
    with FILE.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def main() -> int:
    """Draw, run and compare."""
    parser = argparse.ArgumentParser(prog="python -m tests.planner.step.crossings")
    parser.add_argument("--seed", default=f"{datetime.now(UTC):%Y%m%d}", help="equal seeds draw equal settings")
    parser.add_argument("--count", type=int, default=60, help="settings that are drawn")
    parser.add_argument("--minutes", type=float, default=45, help="no dry run begins later than this")
    parser.add_argument("--keep", action="store_true", help=f"add what is off to {FILE.name}")
    options = parser.parse_args()
    be_quiet()
    insert_any_card()
    rows = []
    for setting, outcome in outcomes(islice(crossings(options.seed), options.count), options.minutes * 60):
        rows.append(outcome)
        print(line(setting["name"], outcome), flush=True)
        if is_off(outcome):
            print(explained(setting), flush=True)
            if options.keep and isinstance(outcome, ComparedRow):
                keep(outcome.row)
    print(summary(rows))
    return 1 if any(map(is_off, rows)) else 0


if __name__ == "__main__":
    raise SystemExit(main())

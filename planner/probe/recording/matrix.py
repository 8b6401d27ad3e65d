"""`python -m planner.probe.recording.matrix --on cuda|dry-run`: the evidence matrix, one record for each setting.

The settings are data: `planner/evidence/matrix.jsonl`, quickest and most informative first. Each runs in a process of
its own (a dry run in a fork of this one, which has imported the stack) and appends one line to
`planner/evidence/measured-<instrument>.jsonl` as soon as it is done. A setting that has
a record is left alone, so the program can be stopped at any time, by `--deadline` or a signal, and gone on with.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import planner.evidence
from planner.errors import FitproofError
from planner.evidence.matrix import SETTINGS_FILE, Setting, settings
from planner.probe.__main__ import be_quiet, measured
from planner.probe.devices.virtual_card import insert_any_card
from planner.probe.options import parse_options
from planner.probe.processes.forked import ChildFailedError, in_fork
from planner.probe.processes.lifecycle import EXIT_STATUS, SENTENCES, Stopped, bounded_life
from planner.probe.progress import Silence
from planner.request.schema import Request

EVIDENCE = Path(planner.evidence.__file__).parent
# A 70B model in full takes a minute on two cores; nothing here is worth more than ten.
SETTING_SECONDS = 600.0
PROGRAM = (sys.executable, "-m", "planner.probe")

Say = Callable[[str], None]
Run = Callable[[Setting], dict[str, Any]]


class SettingFailedError(RuntimeError):
    """One setting gave no measurement; the message says why."""


def recorded_ids(path: Path) -> frozenset[str]:
    """Settings that have a measurement; a failed one is tried again."""
    if not path.exists():
        return frozenset()
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line)
    return frozenset(row["id"] for row in rows if row.get("measurement"))


def run_matrix(chosen: Sequence[Setting], records: Path, run: Run, say: Say) -> int:
    """Run what has no record yet. Returns how many settings failed."""
    done = recorded_ids(records)
    failures = 0
    for setting in chosen:
        if setting.id in done:
            continue
        record = _record(setting, run)
        with records.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        failures += record["measurement"] is None
        say(_line(record))
    return failures


def _record(setting: Setting, run: Run) -> dict[str, Any]:
    """Run one setting."""
    started = time.monotonic()
    measurement: dict[str, Any] | None = None
    error = None
    try:
        measurement = run(setting)
    except (SettingFailedError, FitproofError) as failure:
        error = str(failure)
    return {
        "id": setting.id,
        "why": setting.why,
        "options": list(setting.options),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.monotonic() - started, 1),
        "measurement": measurement,
        "error": error,
    }


def in_a_program(command: Sequence[str], instrument: str) -> Run:
    """Start `command` for each setting: a context of a real card cannot be forked."""

    def run(setting: Setting) -> dict[str, Any]:
        arguments = [*command, *_arguments(instrument, setting)]
        with _killed_on_exit(arguments) as process:
            output, errors = process.communicate(json.dumps(setting.request))
        if process.returncode != 0:
            raise SettingFailedError((errors.strip().splitlines() or [f"exit status {process.returncode}"])[-1])
        measurement: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
        return measurement

    return run


def in_forks() -> Run:
    """Import the stack once, and fork a child with a virtual card of its own for each setting."""
    be_quiet()
    insert_any_card()

    def run(setting: Setting) -> dict[str, Any]:
        options = parse_options(_arguments("dry-run", setting))
        request = Request.parse(setting.request)
        try:
            measurement = in_fork(lambda: measured(request, options, Silence()))
        except ChildFailedError as failure:
            raise SettingFailedError(str(failure)) from None
        return measurement.model_dump(mode="json")

    return run


def _arguments(instrument: str, setting: Setting) -> list[str]:
    return ["--on", instrument, *setting.options, "--deadline", str(SETTING_SECONDS)]


class _killed_on_exit:  # noqa: N801  # reads as the context manager it is
    """A child that does not outlive the block, however the block ends."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and program
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "subprocess.Popen[str]":
        return self._process

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()


def _line(record: dict[str, Any]) -> str:
    measured = record["measurement"]
    if measured is None:
        return f"{record['id']:44} failed: {record['error']}"
    mib = measured["peak_allocated_bytes"] / 2**20
    return f"{record['id']:44} {measured['outcome']:14} {mib:10.1f} MiB allocated {record['seconds']:7.1f} s"


def _chosen(only: str, wanted: Sequence[Setting]) -> Iterator[Setting]:
    return (setting for setting in wanted if only in setting.id)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the matrix; exit 0 when every setting that was reached gave a measurement."""
    program = "python -m planner.probe.recording.matrix"
    parser = argparse.ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--on", choices=("cuda", "dry-run"), required=True)
    add("--only", default="", help="settings whose id contains this")
    add("--deadline", type=float, help="stop after this many seconds")
    add("--settings", type=Path, default=SETTINGS_FILE, help="another matrix")
    add("--records", type=Path, help="where the records go (default: planner/evidence/measured-<instrument>.jsonl)")
    options = parser.parse_args(arguments)
    records = options.records or EVIDENCE / f"measured-{options.on}.jsonl"
    chosen = tuple(_chosen(options.only, settings(options.settings)))
    # The stack is imported before the clock starts: an import that is broken off cannot be taken up again.
    run = in_forks() if options.on == "dry-run" else in_a_program(PROGRAM, options.on)
    try:
        with bounded_life(options.deadline):
            failures = run_matrix(chosen, records, run, lambda line: print(line, flush=True))  # noqa: T201
    except Stopped as stopped:
        print(SENTENCES[stopped.reason], file=sys.stderr)  # noqa: T201  # the one sentence
        return 0 if stopped.reason == "deadline" else EXIT_STATUS[stopped.reason]
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

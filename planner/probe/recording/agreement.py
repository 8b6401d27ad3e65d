"""Record what dry runs read, for the formulas to be held to.

    python -m tests.planner.step.tables.settings | python -m planner.probe.recording.agreement > recorded.jsonl

One JSON line per setting on stdin (`name`, `request`); one line back with what was allocated when the steady step
began (`static_bytes`) and the worst instant of its phases. Both are the bytes that tensors asked for, each rounded to
512, by torch's own history of the allocator: a formula knows no block that was not split. A setting that the dry run
refuses is recorded with its `error`, and so is one that runs out of memory.
"""

import json
from typing import Any

from planner.probe.__main__ import be_quiet
from planner.probe.devices.virtual_card import insert_any_card
from planner.probe.options import Options
from planner.probe.processes.forked import in_fork
from planner.probe.recording.settings_on_stdin import answer_each
from planner.probe.report import library_versions
from planner.request.schema import Request

PHASES = ("forward", "loss", "backward", "optimizer")
_VERSIONS = ("torch", "transformers", "peft", "bitsandbytes")


def record(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """Dry-run one request for a first and two steady steps, in a fork of this process."""
    from planner.probe.devices.memory_history import traced_readings  # noqa: PLC0415  # torch comes after its card

    request = Request.parse(document)
    readings = {reading.name: reading for reading in in_fork(lambda: traced_readings(request, Options()))}
    return {
        "name": name,
        "request": document,
        "static_bytes": readings["first_optimizer"].resident_bytes,
        "phases": {phase: readings[phase].peak_allocated_bytes for phase in PHASES},
    }


def main() -> int:
    """Record every setting on stdin."""
    be_quiet()
    insert_any_card()
    versions = library_versions()
    print(json.dumps({"versions": {name: versions[name] for name in _VERSIONS}}))  # noqa: T201  a program
    answer_each(record)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m planner.probe.generation`: one real `generate` on a virtual card, watched.

Reads inference questions on stdin, one JSON document a line, and prints for each a line with the peaks of its phases:
load, prefill (up to the first forward's end) and decode. Each runs in a fork with a card of its own.
"""

import json
import sys
from typing import Any

from planner.errors import FitproofError
from planner.model.resolved_request import settled
from planner.probe.__main__ import be_quiet
from planner.probe.devices.virtual_card import insert_any_card
from planner.probe.processes.forked import ChildFailedError, in_fork
from planner.serving.request import Inference


def main() -> int:
    """Run every question; exit 1 if one of them failed."""
    questions = [json.loads(line) for line in sys.stdin if line.strip()]
    be_quiet()
    insert_any_card()
    failed = 0
    for document in questions:
        try:
            answer: dict[str, Any] = {"peaks": in_fork(lambda: _peaks(document))}  # noqa: B023 (called at once)
        except (FitproofError, ChildFailedError) as error:
            answer, failed = {"error": str(error)}, 1
        print(json.dumps({**document, **answer}), flush=True)  # noqa: T201  # the answer
    return failed


def _peaks(document: dict[str, Any]) -> dict[str, int]:
    from planner.model.model import resolve_model  # noqa: PLC0415  # the stack comes after its card
    from planner.probe.devices.virtual_card import insert_card, make_values_true  # noqa: PLC0415
    from planner.probe.generation.run import watched_generate  # noqa: PLC0415

    asked = Inference.parse(document)
    loaded = settled(asked.as_loaded(), resolve_model(asked.model))
    insert_card(loaded)
    make_values_true(0, "even")
    return watched_generate(asked, loaded)


if __name__ == "__main__":
    sys.exit(main())

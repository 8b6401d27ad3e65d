"""Settings that a tool of this folder reads, a JSON line each (`name`, `request`), and the line it writes for each."""

import json
import sys
from collections.abc import Callable
from typing import Any

from planner.errors import FitproofError
from planner.probe.processes.forked import ChildFailedError

# Of an error's text in a line.
_MOST_CHARACTERS = 200


def answer_each(record: Callable[[str, dict[str, Any]], dict[str, Any]]) -> None:
    """Print what `record` makes of each setting on stdin, or the setting with what was wrong; its name on stderr."""
    for line in sys.stdin:
        setting = json.loads(line)
        try:
            result = record(setting["name"], setting["request"])
        except (FitproofError, ChildFailedError) as error:
            result = {**setting, "error": " ".join(str(error).split())[:_MOST_CHARACTERS]}
        print(json.dumps(result), flush=True)  # noqa: T201  a program
        sys.stderr.write(f"{setting['name']}\n")

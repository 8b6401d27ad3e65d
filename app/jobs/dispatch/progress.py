"""Reading a probe's log: JSON lines are progress, one of them is the Measurement, everything else is noise."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from planner.measurement import Measurement

# A progress line is a few hundred bytes. More than this is not progress, and a probe that prints thousands of
# lines must not fill the database.
MOST_LINE_CHARACTERS = 16_384
MOST_LINES_KEPT = 5_000
_MEASUREMENT_KEYS = {"version", "instrument", "outcome", "device"}


@dataclass(frozen=True, slots=True)
class Progress:
    """What some log lines said: events to keep, the measurement if it came, and the last words of a failure."""

    events: tuple[dict[str, Any], ...]
    measurement: dict[str, Any] | None
    sentence: str | None


def read_progress(lines: Iterable[str]) -> Progress:
    """Sort log lines. The last Measurement wins; a line that only looks like one is an ordinary event."""
    events: list[dict[str, Any]] = []
    measurement, sentence = None, None
    for line in lines:
        document = _json_object(line)
        if document is None:
            sentence = line.strip()[:500] or sentence
        elif document.keys() >= _MEASUREMENT_KEYS and (read := _measurement(document)) is not None:
            measurement = read
        elif ("stage" in document or "phase" in document) and len(line) <= MOST_LINE_CHARACTERS:
            # A stage that begins, or what a phase has read so far. Other objects are not the probe's: Ray's log
            # begins with the command, the request's line in it.
            events.append(document)
    return Progress(tuple(events), measurement, sentence)


def _json_object(line: str) -> dict[str, Any] | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        document = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _refuse_constant(name: str) -> None:
    # NaN and Infinity are no JSON and could not be stored or sent on.
    raise ValueError(name)


def _measurement(document: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return Measurement.model_validate(document).model_dump(mode="json")
    except ValidationError:
        return None

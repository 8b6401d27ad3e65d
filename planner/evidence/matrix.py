"""The settings of the evidence matrix: which runs every instrument is asked for. No torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.request.schema import Request

SETTINGS_FILE = Path(__file__).with_name("matrix.jsonl")


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the matrix. `options` are the probe's own; `why` says what the row is there to show."""

    id: str
    why: str
    request: dict[str, Any]
    options: tuple[str, ...] = ()


def settings(path: Path = SETTINGS_FILE) -> tuple[Setting, ...]:
    """Read the matrix.

    Raises:
        InvalidRequestError: a row's request is wrong.
        ValueError: two rows have the same id.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    found = tuple(
        Setting(row["id"], row["why"], Request.parse(row["request"]).model_dump(mode="json", exclude_unset=True),
                tuple(row.get("options", ())))
        for row in rows
    )  # fmt: skip
    ids = [setting.id for setting in found]
    if len(set(ids)) < len(ids):
        msg = f"{path.name}: ids must differ: {sorted({each for each in ids if ids.count(each) > 1})}"
        raise ValueError(msg)
    return found

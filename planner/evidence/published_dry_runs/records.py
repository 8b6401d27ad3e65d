"""What the virtual card took for each published setting, schedule by schedule. No torch."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RECORDS_FILE = Path(__file__).with_name("records.jsonl")


@dataclass(frozen=True, slots=True)
class Record:
    """One setting: outcomes and bytes in the order of the schedules. A moment that none reached is left out.

    `messages` are those of runs that ran out of memory. `stepped` counts the schedules that took the steps themselves;
    the others asked torch's allocator for the same again after a load of their own.
    """

    id: str
    outcomes: tuple[str, ...]
    bytes: dict[str, tuple[int, ...]]
    messages: tuple[str, ...]
    stepped: int

    @classmethod
    def of(cls, identifier: str, lines: Sequence[dict[str, Any]]) -> "Record":
        """From a harness's lines."""
        moments = dict.fromkeys(moment for line in lines for moment in line["bytes"])
        return cls(
            identifier,
            tuple(line["outcome"] for line in lines),
            {
                moment: tuple(line["bytes"][moment] for line in lines if moment in line["bytes"])
                for moment in moments
            },
            tuple(dict.fromkeys(line["message"] for line in lines if "message" in line)),
            sum(line["stepped"] for line in lines),
        )


def records(path: Path = RECORDS_FILE) -> tuple[Record, ...]:
    """Every kept record; none when nothing was run yet."""
    if not path.exists():
        return ()
    return tuple(_record(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())


def write_records(kept: Iterable[Record], path: Path = RECORDS_FILE) -> None:
    """Replace the file."""
    path.write_text("".join(f"{json.dumps(asdict(record))}\n" for record in kept), encoding="utf-8")


def _record(row: dict[str, Any]) -> Record:
    return Record(
        row["id"],
        tuple(row["outcomes"]),
        {moment: tuple(values) for moment, values in row["bytes"].items()},
        tuple(row["messages"]),
        row["stepped"],
    )

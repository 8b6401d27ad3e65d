"""Torch's side of every case beside the card's, and beside what an earlier release did."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from planner.catalog import resolve_gpu
from planner.probe.recording.operators.card_side import events_of
from planner.probe.recording.operators.lifetimes import Event, first_difference, text_of

RECORDED = Path(__file__).with_name("recorded.jsonl")
# A line of torch_side.py.
Line = Mapping[str, Any]


class Key(NamedTuple):
    """What the record has one line for."""

    operator: str
    dtype: str
    trains: bool


class Result(NamedTuple):
    """How an operator came out; both are empty where nothing differs.

    `card`: the first difference of its card from torch. `since`: that of torch from the record.
    """

    card: str
    since: str

    def __str__(self) -> str:
        return "; ".join(filter(None, self)) or "equal"


def compared(lines: Iterable[Line], card: str, before: Iterable[Line]) -> dict[tuple[str, str], Result]:
    """By operator and dtype. `card` names the virtual card; `before` is a record, whose first line is of its release.

    Other cards run other kernels: the record tells nothing of them.
    """
    gpu, (release, *earlier) = resolve_gpu(card), before
    kept = {_key(line): line["events"] for line in earlier} if release["card"] == card else {}
    found: dict[tuple[str, str], Result] = {}
    for line in lines:
        theirs, place = torch_text(line), (line["operator"], line["dtype"])
        by_card = line.get("error") or first_difference("torch", theirs, "the card", _text(events_of(line, gpu), line))
        since = ""
        if theirs not in (known := kept.get(_key(line), [theirs])):
            named = f"torch {release['torch']}"
            since = first_difference("this torch", theirs, named, known[0])
        first = found.setdefault(place, Result("", ""))
        found[place] = Result(first.card or _told(line, by_card), first.since or _told(line, since))
    return found


def _told(line: Line, difference: str) -> str:
    return difference if line["trains"] or not difference else f"without gradients: {difference}"


def record(release: Line, lines: Iterable[Line], card: str) -> Iterator[Line]:
    """The record that is kept: what torch does at each size, once where that reads the same at all."""
    yield {**release, "card": card}
    kept: dict[Key, list[str]] = {}
    for line in lines:
        texts = kept.setdefault(_key(line), [])
        if (text := torch_text(line)) not in texts:
            texts.append(text)
    for key, texts in kept.items():
        yield {**key._asdict(), "events": texts}


def read_record() -> list[Line]:
    """The record of the release that the cards were made for."""
    return [json.loads(line) for line in RECORDED.read_text(encoding="utf-8").splitlines()]


def torch_text(line: Line) -> str:
    """Torch's side of a line, or why there is none."""
    return _text(line["events"], line) if "events" in line else str(line["error"])


def _key(line: Line) -> Key:
    return Key(line["operator"], line["dtype"], line["trains"])


def _text(events: Sequence[Event], line: Line) -> str:
    names = [name for name, _, role, _ in line["tensors"] if role in {"active", "constant"}]
    return text_of(events, names, line["dims"])

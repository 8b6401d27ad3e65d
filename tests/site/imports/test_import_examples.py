"""Sixty configurations as people keep them, each with what it means for memory in its first line.

`# expect: path=value ...`, where a path is one of the request; `contradicts`, `matters` and `problems` name a key of
the file that is reported as a contradiction, as left out although it moves memory, or as refused by the planner.
"""

import json
import re
from itertools import zip_longest
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.imports import read

FOLDER = Path(__file__).parent / "examples"
FILES = sorted(FOLDER.glob("*/*.y*ml"))
TRAINERS = {"axolotl": "axolotl", "llama_factory": "llama-factory", "trl": "trl"}


def expectations(text: str) -> dict[str, Any]:
    pairs = (pair.split("=", 1) for pair in text.splitlines()[0].removeprefix("# expect: ").split())
    return {path: _value(value) for path, value in pairs}


def _value(text: str) -> Any:
    """JSON where it is JSON, otherwise a word."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def test_there_are_at_least_twenty_for_each_trainer() -> None:
    assert all(len(list((FOLDER / folder).glob("*.y*ml"))) >= 20 for folder in TRAINERS)


EVERY = pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")


@EVERY
def test_every_key_is_understood_and_the_plan_is_the_trainers(site: httpx.Client, file: Path) -> None:
    text = file.read_text()
    imported = read(text, gpu="a100-sxm-80gb")
    expected = expectations(text)
    contradicts, matters, problems = (expected.pop(name, None) for name in ("contradicts", "matters", "problems"))
    ignored = imported.reading.ignored
    assert imported.trainer.id == TRAINERS[file.parent.name]
    assert [item.key for item in ignored if "not known" in item.reason] == []
    assert {problem.field for problem in imported.reading.contradictions} == {*filter(None, [contradicts])}
    assert matters is None or matters in {item.key for item in ignored if item.matters}
    answer = site.post("/api/v1/imports", json={"config": text, "gpu": "a100-sxm-80gb"}).json()
    assert {problem["field"] for problem in answer["problems"]} == {*filter(None, [problems])}
    request = answer["request"] or imported.document
    assert {path: at(request, path) for path in expected} == expected


@EVERY
def test_a_file_comes_back_as_it_was_and_with_one_line_changed(file: Path) -> None:
    text = file.read_text()
    imported = read(text)
    assert imported.edited({})[0] == text
    edited, left = imported.edited({"training.per_device_train_batch_size": 17})
    assert not left
    assert read(edited).document["training"]["per_device_train_batch_size"] == 17
    [(before, after)] = [pair for pair in zip_longest(text.splitlines(), edited.splitlines()) if pair[0] != pair[1]]
    assert re.fullmatch(r"\w*batch_size: 17", after.partition("#")[0].rstrip())
    assert (before or "").partition("#")[2] == after.partition("#")[2]


def at(document: dict[str, Any], path: str) -> Any:
    found: Any = document
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found

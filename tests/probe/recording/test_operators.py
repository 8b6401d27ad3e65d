"""Every operator's card beside torch's own record of the operator."""

import json
import subprocess
import sys

import pytest

from planner.probe.recording.operators.comparison import RECORDED, compared, read_record
from planner.probe.recording.operators.lifetimes import first_difference, text_of

PROGRAM = [sys.executable, "-m", "planner.probe.recording.operators"]
SQUARE = {
    "operator": "square", "dtype": "bfloat16", "trains": True, "dims": {"T": 106, "b": 2, "s": 53, "h": 512,
    "o": 8, "H": 1, "K": 1, "d": 8, "V": 8}, "tensors": [["x", ["T", "h"], "active", "bfloat16"]],
}  # fmt: skip
SIZE = 2 * 106 * 512
GONE = [("forward", 1, 0), ("gradients in", 2, SIZE)]


def test_every_card_is_equal_on_this_torch_and_torch_is_as_recorded() -> None:
    run = subprocess.run(PROGRAM, capture_output=True, text=True, check=False)
    release, *lines, count = run.stdout.splitlines()
    assert release == f"torch {read_record()[0]['torch']}"
    assert [line for line in lines if not line.endswith(": equal")] == []
    assert count == f"{len(lines)} of {len(lines)} cards equal"
    assert run.returncode == 0


def test_the_record_is_what_torch_does_here() -> None:
    run = subprocess.run([*PROGRAM, "--record", "square", "linear"], capture_output=True, text=True, check=True)
    kept = RECORDED.read_text(encoding="utf-8").splitlines()
    assert set(run.stdout.splitlines()) <= set(kept)
    assert {json.loads(line)["operator"] for line in run.stdout.splitlines()[1:]} == {"square", "linear"}


def test_what_torch_does_otherwise_than_the_card_and_than_its_record_is_named_by_its_first_event() -> None:
    changed = [("inputs", 0, SIZE), ("forward", 1, SIZE), *GONE, ("backward", 3, SIZE), ("backward", 2, 0)]
    before = [
        {"torch": "2.6.0", "card": "h100-sxm-80gb"},
        {"operator": "square", "dtype": "bfloat16", "trains": True, "events": ["+f1 2·T·h"]},
    ]
    result = compared([{**SQUARE, "events": changed}], "h100-sxm-80gb", before)[("square", "bfloat16")]
    assert result.card.startswith("torch has -g1, the card +b2 2·T·h, after +f1 2·T·h -f1 |")
    assert result.since == "this torch has -f1, torch 2.6.0 nothing, after +f1 2·T·h"


def test_frees_between_two_allocations_have_no_order() -> None:
    events = [("inputs", 0, 100), ("inputs", 1, 100), ("forward", 2, 200)]
    one = text_of([*events, ("forward", 0, 0), ("forward", 1, 0)], ["x", "y"], {"T": 100})
    other = text_of([*events, ("forward", 1, 0), ("forward", 0, 0)], ["x", "y"], {"T": 100})
    assert one == other == "+f1 2·T -x -y"
    assert first_difference("torch", one, "the card", other) == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--python", "/usr/bin/false"], "could not run torch"), (["no such operator"], "invalid choice")],
)
def test_what_cannot_be_compared_is_said_in_a_sentence(arguments: list[str], sentence: str) -> None:
    run = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr

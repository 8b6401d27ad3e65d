"""`here` is this machine's own card; the virtual card answers for the driver."""

import json
import os
import subprocess
import sys
from pathlib import Path

from planner.catalog import resolve_gpu
from planner.probe.card.preload import card_environment
from planner.probe.card.spec import cards_of

ROOT = Path(__file__).parents[3]


def fitproof(cards: tuple[str, ...], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *words],
        env={**os.environ, **card_environment(cards_of(cards)), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_plan_for_here_has_what_is_free_on_the_machines_card() -> None:
    answer = json.loads(fitproof(("rtx-4090",), "plan", "qwen3-8b", "here", "--json").stdout)
    assert answer["usable_bytes"] == resolve_gpu("rtx-4090").usable_bytes
    assert answer["request"]["gpu"]["compute_capability"] == "8.9"
    assert answer["request"]["gpu"]["name"].startswith("NVIDIA GeForce RTX 4090 of this machine (23.52 GiB free")


def test_the_second_card_is_here_too_and_a_third_is_named_as_missing() -> None:
    second = fitproof(("rtx-4090", "t4"), "recommend", "--gpu", "here:1", "--json")
    assert json.loads(second.stdout)["usable_bytes"] == resolve_gpu("t4").usable_bytes
    third = fitproof(("rtx-4090", "t4"), "recommend", "here:2")
    assert third.returncode == 2
    assert "the driver has 2 cards, and of number 2 it says" in third.stderr

"""`fitproof dry-run --find-smallest`: the card it names is enough, and one with a page less is not."""

import sys
from pathlib import Path
from typing import Any

import pytest

from planner.catalog import find_gpu
from tests.probe.command.terminal import program, report_of, run

WORDS = (sys.executable, program("layers"), "40960")
MIB = 1 << 20


def searched(folder: Path, limit: str) -> dict[str, Any]:
    done = run(*WORDS, cwd=folder, options=("--memory-limit", limit, "--find-smallest", "--json"))
    (process,) = report_of(done)["processes"]
    return {**process, "status": done.returncode}


@pytest.fixture(scope="module")
def survivor(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The process of a run that had memory enough."""
    return searched(tmp_path_factory.mktemp("survivor"), "3GiB")


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The process of a run that ran out of memory and was repeated on a larger card."""
    return searched(tmp_path_factory.mktemp("victim"), "700MiB")


def test_the_smallest_card_is_enough_and_one_with_a_page_less_is_not(survivor: dict[str, Any], tmp_path: Path) -> None:
    smallest_bytes = survivor["smallest"]["bytes"]
    enough = run(*WORDS, cwd=tmp_path, options=("--memory-limit", f"{smallest_bytes}"))
    less = run(*WORDS, cwd=tmp_path, options=("--memory-limit", f"{smallest_bytes - 2 * MIB}"))
    assert enough.returncode in (0, 3), enough.stdout
    assert less.returncode == 1, less.stdout


def test_it_is_the_same_card_for_a_run_that_survives_and_one_that_does_not(
    survivor: dict[str, Any], victim: dict[str, Any]
) -> None:
    assert (survivor["status"], victim["status"]) == (0, 1)
    assert victim["smallest"]["bytes"] == survivor["smallest"]["bytes"] > 700 * MIB


def test_a_program_that_lacks_memory_is_told_what_saves_how_much_and_which_card_is_enough(
    victim: dict[str, Any],
) -> None:
    advice = {row["change"]: row for row in victim["advice"]}
    checkpointing = advice["turn gradient checkpointing on"]
    activations = sum(row["bytes"] for row in victim["peak"]["by_kind"] if "activations" in row["name"])
    assert (checkpointing["saves_bytes"], checkpointing["exact"]) == (activations, False)
    larger = [change.removeprefix("a larger card: ") for change in advice if change.startswith("a larger card: ")]
    assert larger
    assert all(find_gpu(name).usable_bytes > victim["smallest"]["bytes"] for name in larger)

"""`fitproof dry-run --find-smallest`: the card it names is enough, and one with a page less is not."""

import sys
from pathlib import Path

import pytest

from tests.probe.command.terminal import program, report_of, run


@pytest.mark.parametrize("given", ["3GiB", "700MiB"], ids=["the run survives", "the run does not"])
def test_the_smallest_card_is_enough_and_one_with_a_page_less_is_not(tmp_path: Path, given: str) -> None:
    words = (sys.executable, program("loop"), "8192")
    found = run(*words, cwd=tmp_path, options=("--memory-limit", given, "--find-smallest", "--json"))
    (process,) = report_of(found)["processes"]
    smallest_bytes = process["smallest"]["bytes"]
    enough = run(*words, cwd=tmp_path, options=("--memory-limit", f"{smallest_bytes}"))
    less = run(*words, cwd=tmp_path, options=("--memory-limit", f"{smallest_bytes - (2 << 20)}"))
    assert enough.returncode in (0, 3), enough.stdout
    assert less.returncode == 1, less.stdout

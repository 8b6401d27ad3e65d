"""What others hold of a card."""

import sys
from pathlib import Path

from tests.probe.command.terminal import program, report_of, run


def test_a_desktop_on_the_card_is_a_line_and_its_memory_is_gone(tmp_path: Path) -> None:
    words = (sys.executable, program("layers"), "8192")
    done = run(*words, cwd=tmp_path, options=("--taken", "23GiB", "--json"))
    assert done.returncode == 1, done.stdout
    report = report_of(done)
    (process,) = report["processes"]
    lines = {line["name"]: line for line in process["lines"]}
    assert lines["display and other programs"]["likely"] == 23 << 30
    assert "23.00 GiB memory in use" in process["message"]

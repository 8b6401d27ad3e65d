"""Programs that run the installed torch on virtual cards, each in a process of its own."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
START = """
import json
from planner.probe.card.preload import insert_cards
from planner.probe.card.readings import read_card
from planner.probe.card.spec import cards_of
from planner.request import CustomGpu
def insert(*gpus, limit=None): insert_cards(cards_of(gpus, limit))
answer = {}
"""


def on_card(program: str, **environment: str) -> dict[str, Any]:
    """Run a program that fills `answer`; what it printed to stderr is under "stderr"."""
    code = START + textwrap.dedent(program) + "\nprint('ANSWER' + json.dumps(answer))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    line = next(line for line in run.stdout.splitlines() if line.startswith("ANSWER"))
    return {"stderr": run.stderr, **json.loads(line.removeprefix("ANSWER"))}

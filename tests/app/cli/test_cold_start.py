"""What a program does not import, nobody waits for."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("program", "unread"),
    [
        ("import planner", ("planner.answer.plan", "pydantic")),
        ("import app.cli", ("planner.answer.plan", "pydantic", "rich.console", "asyncio")),
        ("import app.main", ("alembic", "httpx._client", "pygments", "rich")),
    ],
)
def test_a_start_does_not_import_what_it_does_not_need(program: str, unread: tuple[str, ...]) -> None:
    asked = f"{program}, sys; print([name for name in {unread!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_program_that_ends_looks_for_garbage_less_often_than_a_server() -> None:
    asked = (
        "import gc; from app.cli import garbage; first = gc.get_threshold(); garbage.seldom();"
        "seldom = gc.get_threshold(); garbage.as_usual(); print(seldom[0] > first[0], gc.get_threshold() == first)"
    )
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]

"""Programs on a virtual card whose whole numbers are true, each in a process of its own."""

from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from typing import Any

from tests.probe.card.programs import on_card


def with_values(program: str, gpu: str = "rtx-4090", routing: str = "even") -> dict[str, Any]:
    """Run a program that fills `answer`, on one card with the rules installed."""
    install = f"import planner.probe.values as values; values.install(routing={routing!r})"
    return without_values(f"{install}\n{dedent(program)}", gpu)


def without_values(program: str, gpu: str = "rtx-4090") -> dict[str, Any]:
    """The same on a card of noise."""
    with TemporaryDirectory() as folder:
        return on_card(Path(folder), f"insert({gpu!r})\nimport torch\n{dedent(program)}")

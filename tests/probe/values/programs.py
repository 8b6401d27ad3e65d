"""Programs on a virtual card whose whole numbers are true, each in a process of its own."""

from textwrap import dedent
from typing import Any

from tests.probe.card.programs import on_card


def with_values(program: str, gpu: str = "rtx-4090", routing: str = "even", **environment: str) -> dict[str, Any]:
    """Run a program that fills `answer`, on one card with the rules installed."""
    start = f"""
        insert({gpu!r})
        import torch, planner.probe.values as values
        values.install(routing={routing!r})
    """
    return on_card(dedent(start) + dedent(program), **environment)

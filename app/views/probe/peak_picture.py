"""What a step's fullest moment was made of, as one bar for each module: what is held, and what the step makes."""

from collections.abc import Sequence

from app.drawing.bars import Bars, Row, draw_bars
from planner.measurement import PeakPart

WORDS = {"held": "Held all along: weights, adapters, optimizer states", "made": "Made by the step"}
COLOURS = {"held": "weights", "made": "activations"}


def draw_peak(parts: Sequence[PeakPart]) -> Bars:
    """Modules of layers stand for those of all layers together."""
    return draw_bars([
        Row(part.name.replace(".*", ""), {"held": part.held_bytes, "made": part.made_bytes})
        for part in parts
    ])  # fmt: skip

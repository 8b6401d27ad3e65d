"""Where the bytes are, instant by instant: one training step walked with buffers that have a size and no values."""

from planner.timeline.lines import step_lines
from planner.timeline.moves import LAYERS_PLAYED_BACKWARD, Pattern, Step, step_of
from planner.timeline.settle import writes_scores

__all__ = ["LAYERS_PLAYED_BACKWARD", "Pattern", "Step", "step_lines", "step_of", "writes_scores"]

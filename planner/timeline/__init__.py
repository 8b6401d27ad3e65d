"""Where the bytes are, instant by instant: one training step walked with buffers that have a size and no values."""

from planner.timeline.lines import step_lines

__all__ = ["step_lines"]

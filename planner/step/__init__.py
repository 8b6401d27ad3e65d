"""Where the bytes are, instant by instant: one training step traced with buffers that have a size and no values."""

from planner.step.fake_quantized_scales import fake_quantized_scales
from planner.step.lines import HoldsBytes, step_lines, step_totals
from planner.step.offloaded import offloaded_lines
from planner.step.pattern_instances import Pattern
from planner.step.schedule import LAYERS_PLAYED_BACKWARD, Step, largest_bytes, step_of
from planner.step.without_gradients.buffered_batch import buffered_batch
from planner.step.without_gradients.evaluation import evaluated_lines
from planner.step.without_gradients.generation import generated_lines

__all__ = [
    "LAYERS_PLAYED_BACKWARD",
    "HoldsBytes",
    "Pattern",
    "Step",
    "buffered_batch",
    "evaluated_lines",
    "fake_quantized_scales",
    "generated_lines",
    "largest_bytes",
    "offloaded_lines",
    "step_lines",
    "step_of",
    "step_totals",
]

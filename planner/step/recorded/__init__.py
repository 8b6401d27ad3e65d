"""How well the bytes of a run are known: the formulas beside torch's own record, looked up by family and switches."""

from planner.step.recorded.comparison import Comparison, nearest
from planner.step.recorded.words import (
    Known,
    buffer_words,
    evaluation_words,
    generation_words,
    optimizer_words,
    step_words,
    trained_words,
    weights_words,
    workspace_words,
)

__all__ = [
    "Comparison", "Known", "buffer_words", "evaluation_words", "generation_words", "nearest", "optimizer_words",
    "step_words", "trained_words", "weights_words", "workspace_words",
]  # fmt: skip

"""Every linear layer, as the trainers list them: leaf names of nn.Linear, which do not stand for stacked experts."""

from typing import Any

from planner.errors import FitproofError
from planner.model.model import Model, resolve_model
from planner.tensors.targets import ALL_LINEAR, LINEAR_NAMES, has_stacked_experts


def linear_targets(model: Any) -> str:
    """PEFT's own word where it says the same for this model, otherwise the planner's for a list of names."""
    found = _found(model)
    return LINEAR_NAMES if found is None or has_stacked_experts(found.census) else ALL_LINEAR


def stacks_experts(model: Any) -> bool:
    """Whether the catalogue, or the config given, knows this model for a mixture with stacked experts."""
    found = _found(model)
    return found is not None and has_stacked_experts(found.census)


def _found(model: Any) -> Model | None:
    if not isinstance(model, str | dict):
        return None
    try:
        return resolve_model(model)
    except FitproofError:
        return None

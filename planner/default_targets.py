"""Targets nobody chose: all linear layers, or, where PEFT refuses some of a model, all the others."""

from planner.model import Model
from planner.request import Request
from planner.targets import ALL_LINEAR, adaptable_leaves


def with_targets(request: Request, model: Model) -> Request:
    """`request` with targets of its own where it names none and "all-linear" is refused for this model.

    The answer's copy of the request then names what was planned. What was written stays as it was written.
    """
    if request.method == "full" or "target_modules" in request.lora.model_fields_set:
        return request
    leaves = adaptable_leaves(model.census, model.model_type)
    if leaves is None or request.lora.target_modules != ALL_LINEAR:
        return request
    return request.model_copy(update={"lora": request.lora.model_copy(update={"target_modules": leaves})})

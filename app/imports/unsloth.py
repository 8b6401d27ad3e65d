"""A run that Unsloth loads, as a plan with its own layers where a formula follows them, else with the model's own."""

from dataclasses import replace
from typing import Any

from app.imports.effects import EVALUATION
from app.imports.effects import UNSLOTH as LEFT_OUT
from app.imports.rules import Reading
from planner.errors import FitproofError, InvalidRequestError
from planner.model.model import resolve_model
from planner.model.resolved_request import settled
from planner.request.schema import Request
from planner.request.unsloth import UNSLOTH

# What Unsloth decides itself, whatever a file says of it.
_ITS_OWN = (
    "loss", "attn_implementation", "sdpa_kernel", "use_reentrant", "packing", "liger_kernel_config",
    "activation_offloading", "neftune_noise_alpha", "per_device_eval_batch_size",
)  # fmt: skip


def put_unsloth(reading: Reading, key: str, checkpointing: Any) -> None:
    """Plan with the stack `unsloth`; where it cannot be, `key` is named with the reason.

    `checkpointing`: what is said of `use_gradient_checkpointing`, or None.
    """
    offloads = checkpointing in (None, UNSLOTH)
    training = {name: value for name, value in reading.document.get("training", {}).items() if name not in _ITS_OWN}
    training["gradient_checkpointing"] = UNSLOTH if offloads else checkpointing is True
    document = {**reading.document, "training": training, "stack": UNSLOTH}
    reading.planned_after_all({key})
    if why := _problem(document):
        if offloads:
            reading.put("training.gradient_checkpointing", True)
        reading.leave_out(key, replace(LEFT_OUT, why=why))
        return
    _leave_evaluation_out(reading)
    reading.document |= document
    own = {"stack", *(f"training.{name}" for name in _ITS_OWN)}
    reading.recognised = [item for item in reading.recognised if item.field not in own]
    own.add("training.gradient_checkpointing")
    reading.assumed = [item for item in reading.assumed if item.field not in own]
    reading.note("stack", UNSLOTH, "Unsloth loads the model and replaces its layers")
    if checkpointing is None:
        reading.note("training.gradient_checkpointing", UNSLOTH, "get_peft_model's default")


def _leave_evaluation_out(reading: Reading) -> None:
    """Its layers are planned for training alone; a batch that is no larger keeps less of them."""
    training = reading.document.get("training", {})
    evaluated, trained = training.get("per_device_eval_batch_size"), training.get("per_device_train_batch_size", 1)
    key = next((item.key for item in reading.recognised if item.field == "training.per_device_eval_batch_size"), "")
    if key and isinstance(evaluated, int) and isinstance(trained, int) and evaluated > trained:
        reading.leave_out(key, EVALUATION)


def _problem(document: dict[str, Any]) -> str | None:
    """Why the stack cannot be planned. A model that the catalogue does not have is taken for one that it can."""
    try:
        request = Request.parse({"model": "any", "gpu": "any", **document})
    except InvalidRequestError as error:
        own = [problem.message for problem in error.problems if problem.field in {"stack", "request", "training"}]
        return next(iter(own), None)
    try:
        settled(request, resolve_model(request.model))
    except InvalidRequestError as error:
        return next((problem.message for problem in error.problems if problem.field == "stack"), None)
    except FitproofError:
        return None
    return None

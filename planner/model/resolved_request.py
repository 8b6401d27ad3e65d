"""What a request means for one model: the checkpoint's own quantization, and targets where nobody chose any."""

from planner.model.model import Model
from planner.model.quantized_checkpoint import with_checkpoint
from planner.request.schema import Request
from planner.tensors.targets import ALL_LINEAR, adaptable_leaves


def settled(request: Request, model: Model) -> Request:
    """`request` as it runs on this model; the answer's copy of it then says what was planned.

    Raises:
        InvalidRequestError: the checkpoint is quantized in a way that this method cannot train.
    """
    return _with_targets(with_checkpoint(request, model.config, model.census), model)


def _with_targets(request: Request, model: Model) -> Request:
    """All linear layers, or, where PEFT refuses some of a model, all the others. What was written stays as written."""
    if request.method == "full" or "target_modules" in request.lora.model_fields_set:
        return request
    leaves = adaptable_leaves(model.census, model.model_type)
    if leaves is None or request.lora.target_modules != ALL_LINEAR:
        return request
    return request.model_copy(update={"lora": request.lora.model_copy(update={"target_modules": leaves})})

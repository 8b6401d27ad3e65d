"""What a request means for one model: the checkpoint's own quantization, and default targets where none were chosen."""

from planner.errors import FieldProblem, InvalidRequestError
from planner.families.parts import Attention, Block, GatedMlp, PlainMlp
from planner.model.model import Model
from planner.model.quantized_checkpoint import with_checkpoint
from planner.request.schema import Request
from planner.request.unsloth import UNSLOTH, family_problem
from planner.tensors.modules import ALL_LINEAR
from planner.tensors.refused_targets import adaptable_leaves


def settled(request: Request, model: Model) -> Request:
    """`request` as it runs on this model; the answer's copy of it then says what was planned.

    Raises:
        InvalidRequestError: the checkpoint is quantized in a way that this method cannot train.
    """
    _refuse_what_unsloth_cannot(request, model)
    _refuse_what_is_not_fake_quantized(request, model)
    return _with_targets(with_checkpoint(request, model.config, model.census), model)


def _refuse_what_unsloth_cannot(request: Request, model: Model) -> None:
    if request.stack != UNSLOTH:
        return
    blocks = model.decoder.structure.blocks if model.decoder else ()
    windowed = any(isinstance(block.attention, Attention) and block.attention.window for block in blocks)
    if problem := family_problem(model.model_type, windowed=windowed):
        raise InvalidRequestError("This model cannot be planned with Unsloth.", [FieldProblem("stack", problem)])


def _refuse_what_is_not_fake_quantized(request: Request, model: Model) -> None:
    """Other layers than attention and an MLP of `nn.Linear`, and widths that groups do not divide."""
    qat, decoder = request.training.qat, model.decoder
    if qat is None or decoder is None:
        return
    widths = {group.shape[-1] for group in model.census if group.role in {"linear", "head"}}
    uneven = [width for width in sorted(widths) if width % qat.group_size]
    problem = ""
    if uneven:
        problem = f"groups of {qat.group_size} do not divide {uneven[0]:,} inputs; write another group_size"
    if not all(isinstance(block.attention, Attention) and _is_dense(block) for block in decoder.structure.blocks):
        problem = "planned for models of plain attention and one MLP in each layer; drop it"
    if problem:
        raise InvalidRequestError("This model cannot be planned so.", [FieldProblem("training.qat", problem)])


def _is_dense(block: Block) -> bool:
    return isinstance(block.mlp, GatedMlp | PlainMlp) and block.parallel_experts is None


def _with_targets(request: Request, model: Model) -> Request:
    """All linear layers, or, where PEFT refuses some of a model, all the others. What was written stays as written."""
    if request.method == "full" or "target_modules" in request.lora.model_fields_set:
        return request
    leaves = adaptable_leaves(model.census, model.model_type)
    if leaves is None or request.lora.target_modules != ALL_LINEAR:
        return request
    return request.model_copy(update={"lora": request.lora.model_copy(update={"target_modules": leaves})})

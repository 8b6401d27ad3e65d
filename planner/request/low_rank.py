"""What TrainingArguments says to optimizers that project gradients: GaLore and APOLLO.

Source: transformers 5.23, trainer_optimizer.py (_get_galore_optimizer, _get_apollo_optimizer, _parse_optim_args).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, StrictInt

from planner.request.base import Frozen
from planner.request.optimizer_names import KEPT, Optimizer

Side = Literal["std", "reverse_std", "left", "right", "full"]


class OptimArgs(Frozen):
    """`optim_args` of GaLore and APOLLO with transformers' defaults; `proj` and `scale_type` are APOLLO's own.

    No byte depends on `update_proj_gap`, after how many steps projections are made anew, nor on `scale`.
    """

    rank: Annotated[StrictInt, Field(ge=1, le=65_536)] = 128
    update_proj_gap: Annotated[StrictInt, Field(ge=1, le=10**9)] = 200
    scale: Annotated[float, Field(gt=0, le=1e6)] | None = None
    proj_type: Side = "std"
    proj: Literal["random", "svd"] = "random"
    scale_type: Literal["channel", "tensor"] = "channel"


@dataclass(frozen=True, slots=True)
class Projection:
    """How one tensor's gradient is projected: to `rank`, from which side, by a decomposition or by random numbers.

    `by_channel`: APOLLO has a factor for each row or column, not one for the tensor.
    """

    rank: int
    side: Side
    decomposed: bool
    by_channel: bool = True


def named_arguments(value: object) -> object:
    """`rank=64, scale=0.1`, as TrainingArguments has them, as an object; numbers as numbers."""
    if isinstance(value, str):
        pairs = (pair.partition("=") for pair in value.replace(" ", "").split(",") if pair)
        value = {key: text for key, _, text in pairs}
    if not isinstance(value, Mapping):
        return value
    return {key: _number(item) for key, item in value.items()}


def _number(value: Any) -> Any:
    for kind in (int, float):
        try:
            return kind(value) if isinstance(value, str) else value
        except ValueError:
            continue
    return value


def projection_of(optim: Optimizer, arguments: OptimArgs | None) -> Projection | None:
    """How `optim` projects the gradients of the modules it is told of; None where it projects nothing."""
    if not KEPT[optim].low_rank:
        return None
    found = arguments or OptimArgs()
    decomposed = optim != "apollo_adamw" or found.proj == "svd"
    return Projection(found.rank, found.proj_type, decomposed, found.scale_type == "channel")


def projection_problem(optim: Optimizer, arguments: OptimArgs | None, targets: object, method: str, cut: str) -> str:
    """What keeps a request from being planned, with the field and the fix; empty where nothing does.

    `cut`: the section that spreads the model over several cards, if one does.
    """
    if cut and (KEPT[optim].low_rank or KEPT[optim].storage == "orthogonalized"):
        return f"training.optim: {optim} is planned where each card has the whole model; use another, or drop {cut}"
    if not KEPT[optim].low_rank:
        field = "optim_args" if arguments else "optim_target_modules" if targets is not None else ""
        return f"training.{field}: planned for GaLore and APOLLO, not for {optim}; drop it" if field else ""
    if method != "full":
        return f"training.optim: {optim} projects gradients of whole weights; use method full, or another optimizer"
    if targets is None:
        return f'training.optim_target_modules: {optim} must be told which linear layers; write "all-linear" or names'
    found = arguments or OptimArgs()
    if optim == "apollo_adamw" and found.proj_type != "std":
        return f"training.optim_args: apollo_torch 1.0.3 fails with proj_type {found.proj_type}; write std, its default"
    return ""

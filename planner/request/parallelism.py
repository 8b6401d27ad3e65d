"""Sequences cut over cards, in the words of accelerate's ParallelismConfig, which TrainingArguments take.

Source: accelerate 1.15 parallelism_config.py; transformers 5.23 trainer.py _prepare_context_parallel_inputs; accelerate
big_modeling.py _attach_context_parallel_hooks.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StrictInt, model_validator

from planner.request.base import Frozen

if TYPE_CHECKING:
    from planner.request.schema import Request

_Parts = Annotated[StrictInt, Field(ge=1, le=1024)]
SequenceBy = Literal["ring", "ulysses"]
# The request's field that asks for each.
FIELDS: dict[SequenceBy, str] = {"ring": "parallelism_config.cp_size", "ulysses": "parallelism_config.sp_size"}


class Parallelism(Frozen):
    """`cp_size`: torch's context parallelism, whose attention goes round in a ring; `sp_size`: DeepSpeed's Ulysses.

    Each card has so many parts of each sequence's tokens; parameters are sharded over all cards. `cp_comm_strategy` is
    accelerate's `cp_handler`: keys and values of all cards are gathered at once, or handed on one by one.
    """

    cp_size: _Parts = 1
    cp_backend: Literal["torch"] = "torch"
    cp_comm_strategy: Literal["allgather", "alltoall"] = "allgather"
    sp_size: _Parts = 1
    sp_backend: Literal["deepspeed"] = "deepspeed"
    dp_shard_size: _Parts | None = None
    dp_replicate_size: _Parts = 1
    tp_size: _Parts = 1

    @model_validator(mode="before")
    @classmethod
    def _with_the_handler(cls, data: Any) -> Any:
        handler = data.get("cp_handler") if isinstance(data, Mapping) else None
        if not isinstance(handler, Mapping):
            return data
        return {**{key: value for key, value in data.items() if key != "cp_handler"}, **handler}

    @property
    def parts(self) -> int:
        """Into how many parts each sequence is cut."""
        return self.cp_size * self.sp_size

    @property
    def by(self) -> SequenceBy | None:
        """How attention sees the other parts; None where nothing is cut."""
        return None if self.parts == 1 else "ring" if self.cp_size > 1 else "ulysses"

    @property
    def field(self) -> str:
        """The key that asks for it."""
        return FIELDS[self.by or "ulysses"]


def problems(request: "Request") -> Iterator[str]:
    """What of the request sequence parallelism excludes, each as `field: why and the fix`."""
    asked = request.parallelism_config
    if asked is None:
        return
    if asked.tp_size > 1:
        yield "parallelism_config.tp_size: tensor parallelism is not planned; `fitproof dry-run` plays your own script"
    if asked.dp_replicate_size > 1:
        yield "parallelism_config.dp_replicate_size: is planned as 1; write fsdp_config hybrid_shard without cp_size"
    if asked.by is None:
        return
    if asked.cp_size > 1 and asked.sp_size > 1:
        yield "parallelism_config.sp_size: accelerate takes cp_size or sp_size, not both; keep one"
    if asked.by == "ring" and (request.fsdp is None or request.fsdp.version != 2):
        yield f"{asked.field}: torch's context parallelism runs under FSDP2; write fsdp: full_shard beside it"
    if asked.by == "ulysses" and request.deepspeed is None:
        yield f"{asked.field}: Ulysses runs under DeepSpeed; write deepspeed: zero3 beside it"
    if request.gpus % asked.parts or request.gpus != (asked.dp_shard_size or request.gpus // asked.parts) * asked.parts:
        yield (
            f"{asked.field}: {asked.parts} parts of a sequence times dp_shard_size do not make {request.gpus} cards; "
            f"write gpus as a multiple of {asked.parts}"
        )
    yield from _of_training(request, asked)


def _of_training(request: "Request", asked: Parallelism) -> Iterator[str]:
    training = request.training
    if training.objective != "sft":
        yield f"{asked.field}: is planned for sft, not for {training.objective}; drop it"
    if training.packing:
        yield f"{asked.field}: its attention is causal over a row, and packed documents need a mask; drop packing"
    if training.padded:
        yield f"{asked.field}: its attention is causal over the whole row; drop padded"
    if asked.by == "ring" and training.attn_implementation not in {None, "sdpa"}:
        yield f"training.attn_implementation: context parallelism needs sdpa; got {training.attn_implementation}"

"""How a run lies on its cards: which of parameters, gradients and optimizer state are cut into shards, and where to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from planner.request.dtypes import Dtype, HalfDtype
from planner.request.parallelism import Parallelism, SequenceBy

if TYPE_CHECKING:
    from planner.request.schema import Request

Strategy = Literal["single", "ddp", "fsdp", "zero", "device_map"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One card's part of a run on `world` cards.

    `*_shards`: into how many parts each is cut, 1 where every card has the whole. `gathered` is the dtype of gathered
    parameters and reduced gradients, None for the parameter's own; `master` the dtype of trained shards, None likewise.
    `sequence_parts`: into how many parts each sequence's tokens are cut, and by what attention; `gathers_parts`: a ring
    gathers keys and values of all at once.
    """

    strategy: Strategy = "single"
    world: int = 1
    parameter_shards: int = 1
    gradient_shards: int = 1
    optimizer_shards: int = 1
    parameters_on_host: bool = False
    optimizer_on_host: bool = False
    gathered: HalfDtype | None = None
    master: Dtype | None = None
    sequence_parts: int = 1
    sequence_by: SequenceBy | None = None
    gathers_parts: bool = True

    @property
    def shards(self) -> bool:
        """Whether parameters are gathered before they are used."""
        return self.parameter_shards > 1 or self.parameters_on_host


ONE_CARD = Layout()


def layout_of(request: "Request", autocast: HalfDtype | None, *, by_accelerate: bool) -> Layout:
    """What the request's cards and strategy come to; several cards without one are torchrun's default, DDP.

    One card that is asked for FSDP or ZeRO has what they hold, too: float32 copies, buckets, gathered layers.

    `by_accelerate`: a trainer prepares the model, so that trained parameters are float32 under FSDP's mixed precision
    (accelerate/utils/fsdp_utils.py fsdp2_prepare_model), unless the model is quantized to 4 bit.
    """
    cut = request.parallelism_config or Parallelism()
    if request.gpus == 1 and request.fsdp is None and request.deepspeed is None:
        return ONE_CARD
    world = request.gpus
    if request.fsdp is not None:
        shards = min(world, request.fsdp.cards_per_node) if request.fsdp.hybrid_shard else world
        gathered = request.fsdp.mixed_precision or (autocast if by_accelerate else None)
        upcasts = gathered is not None and not (request.quantization and request.quantization.load_in_4bit)
        return Layout(
            strategy="fsdp", world=world, parameter_shards=shards, gradient_shards=shards, optimizer_shards=shards,
            parameters_on_host=request.fsdp.cpu_offload, optimizer_on_host=request.fsdp.cpu_offload,
            gathered=gathered, master="float32" if upcasts else None, sequence_parts=cut.parts, sequence_by=cut.by,
            gathers_parts=cut.cp_comm_strategy == "allgather",
        )  # fmt: skip
    if request.deepspeed is not None:
        stage = request.deepspeed.stage
        return Layout(
            strategy="zero", world=world,
            optimizer_shards=world if stage >= 1 else 1,
            gradient_shards=world if stage >= 2 else 1,
            parameter_shards=world if stage >= 3 else 1,
            parameters_on_host=request.deepspeed.offload_param != "none",
            optimizer_on_host=request.deepspeed.offload_optimizer != "none",
            master="float32", sequence_parts=cut.parts, sequence_by=cut.by,
            gathers_parts=cut.cp_comm_strategy == "allgather",
        )  # fmt: skip
    if request.device_map is not None:
        return Layout(strategy="device_map", world=world)
    return Layout(strategy="ddp", world=world)


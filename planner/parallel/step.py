"""What a strategy changes about the step itself: the recipe that is traced, and what is held beside its tensors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from planner.ledger import Line
from planner.parallel import sequences
from planner.parallel.flat_units import is_played
from planner.parallel.fsdp import FsdpStep
from planner.parallel.sequences import of_own_tokens
from planner.parallel.units import units_of
from planner.parallel.zero import ZeroStep
from planner.parallel.zero_parameters import parameters_of
from planner.parallel.zero_static import hidden_size
from planner.request.dtypes import Dtype
from planner.request.parallel import Ddp, DeepSpeed, Fsdp
from planner.request.parallelism import FIELDS
from planner.request.recipe import Recipe
from planner.step import HoldsBytes
from planner.step.engine.held_bytes import HeldThroughStep, Stretch
from planner.tensors.tensor_storage import Placed
from planner.tensors.trainable import Trainable


@dataclass(frozen=True, slots=True)
class BucketViews:
    """DDP's gradients are views of its buckets: autograd's own go as soon as a bucket has them."""

    def held_through(self, segments: Sequence[tuple[str, bool]]) -> HeldThroughStep:
        """A stretch for each segment; nothing is held, and what earlier segments made is gone."""
        return HeldThroughStep(tuple(Stretch({}, {}, (0, position)) for position in range(len(segments))))

    def line(self, name: str, size_bytes: int, alive_in: tuple[str, ...]) -> Line:
        """Never asked for: no stretch holds anything."""
        raise KeyError(name, size_bytes, alive_in)


def traced_recipe(recipe: Recipe) -> Recipe:
    """`recipe` as its layers compute: adapters come gathered in the mixed precision's dtype."""
    gathered: Dtype | None = recipe.layout.gathered
    if isinstance(recipe.strategy, DeepSpeed) and recipe.strategy.stage < 3:
        # The engine casts the module, unless zero.Init made it (engine.py _cast_module_mixed_precision).
        gathered = recipe.model_dtype
    if isinstance(recipe.strategy, Fsdp) and recipe.strategy.version == 1:
        # peft casts an adapter's input to its dtype before the adapter's own unit gathers and narrows it
        # (tuners_utils.py _cast_input_dtype): a float32 copy of the input is there beside the 16-bit one.
        gathered = None
    recipe = replace(recipe, adapter_dtype=gathered) if gathered and recipe.lora else recipe
    return of_own_tokens(recipe)


def held_beside(
    placed: Sequence[Placed], adapters: Sequence[Trainable], recipe: Recipe, layers: int
) -> HoldsBytes | None:
    """What the strategy holds while a step runs, if anything comes and goes.

    Raises:
        NotImplementedError: no formula plans this strategy; says which.
    """
    if recipe.layout.strategy == "ddp":
        views = isinstance(recipe.strategy, Ddp) and recipe.strategy.gradient_as_bucket_view
        return BucketViews() if views and not recipe.accumulates else None
    if recipe.layout.strategy == "single":
        return None
    if isinstance(recipe.strategy, DeepSpeed):
        if recipe.quantization and recipe.strategy.stage == 3:
            msg = "ZeRO 3 of quantized weights"
            raise NotImplementedError(msg)
        return ZeroStep(
            parameters=parameters_of(placed, adapters, recipe, layers), cards=recipe.layout.world,
            options=recipe.strategy, sizes=recipe.strategy.sizes(hidden_size(placed)), accumulates=recipe.accumulates,
            checkpoints=bool(recipe.training.gradient_checkpointing),
        )  # fmt: skip
    if recipe.quantization and not recipe.quantization.load_in_4bit:
        msg = "FSDP of weights that are quantized otherwise than to 4 bit by bitsandbytes"
        raise NotImplementedError(msg)
    options = recipe.strategy if isinstance(recipe.strategy, Fsdp) else Fsdp()
    units = units_of(placed, adapters, recipe, layers, by_layer=options.auto_wrap)
    return FsdpStep(
        units=units.sized(recipe.layout.parameter_shards),
        reshard_after_forward=options.reshard_after_forward,
        on_host=recipe.layout.parameters_on_host,
        accumulates=recipe.accumulates,
        keeps_buffers=options.version == 2,
        prefetches=options.backward_prefetch == "backward_pre",
    )


def reserved_beside_bytes(held: HoldsBytes | None) -> int:
    """What torch reserves for streams of the strategy's own."""
    return held.side_stream_bytes if isinstance(held, FsdpStep) else 0


_EVALUATION = "training.per_device_eval_batch_size"


@dataclass(frozen=True, slots=True)
class Unproved:
    """A strategy that is planned from its source and was held to no dry run: the request's field, and why.

    `planned`: how it is planned all the same; `saves`: it may need less than that.
    """

    field: str
    why: str
    planned: str = "as the source of its strategy says"
    saves: bool = True


def unproved(recipe: Recipe) -> Iterator[Unproved]:
    """What of the recipe's strategy no dry run has shown."""
    options = recipe.strategy
    if recipe.layout.sequence_by:
        by = recipe.layout.sequence_by
        yield Unproved(FIELDS[by], sequences.UNPROVED[by], saves=by != "ring")
    if recipe.layout.strategy == "device_map" and recipe.training.per_device_eval_batch_size:
        why = "evaluation is not counted where layers lie on several cards"
        yield Unproved(_EVALUATION, why, planned="without evaluation", saves=False)
    if isinstance(options, DeepSpeed) and recipe.layout.strategy == "zero":
        if options.stage == 0:
            yield Unproved("deepspeed.stage", "stage 0 is planned from DeepSpeed's source; stages 1 to 3 were probed")
        if options.stage == 3 and not recipe.training.gradient_checkpointing:
            why = "stage 3 without gradient checkpointing is planned from DeepSpeed's source; with it, it was probed"
            yield Unproved("deepspeed.stage", why)
        if "nvme" in {options.offload_optimizer, options.offload_param}:
            yield Unproved("deepspeed.offload", "offload to NVMe is planned as to the host, which was probed")
    if isinstance(options, Fsdp) and options.version == 1 and not is_played(recipe):
        why = "of FSDP1 with this, what its streams keep reserved is not played: 27 % in one probe"
        yield Unproved("fsdp.version", why)
    if recipe.layout.strategy == "fsdp" and isinstance(options, Fsdp) and options.hybrid_shard:
        yield Unproved("fsdp.hybrid_shard", "planned from torch's source and held to no dry run; full_shard is")


UNPROVED_FIELDS = frozenset({
    "deepspeed.stage", "deepspeed.offload", "fsdp.version", "fsdp.hybrid_shard", _EVALUATION, *FIELDS.values(),
})  # fmt: skip

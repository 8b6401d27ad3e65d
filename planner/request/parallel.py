"""Several cards, in the ecosystem's words: DDP, TrainingArguments' `fsdp` and `fsdp_config`, a ZeRO configuration.

Each section is valid by itself; planner/request/schema.py holds the document they belong to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import Field, StrictBool, StrictInt, model_validator

from planner.request.base import Frozen
from planner.request.dtypes import HalfDtype

MOST_CARDS = 1024
Cards = Annotated[StrictInt, Field(ge=1, le=MOST_CARDS)]
# Bucket and threshold sizes count elements; DeepSpeed's own configurations go to 1e9 and 1e12.
Elements = Annotated[int, Field(ge=0, le=10**13)]


class Ddp(Frozen):
    """What `DistributedDataParallel` takes, as far as it moves bytes; its own defaults.

    Source: torch/nn/parallel/distributed.py. TrainingArguments' `ddp_bucket_cap_mb` is the first field.
    """

    bucket_cap_mb: Annotated[int, Field(strict=True, ge=1, le=65_536)] = 25
    gradient_as_bucket_view: StrictBool = False


class Fsdp(Frozen):
    """What `fsdp_config` takes, as far as it moves bytes, with TrainingArguments' defaults: FSDP2, a unit a layer.

    `mixed_precision` is the dtype that parameters are gathered and gradients are reduced in; None leaves it to the
    stack: a trainer sets its autocast dtype (accelerate/utils/dataclasses.py set_mixed_precision), a loop none.
    `backward_prefetch` is FSDP1's alone: FSDP2 gathers the next unit in any case.

    Source: transformers 5.23 training_args.py _process_fsdp_args and _apply_legacy_fsdp_to_config.
    """

    version: Literal[1, 2] = 2
    reshard_after_forward: StrictBool = True
    cpu_offload: StrictBool = False
    auto_wrap: StrictBool = True
    hybrid_shard: StrictBool = False
    cards_per_node: Cards = 8
    mixed_precision: HalfDtype | None = None
    backward_prefetch: Literal["no_prefetch", "backward_pre", "backward_post"] = "no_prefetch"

    @model_validator(mode="before")
    @classmethod
    def _in_the_ecosystems_words(cls, data: Any) -> Any:
        return _fsdp_fields(data) if isinstance(data, Mapping) else data


class ZeroSizes(NamedTuple):
    """Elements of a ZeRO configuration once "auto" is filled in."""

    reduce_bucket_size: int
    stage3_prefetch_bucket_size: int
    stage3_param_persistence_threshold: int


class DeepSpeed(Frozen):
    """The `zero_optimization` part of a DeepSpeed configuration, as far as it moves bytes; sizes count elements.

    None means "auto", which transformers fills in from the model's width
    (transformers/integrations/deepspeed.py trainer_config_finalize).

    Source: deepspeed/runtime/zero/config.py DeepSpeedZeroConfig.
    """

    stage: Literal[0, 1, 2, 3] = 0
    offload_optimizer: Literal["none", "cpu", "nvme"] = "none"
    offload_param: Literal["none", "cpu", "nvme"] = "none"
    overlap_comm: StrictBool | None = None
    reduce_bucket_size: Elements | None = 500_000_000
    allgather_bucket_size: Elements = 500_000_000
    stage3_prefetch_bucket_size: Elements | None = 50_000_000
    stage3_param_persistence_threshold: Elements | None = 100_000
    stage3_max_live_parameters: Elements = 1_000_000_000
    stage3_max_reuse_distance: Elements = 1_000_000_000

    @model_validator(mode="before")
    @classmethod
    def _in_the_ecosystems_words(cls, data: Any) -> Any:
        return _zero_fields(data) if isinstance(data, Mapping) else data

    def sizes(self, hidden: int) -> ZeroSizes:
        """What stands in place of "auto" for a model of this width.

        Source: transformers 5.23 integrations/deepspeed.py, trainer_config_finalize.
        """
        automatic = ZeroSizes(hidden**2, int(0.9 * hidden**2), 10 * hidden)
        given = (getattr(self, name) for name in ZeroSizes._fields)
        return ZeroSizes(*(filled if own is None else own for own, filled in zip(given, automatic, strict=True)))

    @model_validator(mode="after")
    def _parameters_are_offloaded_in_stage_3_alone(self) -> "DeepSpeed":
        if self.offload_param != "none" and self.stage != 3:
            msg = f"offload_param needs stage 3; stage is {self.stage}"
            raise ValueError(msg)
        return self


Placement = Literal["auto", "balanced", "balanced_low_0", "sequential"]
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)


@dataclass(frozen=True, slots=True)
class DeviceMap:
    """What `from_pretrained` takes as `device_map` and `max_memory`, and the cards where they are unlike.

    `placement` is a word, or a map of module names to cards, -1 for the host. `max_memory` has bytes by card; a card
    that it leaves out is not used.

    Source: transformers 5.23 integrations/accelerate.py check_and_set_device_map, _get_device_map.
    """

    placement: Placement | tuple[tuple[str, int], ...] = "auto"
    max_memory: tuple[tuple[int, int], ...] | None = None
    cards: tuple[str, ...] = ()

    @property
    def uses_the_host(self) -> bool:
        """Whether an explicit map puts a module there."""
        return isinstance(self.placement, tuple) and any(card < 0 for _, card in self.placement)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Keys of fsdp_config that move no memory of the card during a step.
_FSDP_HARMLESS = _words(
    """
state_dict_type cpu_ram_efficient_loading sync_module_states transformer_layer_cls_to_wrap use_orig_params
limit_all_gathers final_state_dict_type min_num_params
"""
)
_SHARDING = {
    "full_shard": {}, "shard_grad_op": {"reshard_after_forward": False}, "hybrid_shard": {"hybrid_shard": True},
    "hybrid_shard_zero2": {"hybrid_shard": True, "reshard_after_forward": False},
}  # fmt: skip
_OFF = frozenset({"auto_wrap", "offload"})


def _fsdp_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """`fsdp_config` in this section's own fields. What is not known stays, to be complained about."""
    given = {str(key).removeprefix("fsdp_"): value for key, value in data.items()}
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key in _FSDP_HARMLESS or (key in {"activation_checkpointing", "forward_prefetch"} and value is False):
            continue
        if key == "offload_params":
            found["cpu_offload"] = value
        elif key == "auto_wrap_policy":
            found["auto_wrap"] = _wraps(value)
        elif key in {"sharding_strategy", "reshard_after_forward"} and isinstance(value, str):
            found |= _SHARDING.get(_plain(value), {key: value})
        elif key in {"backward_prefetch", "backward_prefetch_policy"} and isinstance(value, str):
            found["backward_prefetch"] = _plain(value)
        else:
            found[key] = value
    return found


def _wraps(policy: object) -> bool:
    """Whether each layer is a unit.

    Raises:
        ValueError: modules are units by their size.
    """
    name = str(policy).lower()
    if name not in {"transformer_based_wrap", "no_wrap"}:
        msg = f"auto_wrap_policy: {str(policy)[:40]} is not planned; write TRANSFORMER_BASED_WRAP or NO_WRAP"
        raise ValueError(msg)
    return name != "no_wrap"


def _plain(value: str) -> str:
    return value.lower()


def fsdp_of(words: object) -> dict[str, Any] | None:
    """`fsdp: "full_shard auto_wrap offload"`, the same as a list, or a bare switch; None where it asks for nothing.

    Raises:
        ValueError: a word that FSDP does not have.
    """
    if words in (None, False, "", [], ()):
        return None
    if words is True:
        return {}
    names = words.split() if isinstance(words, str) else list(words) if isinstance(words, list | tuple) else [words]
    found: dict[str, Any] = {}
    for name in map(str, names):
        if _plain(name) not in {*_SHARDING, *_OFF, "true"}:
            known = ", ".join([*_SHARDING, *sorted(_OFF)])
            msg = f"fsdp: {name[:40]} is no option; write {known}, or fsdp_config's keys"
            raise ValueError(msg)
        found |= _SHARDING.get(_plain(name), {})
        if _plain(name) == "offload":
            found["cpu_offload"] = True
    return found


# Keys of a DeepSpeed configuration that move no memory here, or that the request says in its own fields.
_DEEPSPEED_HARMLESS = _words(
    """
bf16 fp16 train_batch_size train_micro_batch_size_per_gpu gradient_accumulation_steps gradient_clipping steps_per_print
wall_clock_breakdown zero_allow_untested_optimizer optimizer scheduler zero_force_ds_cpu_optimizer prescale_gradients
communication_data_type torch_autocast comms_config monitor_config
"""
)
_ZERO_HARMLESS = _words(
    """
allgather_partitions reduce_scatter contiguous_gradients round_robin_gradients sub_group_size load_from_fp32_weights
gather_16bit_weights_on_model_save stage3_gather_16bit_weights_on_model_save ignore_unused_parameters
stage3_gather_fp16_weights_on_model_save memory_efficient_linear use_multi_rank_bucket_allreduce elastic_checkpoint
override_module_apply
"""
)
_AUTO_SIZES = frozenset({"reduce_bucket_size", "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold"})


def _zero_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """A whole DeepSpeed configuration, or its `zero_optimization` alone, in this section's fields."""
    given = dict(data)
    if isinstance(given.get("zero_optimization"), Mapping):
        inner = dict(given.pop("zero_optimization"))
        given = {key: value for key, value in given.items() if key not in _DEEPSPEED_HARMLESS} | inner
    found: dict[str, Any] = {}
    for written, value in given.items():
        # DeepSpeedZeroConfig's fields have two names each, with `stage3_` and without.
        key = f"stage3_{written}" if f"stage3_{written}" in DeepSpeed.model_fields else written
        if key in _ZERO_HARMLESS:
            continue
        if key in {"offload_optimizer", "offload_param"} and (value is None or isinstance(value, Mapping)):
            found[key] = (value or {}).get("device", "none")
        elif key in _AUTO_SIZES and value == "auto":
            found[key] = None
        elif key in DeepSpeed.model_fields and isinstance(value, float) and value.is_integer():
            found[key] = int(value)  # configurations write 5e8
        else:
            found[key] = value
    return found


# ZeRO as people name it; a recipe's own file says more.
ZERO_PRESETS: dict[str, dict[str, Any]] = {
    **{f"zero{stage}": {"stage": stage} for stage in (1, 2, 3)},
    "zero2-offload": {"stage": 2, "offload_optimizer": "cpu"},
    "zero3-offload": {"stage": 3, "offload_optimizer": "cpu", "offload_param": "cpu"},
}
FSDP_PRESETS: dict[str, dict[str, Any]] = {
    words: fsdp_of(words) or {}
    for words in ("full_shard", "full_shard offload", "shard_grad_op", "shard_grad_op offload", "hybrid_shard")
}

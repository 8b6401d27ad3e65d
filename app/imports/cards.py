"""Several cards in a trainer's file: its FSDP and DeepSpeed keys, a script's `device_map`, once the cards are counted.

A trainer's file rarely says how many cards it runs on: its launcher does. The count stands with the card that is given
beside the file (`2x3090`), or under `num_processes`, accelerate's name for what each launcher counts; for one card the
keys stay what was not planned.
"""

from collections.abc import Mapping
from typing import Any

from app.imports.effects import Effect
from app.imports.rules import Reading
from planner.errors import InvalidRequestError
from planner.request.parallel_words import counted_cards
from planner.request.schema import Request

_FSDP_KEYS = ("fsdp", "fsdp_config", "fsdp_version")
_PROCESSES = "num_processes"
_SPREAD_KEYS = ("device_map", "max_memory")
_KEYS = (*_FSDP_KEYS, "deepspeed", "ddp_bucket_cap_mb", *_SPREAD_KEYS)
# Axolotl's, of which the first is today's; ring-flash-attn is planned as torch's own ring.
_RINGS = ("context_parallel_size", "sequence_parallel_degree")
_CHECKPOINTING = ("activation_checkpointing", "fsdp_activation_checkpointing")
_PARALLELISM = "parallelism_config"
_OF_RINGS = ("ring_attn_func", "heads_k_stride")
_UNREAD_MAP = Effect(
    "may spread the model over the cards in a way that is not understood: write auto, balanced, balanced_low_0, "
    "sequential, or modules and sizes as they are",
    "as a process a card",
    saves=True,
)

_AUTO = {"reduce_bucket_size": "auto", "prefetch_bucket_size": "auto", "param_persistence_threshold": "auto"}
_AXOLOTL_ZERO3 = {"stage": 3, "overlap_comm": True, **_AUTO, "max_live_parameters": 0, "max_reuse_distance": 0}
_ON_HOST = {"offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}}
_SWIFT_BUCKETS = {"overlap_comm": False, "allgather_bucket_size": 200_000_000, "reduce_bucket_size": 200_000_000}
# Files that Axolotl (deepspeed_configs/), LLaMA-Factory (examples/deepspeed/) and ms-swift (swift/config/, which it
# knows by words) ship, by name: none is opened here.
_SHIPPED: dict[str, dict[str, Any]] = {
    "zero1.json": {"stage": 1, "overlap_comm": True},
    "zero2.json": {"stage": 2, "offload_optimizer": {"device": "cpu"}, "overlap_comm": True},
    "zero3.json": _AXOLOTL_ZERO3,
    "zero3_bf16.json": _AXOLOTL_ZERO3,
    "zero3_bf16_cpuoffload_params.json": {**_AXOLOTL_ZERO3, "offload_param": {"device": "cpu"}},
    "zero3_bf16_cpuoffload_all.json": {**_AXOLOTL_ZERO3, **_ON_HOST},
    "zero1": {"stage": 1, **_SWIFT_BUCKETS},
    "zero2": {"stage": 2, **_SWIFT_BUCKETS},
    "zero2_offload": {"stage": 2, **_SWIFT_BUCKETS, "offload_optimizer": {"device": "cpu"}},
    "zero3": {"stage": 3, "overlap_comm": False, **_AUTO},
    "zero3_offload": {"stage": 3, "overlap_comm": False, **_AUTO, **_ON_HOST},
    "ds_z0_config.json": {"stage": 0},
    "ds_z2_config.json": {"stage": 2, "overlap_comm": False},
    "ds_z2_offload_config.json": {"stage": 2, "overlap_comm": False, "offload_optimizer": {"device": "cpu"}},
    "ds_z3_config.json": {"stage": 3, "overlap_comm": False, **_AUTO},
    "ds_z3_offload_config.json": {"stage": 3, "overlap_comm": False, **_AUTO, **_ON_HOST},
}


def put_cards(reading: Reading) -> None:
    """Move the file's strategy into the request where it says enough and there are several cards."""
    count = _count(reading)
    if count is None or count == 1:
        return
    _put_count(reading, count)
    found = _strategy(reading.config)
    if found is None or not _can_be_used({"gpus": count, **found}):
        _name_the_map(reading)
        return
    _put_sequences(reading, found, count)
    keys = [key for key in _KEYS if reading.config.get(key) and (key not in _SPREAD_KEYS or key in found)]
    reading.not_planned = [item for item in reading.not_planned if item.key not in keys]
    reading.ignored = [item for item in reading.ignored if item.key not in keys]
    for key in keys:
        place = "fsdp" if key in _FSDP_KEYS else "ddp.bucket_cap_mb" if key == "ddp_bucket_cap_mb" else key
        reading.use(key, place, found["ddp"]["bucket_cap_mb"] if place.startswith("ddp.") else found[place])
    if "fsdp" in found and _checkpoints(reading.config):
        why = "fsdp_config's activation_checkpointing wraps each layer"
        reading.note("training.gradient_checkpointing", True, why)
    if "fsdp" in found and reading.get("quantization.load_in_4bit"):
        why = "trainers keep 4-bit values as bfloat16 under FSDP, which cannot cut bytes"
        reading.assume("quantization.bnb_4bit_quant_storage", "bfloat16", why)


def _name_the_map(reading: Reading) -> None:
    """A script's own map that says too little, or what the request does not take."""
    named = [key for key in _SPREAD_KEYS if reading.config.get("command") and reading.config.get(key)]
    if "device_map" in named:
        reading.ignored = [item for item in reading.ignored if item.key not in named]
        for key in named:
            reading.leave_out(key, _UNREAD_MAP)


def _put_sequences(reading: Reading, found: Mapping[str, Any], count: int) -> None:
    """`parallelism_config` of TrainingArguments and Axolotl's ring, where it can be planned; else it stays named."""
    config = reading.config
    key = next((name for name in (_PARALLELISM, *_RINGS) if config.get(name) not in (None, 1)), None)
    if key is None:
        return
    asked = config[key] if key == _PARALLELISM else {"cp_size": config[key]}
    if not isinstance(asked, Mapping) or not _can_be_used({**found, "gpus": count, _PARALLELISM: dict(asked)}):
        return
    reading.not_planned = [item for item in reading.not_planned if item.key not in {key, *_OF_RINGS}]
    reading.ignored = [item for item in reading.ignored if item.key not in {key, *_OF_RINGS}]
    reading.use(key, _PARALLELISM, dict(asked))
    if key != _PARALLELISM and reading.get("training.attn_implementation") not in {None, "sdpa"}:
        why = "ring-flash-attn's attention is planned as torch's ring, which sdpa has"
        reading.note("training.attn_implementation", "sdpa", why)


def _put_count(reading: Reading, count: int) -> None:
    """How many cards there are, by the card's own name or as the launcher says; what contradicts it is named."""
    launched = _processes(reading.config)
    if launched is None:
        reading.assume("gpus", count, "counted beside the card")
        return
    reading.planned_after_all({_PROCESSES, "CUDA_VISIBLE_DEVICES"})
    reading.use(_PROCESSES, "gpus", count)
    if launched != count:
        reading.contradict(_PROCESSES, f"is {launched}, and the card is given {count} times; planned on {count} cards")


def _processes(config: Mapping[str, Any]) -> int | None:
    processes = config.get(_PROCESSES)
    return processes if isinstance(processes, int) and not isinstance(processes, bool) else None


def _count(reading: Reading) -> int | None:
    gpu = reading.document.get("gpu")
    try:
        counted = counted_cards(gpu) if isinstance(gpu, str) else None
    except ValueError:
        return None  # the request says so
    if counted:
        return counted[0]
    if isinstance(gpu, str) and "+" in gpu:  # unlike cards by their names
        return gpu.count("+") + 1
    return _processes(reading.config)


def _strategy(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The request's section; None where the file names a file of its own, or nothing."""
    if config.get("deepspeed"):
        named = config["deepspeed"]
        if isinstance(named, str):
            shipped = _SHIPPED.get(named.rpartition("/")[2])
            return {"deepspeed": shipped} if shipped else None
        return {"deepspeed": named} if isinstance(named, Mapping) else None
    if config.get("fsdp") or config.get("fsdp_version"):
        inner = config.get("fsdp_config") or {}
        if not isinstance(inner, Mapping):
            return None
        version = {"version": config["fsdp_version"]} if config.get("fsdp_version") else {}
        inner = {key: value for key, value in inner.items() if value is not True or key not in _CHECKPOINTING}
        return {"fsdp": _fsdp(config.get("fsdp") or True, {**inner, **version})}
    cap = config.get("ddp_bucket_cap_mb")
    return {"ddp": {"bucket_cap_mb": cap}} if cap else _spread(config)


def _checkpoints(config: Mapping[str, Any]) -> bool:
    inner = config.get("fsdp_config")
    return isinstance(inner, Mapping) and any(inner.get(key) is True for key in _CHECKPOINTING)


def _spread(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """A script's own map: transformers' Trainer leaves a model that lies on several cards where it is (trainer.py,
    is_model_parallel). Other trainers' files run as a process a card, whose map is that card.
    """
    if config.get("command") and config.get("device_map"):
        return {key: config[key] for key in _SPREAD_KEYS if config.get(key)}
    return None


def _fsdp(words: Any, config: Mapping[str, Any]) -> Any:
    """Its section as a document; what cannot be read stays as it is written, and is not used."""
    try:
        read = Request.parse({"model": "any", "gpu": "any", "fsdp": words, "fsdp_config": dict(config)}).fsdp
    except InvalidRequestError:
        return dict(config) or words
    return read.model_dump(mode="json", exclude_defaults=True) if read else None


def _can_be_used(found: Mapping[str, Any]) -> bool:
    try:
        Request.parse({"model": "any", "gpu": "any", **found})
    except InvalidRequestError:
        return False
    return True

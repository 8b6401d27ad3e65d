"""What stands between a launcher and the program it starts, in the words that trainers' files have for it.

`accelerate launch --use_fsdp --fsdp_version 2 train.py` shards as `fsdp` and `fsdp_config` do, and `--use_deepspeed`
configures ZeRO as a file would. Flags that are not read here keep their names, so that they are named as not planned.

Sources: accelerate 1.15 commands/launch.py (flags and defaults), utils/launch.py prepare_multi_gpu_env and
prepare_deepspeed_cmd_env (what is handed on), utils/dataclasses.py FullyShardedDataParallelPlugin and DeepSpeedPlugin
(what is made of it); torch 2.14 distributed/run.py; DeepSpeed 0.19 launcher/runner.py; transformers 5.23
training_args.py (ACCELERATE_MIXED_PRECISION stands in for bf16 and fp16 where neither is on).
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

# Flags of each launcher whose product is the number of processes; those after the first are 1 by default.
_COUNTS = {
    "accelerate": ("num_processes",),
    "torchrun": ("nproc_per_node", "nnodes"),
    "python": ("nproc_per_node", "nnodes"),
    "deepspeed": ("num_gpus", "num_nodes"),
}
# torch.distributed.fsdp.ShardingStrategy by its numbers; NO_SHARD is none that a plan has.
_STRATEGIES = {1: "full_shard", 2: "shard_grad_op", 3: "no_shard", 4: "hybrid_shard", 5: "hybrid_shard_zero2"}
# `python -m torch.distributed.run`, torchrun's own module, and the one it replaced.
_MODULE = re.compile(r"torch\.distributed\.(?:run|launch)$")
# DeepSpeed's flags that move no memory of a card during a step.
_ZERO_HARMLESS = (
    "gradient_clipping", "zero3_init_flag", "zero3_save_16bit_model", "offload_optimizer_nvme_path",
    "offload_param_nvme_path",
)  # fmt: skip
_ZERO = ("zero_stage", "offload_optimizer_device", "offload_param_device")


def launched(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The launcher's own words, and those of the program it starts; all are the program's where there is no launcher.

    The program is the first Python file, or the module that follows `-m`.
    """
    if not words or _launcher(words[0]) is None:
        return [], list(words)
    first = 3 if list(words[1:2]) == ["-m"] and _MODULE.match(" ".join(words[2:3])) else 1
    places = (
        place
        for place in range(first, len(words))
        if words[place].endswith(".py") or words[place - 1] in ("-m", "--module")
    )
    start = next(places, 0)
    return [word for word in words[:start] if word not in ("-m", "--module")], list(words[start:])


def _launcher(program: str) -> str | None:
    name = program.rpartition("/")[2]
    return "python" if name.startswith("python") else name if name in _COUNTS else None


def as_settings(program: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """A launcher's flags as a trainer's file would have them."""
    found = dict(flags)
    machines = _count(found, _COUNTS[_launcher(program) or "python"])
    found.pop("gradient_accumulation_steps", None)  # for DeepSpeed alone, where a Trainer's own count stands
    if (ids := found.pop("gpu_ids", None)) is not None and "," in str(ids):
        found["CUDA_VISIBLE_DEVICES"] = ids
    if _switch(found, "use_fsdp"):
        _shard(found, machines)
    elif _switch(found, "use_deepspeed") or (program == "accelerate" and "deepspeed_config_file" in found):
        _zero(found)
    if _switch(found, "use_parallelism_config"):
        prefix = "parallelism_config_"
        sizes = {key: found.pop(key) for key in list(found) if key.startswith(prefix) and key.endswith("_size")}
        found["parallelism_config"] = {key.removeprefix(prefix): size for key, size in sizes.items() if size != 1}
    if found.get("mixed_precision") == "bf16":
        found["bf16"] = found.pop("mixed_precision") == "bf16"
    elif found.get("mixed_precision") == "no":
        del found["mixed_precision"]
    if (compiler := found.pop("dynamo_backend", "no")) != "no":
        found["torch_compile"], found["torch_compile_backend"] = True, compiler
    if _switch(found, "cpu"):
        found["use_cpu"] = True
    return found


def beside(launcher: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The launcher's settings and the program's own, which win; a precision that is off there is the launcher's."""
    if any(own.get(name) is True for name in ("bf16", "fp16")):
        return {key: value for key, value in launcher.items() if key not in ("bf16", "mixed_precision")} | {**own}
    if "bf16" in launcher:
        own = {key: value for key, value in own.items() if key not in ("bf16", "fp16")}
    return {**launcher, **own}


def _switch(found: dict[str, Any], name: str) -> bool:
    return found.pop(name, False) is True


def _count(found: dict[str, Any], names: tuple[str, ...]) -> int:
    """Put the number of processes under accelerate's name for it; return the number of machines."""
    first, *more = names
    counts = [found.get(first), *(found.get(name, 1) for name in more)]
    if not all(isinstance(count, int) and not isinstance(count, bool) and count != -1 for count in counts):
        return 1  # `gpu`, `auto`, a variable, DeepSpeed's -1 for all: what is not a number stays as it is written
    for name in names:
        found.pop(name, None)
    found["num_processes"] = math.prod(counts)
    machines = found.pop("num_machines", None) if first == "num_processes" else math.prod(counts[1:])
    return machines if isinstance(machines, int) else 1


def _shard(found: dict[str, Any], machines: int) -> None:
    """accelerate's own defaults: FSDP1, and one unit unless a policy is named."""
    own = {key.removeprefix("fsdp_"): found.pop(key) for key in list(found) if key.startswith("fsdp_")}
    config = {"version": 1, "auto_wrap_policy": "NO_WRAP", **own}
    if config["version"] == 1:
        strategy = config.pop("sharding_strategy", "FULL_SHARD")
        config.pop("reshard_after_forward", None)  # FSDP1 asks the strategy alone
        config["sharding_strategy"] = _STRATEGIES.get(strategy, strategy) if isinstance(strategy, int) else strategy
        if machines > 1 and "hybrid" in str(config["sharding_strategy"]).lower():
            config["cards_per_node"] = found["num_processes"] // machines
    else:
        for name in ("sharding_strategy", "backward_prefetch"):  # FSDP2 has neither
            config.pop(name, None)
    found["fsdp"], found["fsdp_config"] = True, config


def _zero(found: dict[str, Any]) -> None:
    """A file where one is named; else DeepSpeedPlugin's own configuration, ZeRO 2 unless a stage is named."""
    given = {key: found.pop(key) for key in _ZERO if key in found}
    for key in _ZERO_HARMLESS:
        found.pop(key, None)
    if (name := found.pop("deepspeed_config_file", None)) is not None:
        found["deepspeed"] = name
        return
    stage = given.pop("zero_stage", 2)
    devices = {name.removesuffix("_device"): {"device": device or "none"} for name, device in given.items()}
    found["deepspeed"] = {"zero_optimization": {"stage": stage, **devices}}

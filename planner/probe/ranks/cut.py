"""The model as its strategy has it on one card: wrapped by DDP, or cut into shards by FSDP as accelerate cuts it."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from peft.utils.other import fsdp_auto_wrap_policy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision, ShardingStrategy
from torch.nn.parallel import DistributedDataParallel

from planner.probe.training.load import torch_dtype
from planner.request.parallel import Ddp, Fsdp
from planner.request.recipe import Recipe

_HYBRID = ("dp_replicate", "dp_shard")


def spread_over_cards(model: Any, recipe: Recipe, device: torch.device) -> Any:
    """`model` as this process's rank has it. Under FSDP it comes without bytes, on the meta device, unless it is
    quantized: then it is whole on the card (accelerate/utils/fsdp_utils.py, "will still cause the VRAM spike").
    """
    if recipe.layout.strategy == "zero":
        from planner.probe.ranks.zero import engine_of  # noqa: PLC0415  # brings accelerate's side of DeepSpeed

        return engine_of(model, recipe)
    if recipe.layout.strategy == "ddp":
        options = recipe.strategy if isinstance(recipe.strategy, Ddp) else Ddp()
        return DistributedDataParallel(model, device_ids=[device.index], **options.model_dump())
    options_of_fsdp = recipe.strategy if isinstance(recipe.strategy, Fsdp) else Fsdp()
    cut = _cut_by_fsdp1 if options_of_fsdp.version == 1 else _cut_by_fsdp2
    return cut(model, recipe, options_of_fsdp, device)


def _cut_by_fsdp2(model: Any, recipe: Recipe, options: Fsdp, device: torch.device) -> Any:
    """accelerate's own function, told by a namespace what it reads of an Accelerator (accelerate/utils/fsdp_utils.py).

    A harness without mixed precision keeps the parameters' dtypes (accelerate: mixed_precision "no").
    """
    layout = recipe.layout
    plugin = _plugin(options)
    if layout.gathered:
        plugin.set_mixed_precision(torch_dtype(layout.gathered))
    mesh = _hybrid_mesh(layout.world, layout.parameter_shards) if options.hybrid_shard else None
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        mixed_precision="bf16" if layout.master == "float32" else "no",
        is_main_process=False,
        device=device,
        torch_device_mesh=mesh,
        parallelism_config=SimpleNamespace(fsdp_dim_names=list(_HYBRID)),
    )
    sharded = fsdp2_prepare_model(accelerator, model)
    if recipe.quantization is None:
        sharded.to_empty(device="cpu" if options.cpu_offload else device)
    _buffers_to(sharded, device)
    return sharded


def _plugin(options: Fsdp) -> Any:
    policy = "transformer_based_wrap" if options.auto_wrap else "no_wrap"
    return FullyShardedDataParallelPlugin(
        fsdp_version=2, reshard_after_forward=options.reshard_after_forward, auto_wrap_policy=policy,
        cpu_offload=options.cpu_offload, cpu_ram_efficient_loading=False,
    )  # fmt: skip


def _hybrid_mesh(world: int, shards: int) -> DeviceMesh:
    return init_device_mesh("cuda", (world // shards, shards), mesh_dim_names=_HYBRID)


def _buffers_to(model: nn.Module, device: torch.device) -> None:
    """Buffers are not offloaded (accelerate/utils/fsdp_utils.py registers them on the accelerator's device)."""
    for name, buffer in list(model.named_buffers()):
        parent, _, leaf = name.rpartition(".")
        module = model.get_submodule(parent)
        persistent = leaf not in module._non_persistent_buffers_set
        module.register_buffer(leaf, buffer.to(device), persistent=persistent)


def _cut_by_fsdp1(model: Any, recipe: Recipe, options: Fsdp, device: torch.device) -> Any:
    """As accelerate calls it (accelerate/accelerator.py prepare_model), with the parameters it has there.

    Adapters are units of their own beside the layers, as a flat parameter has one dtype and is trained or is not: the
    Trainer has peft's policy do it (transformers/distributed/fsdp.py update_fsdp_plugin_peft).
    """
    layout = recipe.layout
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=1, auto_wrap_policy="transformer_based_wrap" if options.auto_wrap else "no_wrap",
        cpu_offload=options.cpu_offload, cpu_ram_efficient_loading=False, use_orig_params=True,
        backward_prefetch=options.backward_prefetch,
    )  # fmt: skip
    plugin.set_auto_wrap_policy(model)
    policy = plugin.auto_wrap_policy if recipe.lora is None else fsdp_auto_wrap_policy(model)
    dtype = torch_dtype(layout.gathered) if layout.gathered else None
    names = {
        (True, False): ShardingStrategy.FULL_SHARD, (False, False): ShardingStrategy.SHARD_GRAD_OP,
        (True, True): ShardingStrategy.HYBRID_SHARD, (False, True): ShardingStrategy._HYBRID_SHARD_ZERO2,
    }  # fmt: skip
    strategy = names[options.reshard_after_forward, options.hybrid_shard]
    sharded = FullyShardedDataParallel(
        model,
        sharding_strategy=strategy,
        device_mesh=_hybrid_mesh(layout.world, layout.parameter_shards) if options.hybrid_shard else None,
        cpu_offload=plugin.cpu_offload,
        auto_wrap_policy=policy,
        backward_prefetch=plugin.backward_prefetch,
        mixed_precision=MixedPrecision(dtype, dtype, dtype) if dtype else None,
        use_orig_params=True,
        limit_all_gathers=True,
        device_id=device,
        param_init_fn=partial(_without_values, device, {}) if recipe.quantization is None else None,
    )
    if layout.master == "float32":
        _keep_trained_in_float32(sharded)
    return sharded


def _keep_trained_in_float32(sharded: Any) -> None:
    """As accelerate does once the model is cut (accelerator.py, "Upcasted low precision parameters")."""
    units: list[Any] = FullyShardedDataParallel.fsdp_modules(sharded)
    for unit in units:
        if unit._has_params and unit._flat_param.requires_grad:
            unit._flat_param.data = unit._flat_param.data.to(torch.float32)
            unit._handle._orig_param_dtype = torch.float32


def _without_values(device: torch.device, made: dict[nn.Parameter, nn.Parameter], module: nn.Module) -> None:
    """Room for a module's parameters. `made` are those so far, by what they were: two modules may share one."""
    before = {name: parameter for name, parameter in module._parameters.items() if parameter is not None}
    module.to_empty(device=device, recurse=False)
    for name, parameter in before.items():
        module._parameters[name] = made.setdefault(parameter, module._parameters[name])  # type: ignore[arg-type]  # to_empty leaves none out

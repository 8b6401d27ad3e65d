"""DeepSpeed's engine around the model, told what transformers' Trainer tells it; DeepSpeed itself need not be here."""

import importlib
import logging
import sys
from typing import Any

from accelerate.utils.deepspeed import map_pytorch_optim_to_deepspeed
from transformers import PretrainedConfig, PreTrainedModel
from transformers.integrations.deepspeed import HfDeepSpeedConfig

from planner.probe.command.bootstrap.fitproof_bootstrap import zero
from planner.probe.training.optimizers import build_optimizer
from planner.request.parallel import DeepSpeed
from planner.request.recipe import Recipe

# transformers finds the configuration of stage 3 only as long as a reference is held (integrations/deepspeed.py,
# set_hf_deepspeed_config keeps a weak reference).
_held: list[HfDeepSpeedConfig] = []


def build_in_parts(model_class: type[PreTrainedModel], config: PretrainedConfig, recipe: Recipe, dtype: Any) -> Any:
    """A model of which each card has its part, as stage 3 builds it before weights are read (deepspeed.zero.Init)."""
    _engine_module()
    _held.append(HfDeepSpeedConfig(_configuration(recipe, config.get_text_config().hidden_size)))
    chosen = {"attn_implementation": recipe.training.attn_implementation} if recipe.training.attn_implementation else {}
    return model_class._from_config(config, dtype=dtype, **chosen)


def engine_of(model: Any, recipe: Recipe) -> Any:
    """The engine that makes the steps of `model` (accelerate/accelerator.py _prepare_deepspeed)."""
    deepspeed = _engine_module()
    hidden = model.config.get_text_config().hidden_size
    optimizer = build_optimizer(recipe, model)
    if recipe.layout.optimizer_on_host:
        optimizer = map_pytorch_optim_to_deepspeed(optimizer)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config_params=_configuration(recipe, hidden))
    return engine


def _engine_module() -> Any:
    """`deepspeed`, its ranks taken to agree (planner/probe/command/bootstrap/fitproof_bootstrap/zero.py)."""
    first = "deepspeed" not in sys.modules
    deepspeed = importlib.import_module("deepspeed")
    if first:
        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
        for name, change in zero.VALUES.items():
            change(importlib.import_module(name))  # type: ignore[operator]  # for Python 3.9
        zero.let_ranks_agree_everywhere(sys.modules)  # type: ignore[no-untyped-call]  # the same
    return deepspeed


def _configuration(recipe: Recipe, hidden: int) -> dict[str, Any]:
    """The configuration file; "auto" is filled in as transformers does from the model's width."""
    options = recipe.strategy if isinstance(recipe.strategy, DeepSpeed) else DeepSpeed()
    training = recipe.training
    found = options.model_dump(exclude={"offload_optimizer", "offload_param"}) | options.sizes(hidden)._asdict()
    part: dict[str, Any] = {name: value for name, value in found.items() if value is not None}
    for name in ("offload_optimizer", "offload_param"):
        if getattr(options, name) != "none":
            part[name] = {"device": getattr(options, name)}
    half = "fp16" if recipe.model_dtype == "float16" else "bf16"
    return {
        half: {"enabled": True},
        "train_micro_batch_size_per_gpu": training.per_device_train_batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "gradient_clipping": training.max_grad_norm,
        "steps_per_print": 2**31,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": part,
    }

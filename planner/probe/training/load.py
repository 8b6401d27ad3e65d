"""Load phase: the real `from_pretrained`, with made-up weights unless a checkpoint is named."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
)

from planner.errors import FieldProblem, InvalidRequestError
from planner.probe.training import hqq
from planner.probe.training.made_up_weights import synthetic_checkpoint
from planner.request.objective import Objective
from planner.request.parallel import DeviceMap
from planner.request.recipe import Recipe
from planner.request.schema import Quantization, Request


def load_model(
    request: Request, recipe: Recipe, config: PretrainedConfig, device: torch.device, weights: str
) -> PreTrainedModel:
    """Load as a training script does, quantized on the way where the recipe says so.

    `weights`: `synthetic`, `hub` (the request's model id) or a folder.
    """
    if recipe.quantization is not None and hqq.is_group_wise(recipe):
        read = partial(_from_pretrained, request, recipe, config, torch.device("cpu"), weights)
        return hqq.load(read, recipe, recipe.quantization.group_size, device)
    return _from_pretrained(request, recipe, config, device, weights)


def _from_pretrained(
    request: Request, recipe: Recipe, config: PretrainedConfig, device: torch.device, weights: str
) -> PreTrainedModel:
    model_class = model_class_of(config, recipe.objective)
    dtype = torch_dtype(recipe.model_dtype)
    if recipe.layout.strategy == "zero" and recipe.layout.parameter_shards > 1:
        from planner.probe.ranks.zero import build_in_parts  # noqa: PLC0415  # brings accelerate's side of DeepSpeed

        return build_in_parts(model_class, config, recipe, dtype)  # type: ignore[no-any-return]  # DeepSpeed's context
    spread = recipe.layout.strategy == "device_map"
    arguments: dict[str, Any] = {"dtype": dtype, "device_map": {"": device}}
    if isinstance(recipe.strategy, DeviceMap):
        arguments |= _placement(recipe.strategy)
    if recipe.quantization is not None and recipe.quantization.quant_method == "bitsandbytes":
        arguments["quantization_config"] = quantization_config(recipe.quantization)
    if recipe.training.attn_implementation is not None:
        arguments["attn_implementation"] = recipe.training.attn_implementation
    if weights == "synthetic":
        skeleton = build_skeleton(model_class, config)
        # Which card a tensor goes to is told while it is loaded; until then it lies where a checkpoint's would.
        place = torch.device("cpu") if spread else device
        checkpoint = synthetic_checkpoint(skeleton, dtype, place, values=not spread)
        arguments |= {"config": config, "state_dict": checkpoint}
        source = None
    else:
        source = hub_id(request) if weights == "hub" else weights
        arguments["use_safetensors"] = True  # the other format is a pickle, which runs what its author wrote
    with _one_parameter_at_a_time(device):
        model: PreTrainedModel = model_class.from_pretrained(source, **arguments)
    return model


def _placement(options: DeviceMap) -> dict[str, Any]:
    """`device_map` and `max_memory` as from_pretrained takes them."""
    written = options.placement
    placed: dict[str, Any] = {"device_map": dict(written) if isinstance(written, tuple) else written}
    if options.max_memory is not None:
        placed["max_memory"] = dict(options.max_memory)
    return placed


def hub_id(request: Request) -> str:
    """The id the weights are under; a config that was read from the hub for us carries it."""
    if isinstance(request.model, str):
        return request.model
    if isinstance(name := request.model.get("_name_or_path"), str):
        return name
    problem = FieldProblem("model", "name the model by its hub id; a pasted config has no weights")
    raise InvalidRequestError("There are no weights to load.", [problem])


def model_class_of(config: PretrainedConfig, objective: Objective = "sft") -> type[PreTrainedModel]:
    """The causal language model transformers builds from `config`, or the one that scores sequences."""
    mapping: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING if objective == "reward" else MODEL_FOR_CAUSAL_LM_MAPPING
    found = mapping[type(config)]
    model_class: type[PreTrainedModel] = found[0] if isinstance(found, tuple) else found
    return model_class


def build_skeleton(model_class: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    """The model on the meta device: shapes without bytes, and so without first values."""
    with torch.utils._python_dispatch._disable_current_modes(), torch.device("meta"), no_init_weights():
        return model_class(config)


def quantization_config(quantization: Quantization) -> BitsAndBytesConfig:
    """The request's quantization as transformers wants it."""
    skipped = quantization.llm_int8_skip_modules
    return BitsAndBytesConfig(
        load_in_4bit=quantization.load_in_4bit,
        load_in_8bit=quantization.load_in_8bit,
        bnb_4bit_quant_type=quantization.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=quantization.bnb_4bit_use_double_quant,
        bnb_4bit_compute_dtype=torch_dtype(quantization.bnb_4bit_compute_dtype),
        bnb_4bit_quant_storage=torch_dtype(quantization.bnb_4bit_quant_storage),
        # An empty list is not None: it replaces the automatic list, too.
        llm_int8_skip_modules=None if skipped is None else list(skipped),
    )


def torch_dtype(name: str) -> torch.dtype:
    """`'bfloat16'` -> `torch.bfloat16`."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype


@contextmanager
def _one_parameter_at_a_time(device: torch.device) -> Iterator[None]:
    """Load in the thread that a dispatch mode watches: modes are thread-local. On a card leave the loader alone."""
    name = "HF_DEACTIVATE_ASYNC_LOAD"
    before = os.environ.get(name)
    if device.type == "cpu":
        os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before

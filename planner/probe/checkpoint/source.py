"""Where a run's weights come from: made up on the device, a real checkpoint, or a hollow one for a virtual card."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from planner.errors import FieldProblem, InvalidRequestError
from planner.model.quantized_checkpoint import written_quantization
from planner.probe.checkpoint.header import StoredTensor, header_of, stored_tensors
from planner.probe.checkpoint.hollow import write_hollow_checkpoint, write_made_up
from planner.probe.checkpoint.prequantized import quantized
from planner.probe.checkpoint.remote import config_on_hub, files_on_hub
from planner.probe.options import HUB, SYNTHETIC, Options
from planner.probe.processes.lifecycle import memory_folder, temporary_folder
from planner.probe.refusals import names_a_repository
from planner.probe.training.configs import config_fields
from planner.probe.training.load import build_skeleton, hub_id, model_class_of, torch_dtype
from planner.request.recipe import Recipe
from planner.request.schema import Request


def as_stored(request: Request, options: Options) -> Request:
    """`request` with the config.json that lies beside the weights which the options name, if they name any.

    Raises:
        InvalidRequestError: there is none.
    """
    if options.weights == SYNTHETIC or (options.weights == HUB and not names_a_repository(request)):
        return request
    config = config_on_hub(hub_id(request)) if options.weights == HUB else _config_in(Path(options.weights))
    return request.model_copy(update={"model": config})


def _config_in(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fix = f"name a folder with a checkpoint in it ({error})"
        raise InvalidRequestError("There are no weights to load.", [FieldProblem("--weights", fix)]) from None
    return dict(config)


@contextmanager
def checkpoint_of(request: Request, recipe: Recipe, config: PretrainedConfig, options: Options) -> Iterator[str]:
    """What `load_model` is to load: as the options say, but for a dry run a hollow checkpoint's folder.

    Raises:
        InvalidRequestError: the hub has no such checkpoint, or none of its kind can be made up.
    """
    if options.instrument != "dry-run" or options.weights not in {SYNTHETIC, HUB}:
        yield options.weights
        return
    written = written_quantization(config_fields(request))
    stored_config = deepcopy(config)
    if written is not None:
        stored_config.quantization_config = dict(written)
    # safetensors touches a byte of each tensor, and a disk would read megabytes of holes ahead.
    with temporary_folder(memory_folder()) as folder:
        if options.weights == HUB:
            write_hollow_checkpoint(folder, stored_config, files_on_hub(hub_id(request)))
        else:
            write_made_up(folder, stored_config, tuple(made_up(config, recipe, written)))
        yield str(folder)


def made_up(config: PretrainedConfig, recipe: Recipe, written: Mapping[str, Any] | None) -> Iterator[StoredTensor]:
    """The tensors that a checkpoint of this model has, 16-bit ones in the dtype that the recipe loads them in."""
    skeleton = build_skeleton(model_class_of(config), config)
    dtype = torch_dtype(recipe.model_dtype)
    tensors = header_of(stored_tensors(skeleton, dtype))
    return tensors if written is None else quantized(tensors, skeleton, written, dtype)

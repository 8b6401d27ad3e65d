"""A model's depth: what kind each layer is, how the kinds repeat, and a config cut to fewer layers."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PretrainedConfig

from planner.errors import FieldProblem, InvalidRequestError
from planner.probe.load import build_skeleton, model_class_of

# What a module may hold that says what it does; where it stands in the stack does not.
_PLAIN = (bool, int, float, str, type(None))
_POSITIONS = frozenset({"layer_idx", "layer_index", "layer_id"})


def depth_of(config: PretrainedConfig) -> int:
    """Decoder layers."""
    depth: int = config.get_text_config().num_hidden_layers
    return depth


def cut(config: PretrainedConfig, depth: int) -> PretrainedConfig:
    """`config` with its first `depth` layers only; lists that have an entry per layer are cut with it."""
    shallow = copy.deepcopy(config)
    text = shallow.get_text_config()
    full = depth_of(config)
    for name, value in vars(text).copy().items():
        if isinstance(value, (list, tuple)) and len(value) == full:
            setattr(text, name, value[:depth])
    text.num_hidden_layers = depth
    return shallow


def check_depths(config: PretrainedConfig, depths: Sequence[int]) -> None:
    """See that a straight line through `depths` leads to the full depth.

    Layers that alternate (sliding window and full attention, linear attention and full, dense before sparse) must be
    added in whole periods: each depth has to end where the full model's pattern ends.

    Raises:
        InvalidRequestError: says which depths would do.
    """
    kinds = layer_kinds(config)
    head, period = repetition(kinds)
    full = len(kinds)
    fitting = [depth for depth in range(max(head, 1), full) if (full - depth) % period == 0]
    bad = [depth for depth in depths if depth not in fitting]
    if not bad:
        return
    if len(fitting) < len(depths):
        fix = f"its {full} layers follow no pattern shorter than itself; measure it whole"
    else:
        fix = f"its layers repeat every {period} after the first {head}; use --layers {_listed(fitting[:2])}"
    problem = FieldProblem("--layers", f"{_listed(bad)} cannot be extrapolated to {full} layers: {fix}")
    raise InvalidRequestError("These depths do not extrapolate.", [problem])


def layer_kinds(config: PretrainedConfig) -> tuple[int, ...]:
    """One number per layer; equal numbers mean equal layers, judged by the module tree on the meta device."""
    plain = copy.deepcopy(config)
    plain._attn_implementation = "eager"  # the kernels of another choice may not be installed, and change no shape
    skeleton = build_skeleton(model_class_of(plain), plain)
    layers = decoder_layers(skeleton, depth_of(config))
    numbers: dict[Any, int] = {}
    return tuple(numbers.setdefault(_signature(layer), len(numbers)) for layer in layers)


def decoder_layers(model: torch.nn.Module, depth: int) -> torch.nn.ModuleList:
    """The list of decoder layers: the one module list as long as the model is deep.

    Raises:
        InvalidRequestError: there is none.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
            return module
    problem = FieldProblem("--layers", "this architecture has no plain list of layers; measure it whole")
    raise InvalidRequestError("This model cannot be cut.", [problem])


def repetition(kinds: Sequence[int]) -> tuple[int, int]:
    """(head, period): the layers before the pattern begins, and its length; the shortest head + period that fits."""
    count = len(kinds)
    for total in range(1, count + 1):
        for head in range(total):
            period = total - head
            if all(kinds[index] == kinds[index - period] for index in range(head + period, count)):
                return head, period
    return 0, count


def _signature(layer: torch.nn.Module) -> tuple[Any, ...]:
    return tuple(
        (
            name,
            type(module).__name__,
            tuple((key, tuple(tensor.shape)) for key, tensor in module.named_parameters(recurse=False)),
            tuple(
                (key, value)
                for key, value in sorted(vars(module).items())
                if isinstance(value, _PLAIN) and key not in _POSITIONS
            ),
        )
        for name, module in layer.named_modules()
    )


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))

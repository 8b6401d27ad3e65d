"""Every linear layer, as the trainers list them: leaf names of nn.Linear, which do not stand for stacked experts."""

from typing import Any

from planner.errors import FitproofError
from planner.model.model import Model, resolve_model
from planner.tensors.modules import ALL_LINEAR, LINEAR_NAMES
from planner.tensors.targets import has_stacked_experts, linear_names

# What transformers calls a projection in models that fuse it with others, or name it in their own way.
_OTHER_NAMES = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), ("query_key_value", "qkv_proj", "Wqkv", "c_attn")),
    **dict.fromkeys(("gate_proj", "up_proj"), ("gate_up_proj", "dense_h_to_4h", "fc1", "c_fc")),
    "down_proj": ("dense_4h_to_h", "fc2", "c_proj"),
    "o_proj": ("dense", "out_proj", "c_proj"),
    "lm_head": ("embed_out",),
}


def linear_targets(model: Any) -> str:
    """PEFT's own word where it says the same for this model, otherwise the planner's for a list of names."""
    found = known_model(model)
    return LINEAR_NAMES if found is None or has_stacked_experts(found.census) else ALL_LINEAR


def with_linear_layers(model: Any, names: Any) -> list[str] | None:
    """Every linear layer's name, and those in `names` that are none's (`embed_tokens`); None of an unknown model."""
    found = known_model(model)
    if found is None:
        return None
    leaves = linear_names(found.census)
    given = names if isinstance(names, list) else []
    return [*leaves, *(name for name in given if str(name).rpartition(".")[2] not in leaves)]


def stacks_experts(model: Any) -> bool:
    """Whether the catalogue, or the config given, knows this model for a mixture with stacked experts."""
    found = known_model(model)
    return found is not None and has_stacked_experts(found.census)


def has_sinks(model: Any) -> bool:
    """Whether its attention has sinks, as gpt-oss' does."""
    found = known_model(model)
    return found is not None and any(group.name.endswith(".sinks") for group in found.census)


def named_by_the_model(model: Any, names: list[str]) -> list[str]:
    """Projections under the names that transformers has for them in this model; a model not known keeps `names`."""
    found = known_model(model)
    leaves = set(linear_names(found.census)) if found else set(names)
    choices = [(name, *_OTHER_NAMES.get(name, ())) for name in names]
    return list(dict.fromkeys(next((name for name in choice if name in leaves), choice[0]) for choice in choices))


def known_model(model: Any) -> Model | None:
    """The catalogue's model of that name, or the one that a config describes; nothing is fetched."""
    if not isinstance(model, str | dict):
        return None
    try:
        return resolve_model(model)
    except FitproofError:
        return None

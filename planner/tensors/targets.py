"""Which weights PEFT puts an adapter on, by its own matching rules, and which ones a skip list keeps from bitsandbytes.

Source: peft 0.21.2, tuners/tuners_utils.py (check_target_module_exists, _maybe_include_all_linear_layers) and
utils/transformers_weight_conversion.py; transformers 5.23, quantizers/quantizers_utils.py (should_convert_module).
"""

from collections.abc import Collection, Iterator
from functools import lru_cache

from planner.errors import FieldProblem, InvalidRequestError
from planner.request.lora import Lora
from planner.tensors.inventory import Census, Layers, TensorGroup, as_layers
from planner.tensors.modules import (
    ALL_LINEAR,
    FIELD,
    LINEAR_NAMES,
    Adapted,
    can_be_adapted,
    is_linear,
    is_module,
    is_stacked,
    module_name,
    names_of,
    with_tied_head,
)
from planner.tensors.peft_matching import WRAPPED, excluder, layer_chooser, matcher, ranks, wrappers
from planner.tensors.peft_methods import refuse_what_the_method_cannot
from planner.tensors.refused_targets import (
    narrowed_to_nothing,
    refuse_biases,
    refuse_layers_of_patterns,
    refuse_linear_routers,
    refuse_other_parameters,
    refuse_outputs_of_kernels,
    refuse_what_stacked_experts_cannot,
)
from planner.tensors.whole_modules import holds_no_adapter

_PLAIN = Lora()

# Mixture models whose experts transformers 5 fused into stacked parameters. PEFT translates the old names of their
# projections, which "all-linear" includes, into adapters on the stacked parameters (utils/
# transformers_weight_conversion.py, _MOE_TARGET_MODULE_MAPPING; transformers conversion_mapping.py,
# _MODEL_TO_CONVERSION_PATTERN). qwen2_moe itself is not in that table.
_OLD_NAMES = {
    "mixtral": {"gate": "gate.weight", "w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"},
    "qwen2_moe": {
        "gate": "gate.weight", "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj", "down_proj": "down_proj",
    },
}  # fmt: skip
# Classes that say of their stacks that they lie (experts, in, out): `is_transposed` (models/gpt_oss).
_LIE_IN_OUT = frozenset({"gpt_oss"})
_TRANSLATED_AS = dict.fromkeys(("mixtral", "minimax", "minimax_m2"), "mixtral") | dict.fromkeys(
    (
        "afmoe", "cohere2_moe", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "ernie4_5_moe", "exaone_moe",
        "flex_olmo", "glm4_moe", "glm4_moe_lite", "glm4v_moe", "glm_moe_dsa", "hunyuan_v1_moe", "longcat_flash",
        "mellum", "olmoe", "qwen3_moe", "qwen3_next", "solar_open",
    ),
    "qwen2_moe",
)  # fmt: skip


def output_rows(group: TensorGroup, census: Census) -> int:
    """Output features of a 2-D weight. GPT-2's Conv1D stores (in, out); its bias tells."""
    bias_name = module_name(group) + ".bias"
    bias = next((other.params_each for other in census if other.name == bias_name), None)
    return group.shape[1] if bias == group.shape[1] and bias != group.shape[0] else group.shape[0]


def indexed_names(group: TensorGroup) -> Iterator[str]:
    """Module paths of all tensors of a group."""
    name = module_name(group)
    if "*" not in name:
        yield name
        return
    for index in layers_of(group):
        yield name.replace("*", str(index), 1).replace("*", "0")


def layers_of(group: TensorGroup) -> Layers:
    """The layers that have a group's tensors: the first ones where that is not known."""
    return group.layers or range(group.count)


@lru_cache(maxsize=512)
def adapted_weights(census: Census, model_type: str, lora: Lora) -> tuple[Adapted, ...]:
    """All weights that get an adapter.

    Raises:
        InvalidRequestError: no module matches, or PEFT refuses one that does; lists the model's module names.
    """
    modules = [
        group
        for group in with_tied_head(census)
        if is_module(group) and not holds_no_adapter(module_name(group), lora)
    ]
    refuse_linear_routers(model_type, modules, lora)
    if lora.target_modules == LINEAR_NAMES:
        lora = lora.model_copy(update={"target_modules": linear_names(census)})
    refuse_layers_of_patterns(lora)
    old_names = _OLD_NAMES.get(_TRANSLATED_AS.get(model_type, ""), {})
    stacked = [group for group in census if is_stacked(group)]
    if old_names and stacked and lora.peft_type == "LORA":  # no other method's targets are translated
        found = _on_translated_model(census, model_type, modules, old_names, lora)
    else:
        found = _all_adapted(modules, lora.target_modules, census, lora)
    found += _on_parameters(census, model_type, lora, {weight.name for weight in found})
    if not found:
        narrowed = narrowed_to_nothing(modules, lora) if _named(modules, lora.target_modules) else None
        missed = f"nothing matches {_shown(lora.target_modules)}" if lora.target_modules else "names nothing"
        nothing = FieldProblem(FIELD, f"{missed}{_as_list(lora, modules)}")
        raise InvalidRequestError("No module of this model matches the LoRA targets.", [narrowed or nothing])
    refuse_outputs_of_kernels(model_type, modules, found)
    refuse_what_the_method_cannot(found, census, model_type, lora)
    refuse_biases(census, lora)
    if lora.target_parameters or any(weight.stacked_experts for weight in found):
        refuse_what_stacked_experts_cannot(lora)
    return tuple(found)


def linear_names(census: Census) -> tuple[str, ...]:
    """Leaf names of the model's nn.Linear modules, the output head aside."""
    modules = (group for group in census if is_module(group) and is_linear(group) and group.role != "router")
    return tuple(dict.fromkeys(module_name(group).rsplit(".", 1)[-1] for group in modules))


def has_stacked_experts(census: Census) -> bool:
    """Whether experts lie in stacked parameters, which no nn.Linear holds."""
    return any(map(is_stacked, census))


def translated_names(model_type: str) -> Collection[str]:
    """Old names of projections that PEFT turns into names of stacked parameters."""
    return _OLD_NAMES.get(_TRANSLATED_AS.get(model_type, ""), {})


def _on_translated_model(
    census: Census, model_type: str, modules: list[TensorGroup], old_names: dict[str, str], lora: Lora
) -> list[Adapted]:
    """Adapters where PEFT turns old projection names into adapters on the stacked expert parameters.

    The old names leave the list for good: a dense `down_proj` gets no adapter. A gate_up_proj has twice the rank.
    """
    targets = _leaf_names(census, modules, old_names, lora.target_modules)
    translated = {old for old in old_names if any(t == old or t.endswith(f".{old}") for t in targets)}
    kept = tuple(t for t in targets if not any(t == old or t.endswith(f".{old}") for old in old_names))
    fused = [old for old, new in old_names.items() if new == "gate_up_proj"]
    present = [old for old in fused if old in translated]
    if 0 < len(present) < len(fused):
        missing = ", ".join(old for old in fused if old not in present)
        problem = f"name {missing} too, or leave {', '.join(present)} out: transformers 5 stacks them in one tensor"
        raise InvalidRequestError("PEFT cannot adapt half of a stacked expert.", [FieldProblem(FIELD, problem)])
    found = _all_adapted(modules, kept, census, lora)
    for new in dict.fromkeys(new for old, new in old_names.items() if old in translated):
        rank = lora.r * (len(fused) if new == "gate_up_proj" else 1)
        found += [_adapted_parameter(group, rank, model_type) for group in census if group.name.endswith(f".{new}")]
    return found


def _on_parameters(census: Census, model_type: str, lora: Lora, known: Collection[str]) -> list[Adapted]:
    """`target_parameters`: adapters on what the ends of whole names say, in all layers, but for those `known` already.

    Source: peft 0.21.2, tuners/tuners_utils.py _inject_parameters.
    """
    named = [
        group
        for group in census
        if lora.target_parameters and any(f".{group.name}".endswith(f".{name}") for name in lora.target_parameters)
    ]
    refuse_other_parameters(census, named, model_type, lora)
    return [_adapted_parameter(group, lora.r, model_type) for group in named if group.name not in known]


def _leaf_names(
    census: Census, modules: list[TensorGroup], old_names: dict[str, str], targets: str | tuple[str, ...]
) -> tuple[str, ...]:
    """Resolve a pattern or "all-linear" to last name parts, as _resolve_string_target_modules does."""
    if not isinstance(targets, str):
        return targets
    if targets.lower() == ALL_LINEAR:
        leaves = {module_name(group).rsplit(".", 1)[-1] for group, _ in _matches(modules, targets, _PLAIN)}
        return tuple(sorted(leaves | old_names.keys()))
    matches = matcher(targets)
    # Expert parameters have no module of their own, so the pattern is tried on their full names and on the names the
    # projections had before they were stacked.
    probes = {group.name.replace("*", "0") for group in census} | {name for g in census for name in indexed_names(g)}
    for group in census:
        container = group.name.replace("*", "0").rpartition(".")[0]
        probes |= {f"{container}.{old}" for old, new in old_names.items() if group.name.endswith(f".{new}")}
    return tuple(sorted({probe.rsplit(".", 1)[-1] for probe in probes if matches(probe)}))


def _all_adapted(
    modules: list[TensorGroup], targets: str | tuple[str, ...], census: Census, lora: Lora
) -> list[Adapted]:
    """Adapters on what the targets name, those of one group and one rank together."""
    rank_of = ranks(lora)
    found = []
    for group, layers in _matches(modules, targets, lora):
        rows = output_rows(group, census)
        by_rank: dict[int, list[int]] = {} if lora.rank_pattern else {lora.r: [*layers]}
        for layer in layers if lora.rank_pattern else ():
            by_rank.setdefault(rank_of(_name_in(group, layer)), []).append(layer)
        found += [
            Adapted(
                name=module_name(group),
                rows=rows,
                columns=group.params_each // rows,
                count=len(own),
                rank=rank,
                layers=as_layers(own) if "*" in group.name else (),
            )
            for rank, own in by_rank.items()
        ]
    return found


def _matches(
    modules: list[TensorGroup], targets: str | tuple[str, ...], lora: Lora
) -> list[tuple[TensorGroup, Layers]]:
    """Groups a target names, with the layers it names, `layers_to_transform` takes and `exclude_modules` leaves.

    A group outside the layers stands in one, the first.
    """
    found, excluded, taken = _named(modules, targets), excluder(lora.exclude_modules), layer_chooser(lora)
    if not lora.exclude_modules and lora.layers_to_transform is None:
        return found
    kept = []
    for group, layers in found:
        names = ((layer, _name_in(group, layer)) for layer in layers)
        if left := as_layers(layer for layer, name in names if taken(name) and not excluded(name)):
            kept.append((group, left))
    return kept


def _name_in(group: TensorGroup, layer: int) -> str:
    """The module's path in one layer."""
    return module_name(group).replace("*", str(layer), 1).replace("*", "0")


def _named(modules: list[TensorGroup], targets: str | tuple[str, ...]) -> list[tuple[TensorGroup, Layers]]:
    if isinstance(targets, str) and targets.lower() == ALL_LINEAR:
        return [(group, layers_of(group)) for group in modules if is_linear(group)]
    matches = matcher(targets, tower_alone=not any("language_model." in group.name for group in modules))
    # A suffix without a digit names all layers or none; anything else is tried layer by layer.
    uniform = not isinstance(targets, str) and not any(char.isdigit() for target in targets for char in target)
    found: list[tuple[TensorGroup, Layers]] = []
    for group in modules:
        layers = layers_of(group)
        names = [_name_in(group, layer) for layer in (layers[:1] if uniform else layers)]
        hits = [layer for layer, name in zip(layers, names, strict=False) if matches(name)]
        if any(map(matches, wrappers(names))):
            problem = (
                f"{names[0].removesuffix(WRAPPED)} wraps its projection in a class that PEFT cannot adapt; name the "
                r"text model's modules alone, such as .*language_model.*\.(q_proj|v_proj), or all-linear"
            )
            raise InvalidRequestError("PEFT cannot adapt one of the targets.", [FieldProblem(FIELD, problem)])
        if hits and not can_be_adapted(group):
            problem = f"{module_name(group)} is a {group.role}, which PEFT cannot adapt; leave it out"
            raise InvalidRequestError("PEFT cannot adapt one of the targets.", [FieldProblem(FIELD, problem)])
        if hits:
            found.append((group, layers if uniform else as_layers(hits)))
    return found


def _adapted_parameter(group: TensorGroup, rank: int, model_type: str) -> Adapted:
    """tuners/lora/layer.py ParamWrapper: one pair of A and B of rank r x experts for the whole stack."""
    stacked = len(group.shape) == 3
    experts = group.shape[0] if stacked else 1
    rows, columns = group.shape[-2:]
    if stacked and model_type in _LIE_IN_OUT:
        rows, columns = columns, rows
    return Adapted(
        name=group.name,
        rows=rows,
        columns=columns,
        count=group.count,
        rank=rank * experts,
        stacked_experts=stacked,
        experts=experts,
        layers=layers_of(group),
    )


def _as_list(lora: Lora, modules: list[TensorGroup]) -> str:
    """What to write instead: a name by itself is a pattern, and has to match whole paths."""
    names, targets = names_of(modules), lora.target_modules
    named = isinstance(targets, str) and targets in names.split(", ")
    return f": a text is a pattern for whole paths; write it as a list, [{targets}]" if named else f"; modules: {names}"


def _shown(targets: str | tuple[str, ...]) -> str:
    return repr(targets) if isinstance(targets, str) else ", ".join(targets)

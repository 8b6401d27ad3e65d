"""Targets that PEFT refuses, or that are not planned, each with what to write instead.

Source: peft 0.21.2, tuners/tuners_utils.py and tuners/lora/layer.py.
"""

from planner.errors import FieldProblem, InvalidRequestError, NotPlannedError
from planner.request.lora import Lora
from planner.tensors.inventory import Census, TensorGroup
from planner.tensors.modules import (
    ALL_LINEAR,
    FIELD,
    LINEAR_NAMES,
    Adapted,
    is_linear,
    is_module,
    is_stacked,
    last_layer,
    module_name,
    names_of,
)

# Their routers are nn.Linear that return a tuple (models/phimoe/modeling_phimoe.py PhimoeTopKRouter, models/llama4/
# modeling_llama4.py Llama4Router): "all-linear" wraps them, and peft's Linear.forward fails on the tuple.
_ROUTER_IS_LINEAR = frozenset({"phimoe", "llama4_text"})

# Every expert computes every token (models/llama4/modeling_llama4.py, Llama4TextExperts).
_COMPUTES_ALL = frozenset({"llama4_text"})

# peft 0.21 tuners/tuners_utils.py, _check_lora_target_modules_mamba: of the types described here. Their kernels read
# this weight without the module around it.
_REFUSED = {"nemotron_h": "out_proj"}


def adaptable_leaves(census: Census, model_type: str) -> tuple[str, ...] | None:
    """The names that "all-linear" would have, without those PEFT refuses; None where it refuses none."""
    if model_type not in _ROUTER_IS_LINEAR | _REFUSED.keys():
        return None
    modules = [group for group in census if is_module(group) and is_linear(group) and group.role != "router"]
    leaves = dict.fromkeys(module_name(group).rsplit(".", 1)[-1] for group in modules)
    return tuple(leaf for leaf in leaves if leaf != _REFUSED.get(model_type))


def refuse_layers_of_patterns(lora: Lora) -> None:
    """PEFT chooses layers of listed modules alone (LoraConfig.__post_init__): `all-linear` is no list."""
    if lora.layers_to_transform is None or not isinstance(lora.target_modules, str):
        return
    fix = (
        "PEFT chooses layers of listed modules alone; write target_modules as a list, such as [q_proj, v_proj], or "
        f"{LINEAR_NAMES} for the names of all linear layers"
    )
    raise InvalidRequestError("PEFT refuses these layers.", [FieldProblem("lora.layers_to_transform", fix)])


def narrowed_to_nothing(modules: list[TensorGroup], lora: Lora) -> FieldProblem | None:
    """Targets that are there, of which the other fields leave none; None where no other field narrows them."""
    if lora.layers_pattern:
        where = ", ".join(lora.layers_pattern) if isinstance(lora.layers_pattern, tuple) else lora.layers_pattern
        return FieldProblem("lora.layers_pattern", f"none of the targets lies in a chosen layer of {where}")
    if lora.layers_to_transform is not None:
        what = f"leaves no target; layers are counted from 0 to {last_layer(modules)}"
        return FieldProblem("lora.layers_to_transform", what)
    if lora.exclude_modules:
        return FieldProblem("lora.exclude_modules", "leaves no target; name fewer modules")
    return None


def refuse_linear_routers(model_type: str, modules: list[TensorGroup], lora: Lora) -> None:
    """All that "all-linear" would name but the router is the way out."""
    whole = isinstance(lora.target_modules, str) and lora.target_modules.lower() in {ALL_LINEAR, LINEAR_NAMES}
    if not whole or model_type not in _ROUTER_IS_LINEAR:
        return
    router = next((module_name(group) for group in modules if group.role == "router"), None)
    if router:
        problem = (
            f'"all-linear" includes {router}, whose output peft cannot adapt; name the others: {names_of(modules)}'
        )
        raise InvalidRequestError("PEFT cannot adapt one of the targets.", [FieldProblem(FIELD, problem)])


def refuse_outputs_of_kernels(model_type: str, modules: list[TensorGroup], found: list[Adapted]) -> None:
    """PEFT refuses Mamba's `out_proj`, and with it "all-linear"."""
    refused = _REFUSED.get(model_type)
    if refused and any(weight.name.rsplit(".", 1)[-1] == refused for weight in found):
        others = [group for group in modules if not module_name(group).endswith(f".{refused}")]
        problem = f"{refused} of {model_type} cannot have an adapter; name others: {names_of(others)}"
        raise InvalidRequestError("PEFT refuses one of the targets.", [FieldProblem(FIELD, problem)])


def refuse_biases(census: Census, lora: Lora) -> None:
    """Of linear layers within the layers they are planned; `all` trains those of norms, routers and heads, too."""
    others = [group for group in census if group.role not in {"bias", "buffer"} and group.name.endswith(".bias")]
    others += [group for group in census if group.role == "bias" and "*" not in group.name]
    if lora.bias != "all" or not others:
        return
    fix = f"all trains {others[0].name}, too, which is not planned; write lora_only or none"
    raise NotPlannedError("These biases cannot be planned.", [FieldProblem("lora.bias", fix)])


def refuse_other_parameters(census: Census, named: list[TensorGroup], model_type: str, lora: Lora) -> None:
    """Stacks of experts and routers are planned; a linear layer's weight would be made anew in each forward."""
    if not lora.target_parameters:
        return
    stacks = ", ".join(dict.fromkeys(_end_of(group.name) for group in census if is_stacked(group)))
    planned = f"; planned are {stacks}" if stacks else "; this model has no stacked experts, so that none is planned"
    for name in lora.target_parameters:
        ending = [group for group in named if f".{group.name}".endswith(f".{name}")]
        if not ending:
            raise InvalidRequestError(_PARAMETERS, [_of_parameters(f"no parameter's name ends with {name}{planned}")])
        for group in ending:
            if group.role != "router" and not is_stacked(group):
                module = module_name(group).rsplit(".", 1)[-1]
                fix = f"{group.name} is not planned as a parameter; name {module} in target_modules{planned}"
                raise NotPlannedError(_PARAMETERS, [_of_parameters(fix)])
    if named and model_type in _COMPUTES_ALL:
        fix = f"adapters on the experts of {model_type} are not planned; name modules in target_modules"
        raise NotPlannedError(_PARAMETERS, [_of_parameters(fix)])


def refuse_trained_tokens(embedding: TensorGroup, lora: Lora) -> None:
    """PEFT trains rows of an embedding, or a copy of it."""
    field, tokens = "lora.trainable_token_indices", lora.trainable_token_indices or ()
    wholes = [name for name in lora.modules_to_save or () if module_name(embedding).endswith(name)]
    if wholes:
        fix = f"{wholes[0]} is trained as a whole by modules_to_save; keep one of the two"
        raise InvalidRequestError("These tokens cannot be trained.", [FieldProblem(field, fix)])
    if max(tokens) >= embedding.shape[0]:
        fix = f"{max(tokens)} is beyond the vocabulary of {embedding.shape[0]:,} words"
        raise InvalidRequestError("These tokens cannot be trained.", [FieldProblem(field, fix)])


_PARAMETERS = "These parameters cannot be planned."


def _of_parameters(message: str) -> FieldProblem:
    return FieldProblem("lora.target_parameters", message)


def _end_of(name: str) -> str:
    """The last two parts of a name, which is how PEFT's examples name a parameter."""
    return ".".join(name.split(".")[-2:])


def refuse_what_stacked_experts_cannot(lora: Lora) -> None:
    """Ranks that differ are not planned there; dropout and DoRA PEFT itself refuses."""
    problems = []
    if lora.rank_pattern:
        problem = "other ranks beside adapters on stacked experts are not planned; drop it, or adapt attention alone"
        problems.append(FieldProblem("lora.rank_pattern", problem))
    fix = "or name the attention projections in target_modules"
    if lora.lora_dropout:
        problem = f"PEFT adapts stacked experts only without dropout; set 0, {fix}"
        problems.append(FieldProblem("lora.lora_dropout", problem))
    if lora.use_dora:
        problems.append(FieldProblem("lora.use_dora", f"PEFT cannot use DoRA on stacked experts; set false, {fix}"))
    if problems:
        raise InvalidRequestError("PEFT refuses these adapters on a mixture model's stacked experts.", problems)

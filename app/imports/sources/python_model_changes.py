"""What a script does to its model between loading and training, which no argument of a configuration says.

Casts, frozen and replaced layers, larger vocabularies, compilers, kernels patched in, attention kernels switched off,
an optimizer of its own, the allocator's settings. What has a key of TRL's or of a shell's is put under that; the rest
is named as it stands in the source. Other models than the trained one, such as a reference, are none of it, nor is
what stands behind `trainer.train()`.
"""

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from app.imports.allocator import VARIABLES
from app.imports.effects import COMPILED, LAYERS, LESS, ONE_CARD, PARTIAL, VOCABULARY, Effect
from app.imports.optimizer_classes import optimizer_name

_CASTS = {"float", "half", "bfloat16", "double", "to", "type"}
_DTYPE = re.compile(r"float(?:16|32|64)?|half|bfloat16|double")
_MAKES_A_MODEL = {"from_pretrained", "get_peft_model", "prepare_model_for_kbit_training", "compile"}
_SDP = re.compile(r"enable_(?:flash|mem_efficient|math|cudnn)_sdp$")
_LIGER = re.compile(r"apply_liger_kernel_to_\w+$")
# Arguments of optimizers that no state comes from; momentum and amsgrad are others.
_PLAIN_OPTIONS = {
    "params", "lr", "betas", "eps", "weight_decay", "fused", "relative_step", "scale_parameter", "warmup_init",
}  # fmt: skip
_CAST = Effect("casts the model after it is loaded; planned in the dtype that it is loaded in", "without that cast")
_KERNELS = Effect("switches an attention kernel off; planned with torch's own choice", "with torch's own choice")
_SHARE = Effect("leaves torch a part of the card; planned with all of it", "with the whole card")
_MORE = Effect("trains more than the adapters; planned with these alone", "with the adapters alone")


@dataclass(slots=True)
class ModelChanges:
    """`settings`: what has a key; `effects`: the rest by its source; `unread`: an optimizer that is not known."""

    settings: dict[str, Any] = field(default_factory=dict)
    effects: dict[str, Effect] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


def model_changes(tree: ast.Module, *, has_adapters: bool) -> ModelChanges:
    """What the program does to the model that it loads first."""
    found, (models, first) = ModelChanges(), _the_model(tree)
    end = min((call.lineno for call in ast.walk(tree) if _is_training(call)), default=None)
    for node in ast.walk(tree):
        if end is not None and getattr(node, "lineno", 0) > end:
            continue
        if isinstance(node, ast.Call):
            if first is not None and isinstance(node.func, ast.Attribute) and _loading(node.func.value) is first:
                _of_call(found, node, {_root(node)}, has_adapters=has_adapters)
            else:
                _of_call(found, node, models, has_adapters=has_adapters)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                _of_assignment(found, node, target, models, has_adapters=has_adapters)
        elif isinstance(node, ast.Delete) and any(_root(target) in models for target in node.targets):
            found.effects[_source(node)] = LAYERS
    _own_optimizer(found, tree)
    return found


def _is_training(node: ast.AST) -> TypeGuard[ast.Call]:
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "train"
    return is_call and "trainer" in _root(node).lower()


def _of_call(found: ModelChanges, call: ast.Call, models: Collection[str], *, has_adapters: bool) -> None:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    root = _root(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    of_model = root in models
    if of_model and name in _CASTS and (not given or any(_is_dtype(each) for each in given)):
        if given or name not in {"to", "type"}:
            found.effects[_source(call)] = _CAST
    elif of_model and name == "requires_grad_":
        _trains(found, call, given[0] if given else None, has_adapters=has_adapters)
    elif of_model and name == "resize_token_embeddings":
        found.effects[_source(call)] = VOCABULARY
    elif name == "compile" and (of_model or (root == "torch" and any(_root(each) in models for each in given))):
        found.effects[_source(call)] = COMPILED
    elif _LIGER.match(name) or (name == "from_pretrained" and root == "AutoLigerKernelForCausalLM"):
        found.effects[_source(call)] = LESS
    elif _SDP.match(name) and any(isinstance(each, ast.Constant) and each.value is False for each in given):
        found.effects[_source(call)] = _KERNELS
    elif name == "set_per_process_memory_fraction":
        found.effects[_source(call)] = _SHARE
    elif name in {"setdefault", "putenv"} and root in {"os", "environ"} and len(call.args) > 1:
        _set_variable(found, call.args[0], call.args[1])
    elif name == "update" and root in {"os", "environ"} and call.args and isinstance(call.args[0], ast.Dict):
        for key, value in zip(call.args[0].keys, call.args[0].values, strict=True):
            _set_variable(found, key, value)
    elif name == "DataParallel" and any(_root(each) in models for each in given):
        found.effects[_source(call)] = ONE_CARD


def _of_assignment(
    found: ModelChanges, node: ast.Assign, target: ast.expr, models: Collection[str], *, has_adapters: bool
) -> None:
    if isinstance(target, ast.Subscript) and ast.unparse(target.value).endswith("environ"):
        _set_variable(found, target.slice, node.value)
    elif isinstance(target, ast.Attribute) and _root(target) in models:
        if target.attr == "requires_grad":
            _trains(found, node, node.value, has_adapters=has_adapters)
        elif target.attr in {"layers", "h", "blocks", "lm_head", "embed_tokens"}:
            found.effects[_source(node)] = LAYERS


def _trains(found: ModelChanges, node: ast.AST, value: ast.expr | None, *, has_adapters: bool) -> None:
    """Freezing is what PEFT does anyway; thawing is what full fine-tuning is."""
    frozen = isinstance(value, ast.Constant) and value.value is False
    thawed = value is None or (isinstance(value, ast.Constant) and value.value is True)
    if has_adapters and not frozen:
        found.effects[_source(node)] = _MORE
    elif not has_adapters and not thawed:
        found.effects[_source(node)] = PARTIAL


def _set_variable(found: ModelChanges, name: ast.expr | None, value: ast.expr) -> None:
    """The allocator's settings; and which cards there are, where that is more than one."""
    if not isinstance(name, ast.Constant) or not isinstance(value, ast.Constant):
        return
    if name.value in VARIABLES or (name.value == "CUDA_VISIBLE_DEVICES" and "," in str(value.value)):
        found.settings[name.value] = value.value


def _own_optimizer(found: ModelChanges, tree: ast.Module) -> None:
    """`optimizers=(optimizer, scheduler)` of a Trainer, which then makes none of its own."""
    made = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    given = (
        keyword.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "optimizers"
    )
    for pair in given:
        first = pair.elts[0] if isinstance(pair, ast.Tuple | ast.List) and pair.elts else pair
        if isinstance(first, ast.Constant) and first.value is None:
            continue
        call = made.get(first.id) if isinstance(first, ast.Name) else first
        name = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
        known, options = optimizer_name(name), {keyword.arg: keyword.value for keyword in getattr(call, "keywords", ())}
        if known == name.rpartition(".")[2] or options.keys() - _PLAIN_OPTIONS:
            found.unread["optimizers"] = _source(call or first)
        else:
            fused = getattr(options.get("fused"), "value", False) is True
            found.settings["optim"] = f"{known}_fused" if fused and known == "adamw_torch" else known


def _the_model(tree: ast.Module) -> tuple[set[str], ast.Call | None]:
    """Names that the first loaded model has in turn, and those of its parts in a loop; the call that loads it."""
    found: set[str] = set()
    first = None
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.AnnAssign | ast.For)]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        if isinstance(node, ast.For):
            if _root(node.iter) in found:
                found |= set(_bound(node.target))
        elif isinstance(node.value, ast.Call):
            name = getattr(node.value.func, "attr", getattr(node.value.func, "id", ""))
            owner, loading = _root(node.value.func), _loading(node.value)
            if is_first := loading is not None and not found:
                first = loading
            handed_on = name in _MAKES_A_MODEL | _CASTS and (
                owner in found or any(_root(each) in found for each in node.value.args)
            )
            if is_first or handed_on:
                found |= set(list(_bound(node.target if isinstance(node, ast.AnnAssign) else node.targets[0]))[:1])
    return found, first


def _loading(node: ast.AST) -> ast.Call | None:
    """The call that loads a model in a chain such as `AutoModel.from_pretrained(…).to("cuda")`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained":
            return node if _is_a_model(ast.unparse(node.func.value)) else None
        node = node.func if isinstance(node, ast.Call) else node.value
    return None


def _is_a_model(owner: str) -> bool:
    return "Tokenizer" not in owner and not owner.endswith(("Processor", "Config", "FeatureExtractor"))


def _bound(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _bound(element)


def _root(node: ast.AST) -> str:
    """The name that a chain of attributes, subscripts and calls begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_dtype(node: ast.expr) -> bool:
    return bool(_DTYPE.fullmatch(ast.unparse(node).removeprefix("torch.")))


def _source(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:80]

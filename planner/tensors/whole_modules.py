"""Modules that PEFT copies and trains as a whole beside the adapters: `modules_to_save`.

The original stays, frozen. Source: peft 0.21.2, utils/other.py (_set_trainable, ModulesToSaveWrapper.update).
"""

from collections.abc import Iterable, Iterator

from planner.errors import FieldProblem, InvalidRequestError, NotPlannedError
from planner.request.lora import Lora
from planner.tensors.inventory import Census, TensorGroup
from planner.tensors.modules import TIED_HEAD, module_name, with_tied_head

FIELD = "lora.modules_to_save"
# A head of a sequence classification model is copied without being named (peft_model.py,
# PeftModelForSequenceClassification: `classifier_module_names`).
SCORE = "score"
_OWN_NAMES = ("embedding", "head", "norm", "linear")


def whole_modules(census: Census, lora: Lora) -> tuple[TensorGroup, ...]:
    """The tensors of the copies, in the order of the model's modules; a tied head's copy is a tensor of its own.

    PEFT takes every module whose name ends so: "norm" is each layer's `input_layernorm`, too, and "mlp" a block with
    all that it holds. With `ensure_weight_tying` a copied embedding stands for the head as well, and neither is copied
    twice.

    Raises:
        InvalidRequestError: none is of a module; lists what can be named.
        NotPlannedError: one is of a single layer, or of what holds the layers.
    """
    names = lora.modules_to_save or ()
    modules = with_tied_head(census)
    if problem := next(_not_planned(names, modules), None):
        raise NotPlannedError("These modules cannot be planned as a whole.", [FieldProblem(FIELD, problem)])
    if names and not any(_is_copied(group, names) for group in modules):
        problem = f"no module's name ends with {' or '.join(names)}; name one of {_leaves(modules)}"
        raise InvalidRequestError("These modules cannot be trained as a whole.", [FieldProblem(FIELD, problem)])
    tied = ties_the_copies(census, lora)
    found = [
        group
        for group in modules
        if group.role != "buffer" and (_is_copied(group, names) or module_name(group) == SCORE)
    ]
    if tied and not any(group.role == "embedding" for group in found):
        found.insert(0, _embedding(census))
    return tuple(group for group in found if not (tied and group.role == "head"))


def copied_buffers(census: Census, lora: Lora) -> tuple[TensorGroup, ...]:
    """Buffers of the modules that are copied: Gemma's embedding has a factor."""
    copied = {module_name(group) for group in whole_modules(census, lora)}
    names = lora.modules_to_save or ()
    return tuple(
        group
        for group in census
        if group.role == "buffer" and (group.name.rpartition(".")[0] in copied or _is_copied(group, names))
    )


def ties_the_copies(census: Census, lora: Lora) -> bool:
    """Whether embedding and head share one copy (tuners/lora/model.py, _add_modules_to_save_to_tie)."""
    if not lora.ensure_weight_tying or any(group.role == "head" for group in census):
        return False
    ends = (module_name(_embedding(census)), TIED_HEAD)
    return any(end.endswith(name) for end in ends for name in lora.modules_to_save or ())


def holds_no_adapter(name: str, lora: Lora) -> bool:
    """Whether PEFT leaves this module out of the targets, as it is copied (tuners_utils.py, check_target_module_exists:
    a whole part of its path is named).
    """
    return any(f".{whole}." in f".{name}." for whole in lora.modules_to_save or ())


def refuse_adapted_copies(copied: Iterable[TensorGroup], adapted: Iterable[str]) -> None:
    """PEFT copies no module that an adapter has wrapped (utils/other.py, AuxiliaryTrainingWrapper.check_module).

    Raises:
        InvalidRequestError: says which module is both.
    """
    both = dict.fromkeys(map(module_name, copied)).keys() & set(adapted)
    if both:
        fix = f"{', '.join(sorted(both))} has an adapter, too; write its whole name, or leave it out of target_modules"
        raise InvalidRequestError("These modules cannot be trained as a whole.", [FieldProblem(FIELD, fix)])


def _embedding(census: Census) -> TensorGroup:
    return next(group for group in census if group.role == "embedding")


def unmatched_names(census: Census, lora: Lora) -> tuple[str, ...]:
    """Entries that end no module's name. PEFT passes over them in silence as long as one other does."""
    paths = [module_name(group) for group in with_tied_head(census)]
    paths += [block for path in paths for block in _blocks_of(path)]
    return tuple(name for name in lora.modules_to_save or () if not any(path.endswith(name) for path in paths))


def _is_copied(group: TensorGroup, names: tuple[str, ...]) -> bool:
    """Whether its module, or a block within a layer that holds it, has a name that ends so."""
    path = module_name(group)
    return path.endswith(names) or any(block.endswith(names) for block in _blocks_of(path))


def _blocks_of(path: str) -> Iterator[str]:
    """The modules within a layer that hold one."""
    layer, star, inside = path.rpartition(".*.")
    parts = inside.split(".") if star else []
    yield from (f"{layer}{star}{'.'.join(parts[:depth])}" for depth in range(1, len(parts)))


def _leaves(modules: tuple[TensorGroup, ...]) -> str:
    return ", ".join(dict.fromkeys(
        module_name(group).rsplit(".", 1)[-1] for group in modules if group.role in _OWN_NAMES
    ))


def _not_planned(names: tuple[str, ...], modules: tuple[TensorGroup, ...]) -> Iterator[str]:
    paths = list(dict.fromkeys(module_name(group) for group in modules if group.role != "buffer"))
    holders = sorted({path.rsplit(".", depth)[0] for path in paths for depth in range(1, path.count(".") + 1)})
    blocks = {block for path in paths for block in _blocks_of(path)}
    for name in names:
        if any(part.isdigit() for part in name.split(".")):
            yield f"{name} is of one layer; what is named is copied in all of them. Name one of {_leaves(modules)}"
            continue
        around = next((path for path in holders if path.endswith(name) and path not in blocks | set(paths)), None)
        if around:
            yield f"{around} holds layers, whose copies are not planned; name one of {_leaves(modules)}"

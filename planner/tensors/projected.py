"""Which weights GaLore and APOLLO project the gradients of, by transformers' own matching.

Source: transformers 5.23, trainer_optimizer.py (_setup_low_rank_optimizer), trainer_utils.py
(check_target_module_exists): nn.Linear modules whose name is a target, holds one, or wholly matches one as a pattern;
of a string, wholly matches; "all-linear" is all of them, a head that shares the embedding's tensor aside.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

from planner.errors import FieldProblem, InvalidRequestError
from planner.request.low_rank import Projection
from planner.request.validation.patterns import Matcher
from planner.tensors.inventory import Census, TensorGroup
from planner.tensors.modules import ALL_LINEAR, LINEAR_NAMES, is_linear, is_module, names_of
from planner.tensors.targets import indexed_names, linear_names, output_rows
from planner.tensors.trainable import Trainable

FIELD = "training.optim_target_modules"


@lru_cache(maxsize=256)
def with_projections(
    tensors: tuple[Trainable, ...], census: Census, targets: str | tuple[str, ...], projection: Projection
) -> tuple[Trainable, ...]:
    """`tensors`, those of the targets with their projection.

    Raises:
        InvalidRequestError: no linear layer matches; lists the model's.
    """
    if targets == LINEAR_NAMES:
        targets = linear_names(census)
    found = dict[str, int]()
    for group in filter(lambda group: _is_nn_linear(group, census), census):
        found[group.name] = sum(map(_matcher(targets), indexed_names(group)))
    if not any(found.values()):
        modules = [group for group in census if is_module(group)]
        fix = f'nothing matches {targets if isinstance(targets, str) else ", ".join(targets)}; write "all-linear"'
        fix += f" or some of {names_of(modules)}" if names_of(modules) else ""
        problem = FieldProblem(FIELD, fix)
        raise InvalidRequestError("No linear layer of this model matches the optimizer's targets.", [problem])
    return tuple(part for tensor in tensors for part in _split(tensor, found.get(tensor.name, 0), projection))


def _is_nn_linear(group: TensorGroup, census: Census) -> bool:
    """GPT-2's Conv1D is none: it stores (in, out)."""
    if not is_module(group) or not (is_linear(group) or group.role == "head"):
        return False
    return output_rows(group, census) == group.shape[0]


def _matcher(targets: str | tuple[str, ...]) -> Callable[[str], bool]:
    if isinstance(targets, str):
        if targets.replace("_", "-") == ALL_LINEAR:
            return lambda _: True
        return Matcher(targets).matches
    patterns = [Matcher(text) for text in targets]
    return lambda name: any(text in name for text in targets) or any(one.matches(name) for one in patterns)


def _split(tensor: Trainable, projected: int, projection: Projection) -> Iterator[Trainable]:
    """Where only some layers match, those come apart."""
    if projected < tensor.count:
        yield replace(tensor, count=tensor.count - projected)
    if projected:
        yield replace(tensor, count=projected, projection=projection)

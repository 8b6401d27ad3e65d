"""ZeRO 3: which parameters are whole while a step runs, as DeepSpeed's coordinator gathers and lets go of them.

deepspeed/runtime/zero/partitioned_param_coordinator.py, played for a step like all after the second, whose modules it
knows in their order. Before each module is used, forward, again where a checkpoint recomputes, and backward:
fetch_sub_module gathers what it lacks and then, until stage3_prefetch_bucket_size elements are on their way, what the
following modules lack; whatever it skips there because it is whole already stays. After its use, release_sub_module
lets go of what is used again no sooner than in stage3_max_reuse_distance elements. Several parameters that are gathered
together come in one buffer and are copied out of it when the first is needed; the buffer goes when the last one was
asked for (AllGatherCoalescedHandle). Parameters up to stage3_param_persistence_threshold are always whole.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain, groupby
from operator import attrgetter
from typing import NamedTuple

from planner.parallel.zero_parameters import ModelParameters, Parameter
from planner.units import allocated, ceil_div


class Use(NamedTuple):
    """One pass of a module: the numbers of its parameters, whether it begins and ends here, and the numbers of frozen
    parameters that a checkpoint gathered for it, which go at its end in any case (ds_recompute_parameters).
    """

    numbers: tuple[int, ...]
    fetches: bool = True
    releases: bool = True
    recomputed: tuple[int, ...] = ()


class Limits(NamedTuple):
    """A configuration's, in elements: see the module. `on_host`: a card's parts come from the host to be gathered."""

    cards: int
    on_host: bool
    prefetch: int
    live: int
    reuse: int
    persistent: int


class Whole(NamedTuple):
    """Bytes of whole parameters in one segment: until its first gradient, from then on, and when it is over."""

    before_gradients_bytes: int
    during_bytes: int
    at_end_bytes: int


@dataclass(slots=True, eq=False)
class _Gathered:
    """One gather; `left` of its parameters were not asked for yet."""

    numbers: tuple[int, ...]
    left: set[int]
    arrived: bool = False

    @property
    def together(self) -> bool:
        """Whether several came in one buffer."""
        return len(self.numbers) > 1


class Coordinator:
    """The state while a step runs. `uses` are all passes of the step, in order."""

    def __init__(self, parameters: Sequence[Parameter], uses: Sequence[Use], limits: Limits) -> None:
        self.whole_bytes = self.uploading_bytes = 0
        self._parameters, self._limits = parameters, limits
        self._step = 0
        self._whole = {number for number, each in enumerate(parameters) if each.elements <= limits.persistent}
        self._persistent = frozenset(self._whole)
        self._arriving: dict[int, _Gathered] = {}
        self._asked_for = [-1] * len(parameters)
        self._available = 0
        self._queue = deque((number, step) for step, use in enumerate(uses) for number in use.numbers)
        traversed = accumulate((sum(parameters[number].elements for number in use.numbers) for use in uses), initial=0)
        self._traversed = list(traversed)
        self._steps_of: list[list[int]] = [[] for _ in parameters]
        for step, use in enumerate(uses):
            for number in use.numbers:
                self._steps_of[number].append(step)

    def fetch(self, use: Use) -> None:
        """Gather what this pass needs, then what comes next."""
        self.uploading_bytes = 0
        self._gather([number for number in use.numbers if self._is_absent(number)])
        for number in use.numbers:
            if number in self._arriving:
                self._wait_for(number)
        asked = {number for number in use.numbers if self._asked_for[number] < self._step}
        for _ in asked:
            number, step = self._queue.popleft()
            self._asked_for[number] = step
        self._prefetch()
        self._step += 1

    def release(self, use: Use) -> None:
        """Let go of what this pass used, and of frozen parameters that a checkpoint gathered for it."""
        for number in use.numbers if use.releases else ():
            if self._asked_for[number] <= self._step and not self._is_used_soon(number):
                self._let_go(number)
        for number in use.recomputed:
            self._let_go(number)

    def _prefetch(self) -> None:
        most = min(self._limits.live - self._available, self._limits.prefetch)
        found: list[int] = []
        elements = 0
        while self._queue and elements < most:
            number, step = self._queue.popleft()
            self._asked_for[number] = max(self._asked_for[number], step)
            if self._is_absent(number) and number not in found:
                found.append(number)
                elements += self._parameters[number].elements
        self._gather(found)

    def _is_absent(self, number: int) -> bool:
        return number not in self._whole and number not in self._arriving

    def _gather(self, numbers: Sequence[int]) -> None:
        """A single parameter's buffer is the parameter; those of several dtypes wait for each other."""
        if not numbers:
            return
        self._available += sum(self._parameters[number].elements for number in numbers)
        gathered = _Gathered(tuple(numbers), set(numbers))
        self._arriving |= dict.fromkeys(numbers, gathered)
        gathered_bytes = sum(map(self._bytes_of, numbers))
        self.whole_bytes += gathered_bytes
        if self._limits.on_host:
            self.uploading_bytes = max(self.uploading_bytes, self.whole_bytes + gathered_bytes // self._limits.cards)

    def _wait_for(self, number: int) -> None:
        gathered = self._arriving.pop(number)
        if not gathered.arrived:
            gathered.arrived = True
            self._whole.update(gathered.numbers)
            if gathered.together:
                self.whole_bytes += sum(map(self._bytes_of, gathered.numbers))
        gathered.left.discard(number)
        if gathered.together and not gathered.left:
            self.whole_bytes -= sum(map(self._bytes_of, gathered.numbers))

    def _is_used_soon(self, number: int) -> bool:
        steps = self._steps_of[number]
        following = bisect_left(steps, self._step)
        if following == len(steps):
            return False
        return self._traversed[steps[following]] - self._traversed[self._step] < self._limits.reuse

    def _let_go(self, number: int) -> None:
        if number in self._whole and number not in self._persistent and number not in self._arriving:
            self._whole.discard(number)
            self._available -= self._parameters[number].elements
            self.whole_bytes -= self._bytes_of(number)

    def _bytes_of(self, number: int) -> int:
        parameter = self._parameters[number]
        cards = self._limits.cards
        if cards == 1 and not self._limits.on_host:  # its part is the parameter (_no_gather_coalesced)
            return 0
        return allocated(ceil_div(parameter.elements, cards) * cards * parameter.itemsize_bytes)


class Passes(NamedTuple):
    """The uses of one stretch of a step: until the first gradient of a weight, and from then on."""

    before_gradients: list[Use]
    after: list[Use]


@dataclass(frozen=True, slots=True)
class Step:
    """A step's passes. Forward: before the layers, each layer's, after them, the head's; backward: head and what else
    comes after the layers, each layer's from the last on, before them.
    """

    forward: list[Passes]
    backward: list[Passes]

    @classmethod
    def of(cls, model: ModelParameters, *, checkpoints: bool) -> "Step":
        """`checkpoints`: layers are recomputed before they are gone back through."""
        first, each = len(model.first), len(model.layer)
        opening = _modules(model.first, 0)
        layers = [_modules(model.layer, first + each * index) for index in range(model.layers)]
        closing = _modules(model.last, first + each * model.layers)
        if model.tied:
            closing = [*closing, *opening[-1:]]
        above = [Use(())] * (2 if all(parameter.trained for parameter in model.first) else 4)  # PEFT adds two modules
        forward = [[*above, *opening], *layers, closing[:-1], closing[-1:]]
        backward = [Passes([*above, *reversed(closing)], [])]
        for index in reversed(range(model.layers)):
            start = first + each * index
            frozen = tuple(start + place for place, made in enumerate(model.layer) if not made.trained)
            backward.append(_gone_back(layers[index], frozen) if checkpoints else Passes([], layers[index][::-1]))
        backward.append(Passes([], [use._replace(releases=False) for use in reversed(opening)]))
        return cls([Passes(uses, []) for uses in forward], backward)


# A model's parameters and the configuration decide it, whatever the batch: questions about one run share it.
@lru_cache(maxsize=128)
def whole_parameters(
    model: ModelParameters, limits: Limits, *, checkpoints: bool
) -> tuple[Sequence[Whole], Sequence[Whole]]:
    """What is whole in each stretch of the forward pass, and of the backward pass: see `Step`."""
    step = Step.of(model, checkpoints=checkpoints)
    parameters = [*model.first, *(model.layer * model.layers), *model.last]
    uses = list(chain.from_iterable((*each.before_gradients, *each.after) for each in (*step.forward, *step.backward)))
    state = Coordinator(parameters, [use for use in uses if use.fetches], limits)
    found = [_played(state, each) for each in (*step.forward, *step.backward)]
    return tuple(found[: len(step.forward)]), tuple(found[len(step.forward) :])


def _played(state: Coordinator, passes: Passes) -> Whole:
    highest = []
    for uses in passes:
        most_bytes = 0
        for use in uses:
            if use.fetches:
                state.fetch(use)
            most_bytes = max(most_bytes, state.whole_bytes, state.uploading_bytes if use.fetches else 0)
            state.release(use)
        highest.append(most_bytes)
    return Whole(highest[0], highest[1] if passes.after else highest[0], state.whole_bytes)


def _gone_back(modules: list[Use], frozen: tuple[int, ...]) -> Passes:
    """A layer whose last module's pass begins, is held up while the layer is computed again, and lets go of what that
    gathered; recomputing stops within the last module (torch/utils/checkpoint.py early_stop).
    """
    *others, last = modules
    again = [use._replace(releases=not set(use.numbers) & set(frozen)) for use in others]
    held = last._replace(releases=False)
    return Passes([held, *again, held], [last._replace(fetches=False, recomputed=frozen), *reversed(others)])


def _modules(parameters: Sequence[Parameter], start: int) -> list[Use]:
    """Modules in their order, of which those without parameters, too, have the next ones gathered: whatever holds
    others, and what PEFT puts around an adapted one.
    """
    found, parent, number = list[Use](), "", start
    for name, group in groupby(parameters, attrgetter("module")):
        above = name.rpartition(".")[0]
        if above != parent:
            found.append(Use(()))
            parent = above
        count = len(list(group))
        found.append(Use(tuple(range(number, number + count))))
        number += count
    return found

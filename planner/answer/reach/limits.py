"""The largest micro-batch and the longest length that fit, and the smallest cards that do."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import gcd
from typing import Any

from planner.answer.plan import Plan, plan, smallest_cards
from planner.answer.reach.fewest_cards import fewest_cards
from planner.answer.search import largest
from planner.catalog import resolve_gpu
from planner.gpu import Gpu
from planner.model.model import Model, resolve_model
from planner.request.schema import Request

# Lengths that kernels pad to, torch's attention and the tensor cores among them.
_PADDED_TO = (8, 16, 64, 128, 256)
# The request's own bounds on the two fields.
MOST = {"per_device_train_batch_size": 65_536, "max_length": 16_777_216}


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest value whose verdict is `fits`, and the largest that is not surely too much. 0 where even 1 is."""

    fits: int
    tight: int

    def to_dict(self) -> dict[str, int]:
        """As the API writes it."""
        return {"fits": self.fits, "tight": self.tight}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a recipe could be stretched to on its card, everything else unchanged.

    `cards_of_this_kind`: the fewest of this card that fit it, several with FSDP's full shard; None where none were
    found, or the request is one for several cards already.
    """

    per_device_train_batch_size: Limit
    max_length: Limit
    smallest_cards: tuple[Plan, ...]
    cards_of_this_kind: int | None

    def to_dict(self) -> dict[str, Any]:
        """As the API writes it."""
        return {
            "per_device_train_batch_size": self.per_device_train_batch_size.to_dict(),
            "max_length": self.max_length.to_dict(),
            "smallest_cards": [
                {"gpu": card.gpu.id, "usable_bytes": card.usable_bytes, "verdict": card.verdict}
                for card in self.smallest_cards
            ],
            "cards_of_this_kind": self.cards_of_this_kind,
        }


def limits(request: Request, *, model: Model | None = None, gpu: Gpu | None = None, cards: int = 3) -> Limits:
    """Stretch batch and length until they no longer fit; name the `cards` smallest cards that fit the request.

    Raises:
        FitproofError: as `plan` does.
    """
    model, gpu = model or resolve_model(request.model), gpu or resolve_gpu(request.gpu)
    model.known_decoder()  # without a step, nothing tells how far one can be stretched
    several = fewest_cards(request, model=model, gpu=gpu) if cards else None
    return Limits(
        per_device_train_batch_size=_stretch(request, model, gpu, "per_device_train_batch_size"),
        max_length=_stretch(request, model, gpu, "max_length"),
        smallest_cards=smallest_cards(request, model=model, vendor=gpu.vendor, count=cards) if cards else (),
        cards_of_this_kind=several.request.gpus if several else None,
    )


def _stretch(request: Request, model: Model, gpu: Gpu, field: str) -> Limit:
    shortest, unit = _whole_generations(request, field)

    @cache
    def at(count: int) -> Plan:
        training = request.training.model_copy(update={field: shortest + count * unit})
        return plan(request.model_copy(update={"training": training}), model=model, gpu=gpu)

    def surely_left(count: int) -> int:
        return gpu.usable_bytes - at(count).estimate.enough_bytes

    def perhaps_left(count: int) -> int:
        return gpu.usable_bytes - at(count).estimate.lowest_bytes

    most = (MOST[field] - shortest) // unit
    fits = furthest(lambda count: at(count).verdict == "fits", most, surely_left)
    tight = furthest(lambda count: at(count).verdict != "does_not_fit", most, perhaps_left, fits)
    return Limit(*(shortest + count * unit if count else 0 for count in (fits, tight)))


def _whole_generations(request: Request, field: str) -> tuple[int, int]:
    """What a value of `field` lies above, and in which steps: GRPO's sequences hold a completion, batches groups."""
    training = request.training
    if training.objective != "grpo":
        return 0, 1
    if field == "max_length":
        return training.completion, 1
    groups = training.num_generations or 1
    steps = training.steps_per_generation or training.gradient_accumulation_steps
    return 0, groups // gcd(groups, request.gpus * steps)


def furthest(
    holds: Callable[[int], bool], most: int, room: Callable[[int], int] | None = None, known: int = 0
) -> int:
    """Largest value seen that holds, also where a larger one holds beyond a smaller that does not.

    What a run takes rises with its size but for small steps: kernels pad to 8, 64 or 128 tokens, and a tensor may pass
    the share of the peak from which it counts as large. So the next multiples and an eighth more are looked at, too.
    """
    found = largest(holds, most, room, known)
    while found:
        near = range(found + 2, found + 9)
        multiples = [(found // size + 1) * size for size in _PADDED_TO]
        beyond = [found + max(1, found * part // 64) for part in range(1, 9)]
        further = [value for value in {*near, *multiples, *beyond} if found < value <= most and holds(value)]
        if not further:
            break
        found = _last_from(max(further), holds, most)
    return found


def _last_from(first: int, holds: Callable[[int], bool], most: int) -> int:
    """The end of the stretch that holds from `first` on."""
    return first + largest(lambda more: holds(first + more), most - first)

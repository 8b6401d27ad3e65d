"""`device_map` and `max_memory` as `from_pretrained` takes them, and the names of unlike cards."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from planner.request.base import Name
from planner.request.parallel import MOST_CARDS, Placement
from planner.request.validation.control_characters import checked_name
from planner.request.validation.patterns import MOST_NAMES
from planner.request.validation.unions import OBJECT, TEXT, by_kind

# As device_map writes them; the whole model has an empty name. -1 is the host.
ModuleName = Annotated[str, Field(max_length=300), AfterValidator(checked_name)]
CardNumber = Annotated[int, Field(ge=-1, lt=MOST_CARDS)]
CardBytes = Annotated[int, Field(ge=0, le=1 << 44)]
DeviceMapWords = Annotated[
    Annotated[Placement, TEXT] | Annotated[dict[ModuleName, CardNumber], Field(max_length=MOST_NAMES), OBJECT],
    by_kind("write auto, balanced, balanced_low_0, sequential, or a map of module names to cards"),
]
MaxMemory = Annotated[dict[CardNumber, CardBytes], Field(max_length=MOST_CARDS)]
CardNames = Annotated[tuple[Name, ...], Field(max_length=MOST_CARDS)]


def device_map_problem(
    words: str | Mapping[str, int] | None, max_memory: Mapping[int, int] | None, cards: Sequence[str] | None, gpus: int
) -> str | None:
    """What of its cards, of max_memory and of an explicit map contradicts the rest."""
    if cards and words is None:
        return "gpus: unlike cards are planned with device_map alone; other strategies cut evenly. Write one card"
    if max_memory is not None and words is None:
        return "max_memory: is read only beside device_map; write device_map: auto"
    if cards and len(cards) != gpus:
        return f"cards: names {len(cards)} of {gpus} cards; name each"
    named = [*(words.values() if isinstance(words, Mapping) else ()), *(max_memory or ())]
    beyond = [card for card in named if card >= gpus]
    if beyond:
        return f"gpus: card {max(beyond)} is named, and there are {gpus}, numbered from 0; write gpus"
    return None

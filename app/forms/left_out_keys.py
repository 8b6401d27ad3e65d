"""Keys of an imported file that its plan leaves out, in the plan's address: a link of it is no bare "fits" either."""

from collections.abc import Iterable

from planner.answer.not_planned import NotPlanned
from planner.request.validation.control_characters import checked_text

NAME = "not_planned"
# More than any file of the corpus leaves out, and longer than any trainer's key.
_MOST, _LONGEST = 60, 80
_WHY = "the file that this plan was imported from asks for it; it moves memory and is not in the plan"


def written(items: Iterable[NotPlanned]) -> str:
    """The keys of what was left out, with commas."""
    return ",".join(item.key.replace(",", " ")[:_LONGEST] for item in items)


def read(text: str) -> tuple[NotPlanned, ...]:
    """What an address names, without the values; any of it may need less memory as well as more.

    Raises:
        ValueError: it names too much, or holds what no key does.
    """
    checked_text(text)
    keys = [key.strip() for key in text.split(",") if key.strip()]
    if len(keys) > _MOST or any(len(key) > _LONGEST for key in keys):
        msg = f"write at most {_MOST} keys of at most {_LONGEST} characters"
        raise ValueError(msg)
    return tuple(NotPlanned(key=key, value=None, why=_WHY, saves=True) for key in dict.fromkeys(keys))

"""Replace attributes for a while and put them back in reverse order."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class Patch(NamedTuple):
    """`owner.name` becomes `value`."""

    owner: Any
    name: str
    value: Any


@contextmanager
def patched(patches: Iterable[Patch]) -> Iterator[None]:
    """Apply `patches`, undo them on exit whatever happened. Class attributes come back as they were stored."""
    undo: list[tuple[Any, str, bool, Any]] = []
    try:
        for owner, name, value in patches:
            own = name in vars(owner)
            undo.append((owner, name, own, vars(owner).get(name)))
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, own, before in reversed(undo):
            if own:
                setattr(owner, name, before)
            else:
                delattr(owner, name)

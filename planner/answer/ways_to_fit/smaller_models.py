"""Smaller models of the same family in the catalogue: what a person turns to before another card."""

import re
from collections.abc import Iterator

from planner.answer.planned import Planned
from planner.catalog.model_rows import model_catalog
from planner.errors import UnknownModelError

# "Llama-3.1-" of "Llama-3.1-8B": what stands before the size.
_SIZE = re.compile(r"(?i)[-_]?\d+(?:\.\d+)?(?:x\d+)?[bm](?![a-z])")
_MINOR = re.compile(r"(\d)\.\d+")


def smaller_models(plan: Planned) -> Iterator[str]:
    """Ids of one publisher and architecture below the plan's model, of its own series first, the largest first.

    A series is what the name says before the size: Qwen3 of Qwen3-32B. Minor releases count as one where the series
    itself has nothing smaller: Llama-3.1-8B stands in for a smaller Llama-3.3-70B.
    """
    if not isinstance(plan.request.model, str):
        return
    try:
        own = model_catalog().find(plan.request.model)
    except UnknownModelError:  # a hub id beside the catalogue: nobody says what its family is
        return
    rows = model_catalog().rows
    smaller = [
        row
        for row in rows.values()
        if row.params < own.params and row.model_type == own.model_type and _publisher(row.id) == _publisher(own.id)
    ]
    smaller.sort(key=lambda row: (-row.params, row.id))
    series, major = _series(own.id), _MINOR.sub(r"\1", _series(own.id))
    same = [row.id for row in smaller if _series(row.id) == series]
    yield from same or [row.id for row in smaller if _MINOR.sub(r"\1", _series(row.id)) == major]


def _publisher(model_id: str) -> str:
    return model_id.partition("/")[0]


def _series(model_id: str) -> str:
    """The name before its size; a name without a size is a series of its own."""
    name = model_id.rpartition("/")[2].lower()
    found = _SIZE.search(name)
    return name[: found.start()] if found else name

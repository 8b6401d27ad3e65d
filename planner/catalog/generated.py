"""Every tensor of every catalogue model, as `python -m planner.probe.recording.census` wrote it."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from planner.errors import CatalogError
from planner.tensors.inventory import Census, Role, TensorGroup

CENSUS_FOLDER = Path(__file__).with_name("census")


def census_file(model_id: str, folder: Path = CENSUS_FOLDER) -> Path:
    """The file that holds a model's census: one per publisher."""
    return folder / f"{model_id.partition('/')[0]}.json"


def generated_census(model_id: str) -> Census:
    """Read the census of one catalogue model.

    Raises:
        CatalogError: the model has none yet; says which command writes it.
    """
    groups = _publisher(census_file(model_id)).get(model_id)
    if groups is None:
        raise CatalogError(
            f"{census_file(model_id).name}: no census of {model_id}; "
            f"run python -m planner.probe.recording.census {model_id}"
        )
    return tuple(read_group(group) for group in groups)


def read_group(group: list[Any]) -> TensorGroup:
    """One line of the file: name, role, shape, count, flags.

    q quantizable, f keeps float32, h in float16 too, s stacked in the checkpoint.
    """
    name, role, shape, count, flags = group
    return TensorGroup(
        name=name,
        role=cast(Role, role),
        shape=tuple(shape),
        count=count,
        quantizable="q" in flags,
        keeps_float32="f" in flags,
        keeps_float32_of_float16="h" in flags,
        stacked_in_checkpoint="s" in flags,
    )


def write_group(group: TensorGroup) -> list[Any]:
    """The inverse of `read_group`."""
    marks = {"q": group.quantizable, "f": group.keeps_float32, "h": group.keeps_float32_of_float16,
             "s": group.stacked_in_checkpoint}
    flags = "".join(mark for mark, holds in marks.items() if holds)
    return [group.name, group.role, list(group.shape), group.count, flags]


@lru_cache(maxsize=8)
def _publisher(path: Path) -> dict[str, list[list[Any]]]:
    if not path.is_file():
        return {}
    return cast(dict[str, list[list[Any]]], json.loads(path.read_text(encoding="utf-8"))["models"])

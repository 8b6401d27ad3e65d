"""The strict reader of catalogue files: every fault is a CatalogError that names the file, the row and the fix."""

import tomllib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planner.catalog.kept_toml import read_toml
from planner.catalog.names import normal_form
from planner.errors import CatalogError

# TOML has lists, frozen rows have tuples.
Texts = Annotated[tuple[str, ...], Field(strict=False)]


class Part(BaseModel):
    """A frozen table that knows no key beside its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Row(Part):
    """A part with a name of its own."""

    id: str


class Named(Protocol):
    """What the checks of names need."""

    @property
    def id(self) -> str:
        """The row's own name."""

    @property
    def other_names(self) -> tuple[str, ...]:
        """Aliases and the like."""


RowT = TypeVar("RowT", bound=Row)


def read_rows(path: Path, table: str, kind: type[RowT]) -> tuple[RowT, ...]:
    """Read `[[table]]` of a TOML file into rows, sorted by id and free of duplicates.

    Raises:
        CatalogError: the file is no TOML, or a row is malformed, misplaced or repeated.
    """
    try:
        document = read_toml(path)
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"{path.name}: not valid TOML, {error}; fix it there") from None
    strangers = set(document) - {table}
    if strangers or not isinstance(document.get(table), list):
        found = ", ".join(sorted(strangers)) or "nothing"
        raise CatalogError(f"{path.name}: found {found}; hold only [[{table}]] rows")
    rows = tuple(_row(path, kind, number, data) for number, data in enumerate(document[table], start=1))
    _check_order(path, [row.id for row in rows])
    return rows


def _row(path: Path, kind: type[RowT], number: int, data: dict[str, object]) -> RowT:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        where = f"{path.name}, row {number} ({data.get('id', 'without id')})"
        faults = "; ".join(_fault(kind, detail["type"], detail["loc"], detail["msg"]) for detail in error.errors())
        raise CatalogError(f"{where}: {faults}") from None


def _fault(kind: type[Row], error_type: str, location: Sequence[int | str], message: str) -> str:
    key = ".".join(str(part) for part in location)
    if error_type == "extra_forbidden":
        return f"unknown key {key!r}; remove it or use one of {', '.join(kind.model_fields)}"
    if error_type == "missing":
        return f"{key!r} is missing; add it"
    if error_type == "too_short":
        return f"{key!r} is empty; name at least one"
    return f"{key!r}: {message.removeprefix('Value error, ')}" if key else message.removeprefix("Value error, ")


def _check_order(path: Path, ids: Sequence[str]) -> None:
    for before, after in pairwise(ids):
        if before.casefold() == after.casefold():
            raise CatalogError(f"{path.name}, row {after}: the id stands twice; remove one of the two rows")
        if before.casefold() > after.casefold():
            home = max((other for other in ids if other.casefold() < after.casefold()), default=None, key=str.casefold)
            place = f"after {home}" if home else "to the top"
            raise CatalogError(f"{path.name}, row {after}: rows are sorted by id; move {after} {place}")


def index_names(path: Path, rows: Iterable[Named], short: bool = False) -> dict[str, str]:
    """Map the normal form of every id and alias to its id; with `short`, also the part after the publisher.

    A short name that two rows share answers for neither. An id or alias that two rows share is an error.

    Raises:
        CatalogError: two rows claim one name.
    """
    claimed: dict[str, str] = {}
    rows = tuple(rows)
    for row in rows:
        for name in (row.id, *row.other_names):
            form = normal_form(name)
            owner = claimed.setdefault(form, row.id)
            if owner != row.id:
                raise CatalogError(
                    f"{path.name}, row {row.id}: {name!r} already stands for {owner}; drop it from one of the two"
                )
    return {**_short_names(rows), **claimed} if short else claimed


def _short_names(rows: Iterable[Named]) -> dict[str, str]:
    owners: dict[str, set[str]] = {}
    for row in rows:
        for name in (row.id, *row.other_names):
            owners.setdefault(normal_form(name.rpartition("/")[2]), set()).add(row.id)
    return {form: ids.pop() for form, ids in owners.items() if len(ids) == 1}

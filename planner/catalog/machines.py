"""`machines.toml`: machines that are rented with cards in them, by the names that people know them by."""

import re
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from planner.catalog.strict import Row, Texts, read_rows

MACHINES_FILE = Path(__file__).with_name("machines.toml")


class Machine(Row):
    """One kind of machine; `one_card` are its sizes with one card, any other size is answered with `says`."""

    card: str
    one_card: Texts = ()
    pattern: str
    says: str
    sources: Annotated[Texts, Field(min_length=1)]
    checked: date


@lru_cache(maxsize=1)
def machines() -> tuple[Machine, ...]:
    """All of them, read at first use."""
    return read_rows(MACHINES_FILE, "machine", Machine)


def names_of(card_id: str) -> tuple[str, ...]:
    """The machines that mean this card."""
    return tuple(name for machine in machines() if machine.card == card_id for name in machine.one_card)


def what_is_in(form: str) -> str | None:
    """What a name in normal form is answered with where it is a machine's; None where it is none."""
    spaced = form.replace(".", " ")
    return next((machine.says for machine in machines() if re.search(machine.pattern, spaced)), None)

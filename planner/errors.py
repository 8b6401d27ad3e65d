"""What can go wrong before an answer exists. "Does not fit" and out of memory are answers, never errors.

    FitproofError                  carries an HTTP status as a hint to the outer layer
    ├── InvalidRequestError        one or more fields are wrong; every one is named, with the fix     422
    │   └── NotPlannedError        the run is possible, and no formula follows one of its fields      422
    ├── UnknownModelError          no such model in the catalogue, hub or disk                        404
    ├── UnknownGpuError            no such card in the catalogue                                      404
    ├── UnknownArchitectureError   the formulas do not know this model type                       422
    └── CatalogError               a catalogue row is wrong; says file, row and fix                   500
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One bad field: a dotted path as the caller wrote it, what is wrong, and what to write instead."""

    field: str
    message: str


class FitproofError(Exception):
    """Base of every error a user may meet. `title` is one clear sentence."""

    status = 500
    code = "error"

    def __init__(self, title: str, problems: Sequence[FieldProblem] = ()) -> None:
        super().__init__(title)
        self.title = title
        self.problems = tuple(problems)


class InvalidRequestError(FitproofError):
    """The request cannot be understood; `problems` names every bad field at once."""

    status = 422
    code = "invalid_request"


class NotPlannedError(InvalidRequestError):
    """A trainer runs this, and no formula follows it: a file that asks for it is planned without it, and says so."""


class UnknownModelError(FitproofError):
    """Nothing answers to this model name."""

    status = 404
    code = "unknown_model"


class UnknownGpuError(FitproofError):
    """Nothing answers to this card name."""

    status = 404
    code = "unknown_gpu"


class UnknownArchitectureError(FitproofError):
    """The formulas do not know this model type. `dry_run`: transformers builds it, so that the dry run may know it."""

    status = 422
    code = "unknown_architecture"

    def __init__(self, title: str, problems: Sequence[FieldProblem] = (), *, dry_run: bool = False) -> None:
        """As any other, and whether there is a way on."""
        super().__init__(title, problems)
        self.dry_run = dry_run


class CatalogError(FitproofError):
    """A catalogue file is wrong. Only a developer meets this one."""

    code = "catalog"

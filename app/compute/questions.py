"""What a worker needs to know before it can answer: only the server reads the hub and the database.

A worker that lacks a fact gives up its request with `MissingFactError`; the server finds the fact and asks again. So a
slow hub or database keeps no worker waiting, and no worker knows a token or a password.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.hub.names import RepoName
from app.jobs.order import fingerprint_of
from planner.errors import FieldProblem, FitproofError
from planner.gpu import Gpu
from planner.measurement import Measurement
from planner.request.schema import Request

# ("config", repository), ("file", address), ("measurements", fingerprint), ("own runs",)
Question = tuple[str, ...]
# Where the server asks a worker what it must not work out itself (`app.compute.internal`).
SUBJECT, CARD_RUN = "/internal/subject", "/internal/card-run"
# No fact: the request needs a worker of its own.
ALONE: Question = ("alone",)


class MissingFactError(BaseException):  # no Exception: nothing between a view and the worker's loop may catch it
    """The request cannot be answered without this fact."""

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self.question = question


@dataclass(frozen=True, slots=True)
class Refusal:
    """A FitproofError on its way to another process, where it is raised again."""

    kind: type[FitproofError]
    title: str
    problems: tuple[FieldProblem, ...]

    @classmethod
    def of(cls, error: FitproofError) -> "Refusal":
        """Take `error` apart."""
        return cls(type(error), error.title, error.problems)

    def error(self) -> FitproofError:
        """Put it together again, past constructors that take other arguments."""
        error = self.kind.__new__(self.kind)
        FitproofError.__init__(error, self.title, self.problems)
        return error


@dataclass(slots=True)
class Facts:
    """What the server knows for one request, as the views read it (`app.state.facts`)."""

    probing: bool = False
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    known: dict[Question, Any] = field(default_factory=dict)
    # A worker that reads a model of the caller's own is made for that request and ends with it.
    alone: bool = False

    def measurements(self, request: Request) -> tuple[Measurement, ...]:
        """What was measured for exactly this request."""
        if not self.probing:
            return ()
        return tuple(self._fact(("measurements", fingerprint_of(request))))

    def own_runs(self) -> list[Measurement]:
        """What was measured on this installation's own cards."""
        return list(self._fact(("own runs",))) if self.probing else []

    def config(self, repo: RepoName) -> dict[str, Any]:
        """Return config.json of a repository on the hub.

        Raises:
            HubError: what the hub said instead.
        """
        self.be_alone()
        fact = self._fact(("config", str(repo)))
        if isinstance(fact, Refusal):
            raise fact.error()
        return dict(fact)

    def file(self, address: str) -> str:
        """Return the text of the file at an address.

        Raises:
            RemoteFileError: why it did not come.
        """
        fact = self._fact(("file", address))
        if isinstance(fact, Refusal):
            raise fact.error()
        return str(fact)

    def be_alone(self) -> None:
        """Make sure that nothing of what is read next outlives this request."""
        if not self.alone:
            raise MissingFactError(ALONE)

    def live(self, gpu: Gpu) -> Gpu:
        """Return `gpu` with what was measured on its kind here, or as it is."""
        return replace(gpu, **self.cards.get(gpu.id, {}))

    def _fact(self, question: Question) -> Any:
        if question not in self.known:
            raise MissingFactError(question)
        return self.known[question]

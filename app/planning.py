"""From what a caller wrote to a plan: the one way in, whichever door was used."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from pydantic_core import to_json

from app.hub.errors import HubUnreachableError, ModelNotOnHubError
from app.hub.names import RepoName, without_address
from app.hub.source import ConfigSource
from app.reading import reading
from planner.answer.not_planned import NotPlanned
from planner.answer.plan import Plan, plan
from planner.answer.reach.limits import Limits, limits
from planner.catalog import resolve_gpu
from planner.errors import (
    FieldProblem,
    FitproofError,
    InvalidRequestError,
    UnknownArchitectureError,
    UnknownGpuError,
    UnknownModelError,
)
from planner.gpu import Gpu
from planner.model.model import Model, local_config, resolve_model
from planner.model.resolved_request import settled
from planner.request.library_switches import without_switches
from planner.request.parallel_words import counted_cards
from planner.request.schema import Request, Subject
from planner.serving.request import Inference

_Given = TypeVar("_Given")
_Found = TypeVar("_Found")


class Planning:
    """Reads requests and answers them. `local_files` lets a model be a path on this machine: the CLI only."""

    def __init__(self, hub: ConfigSource, *, local_files: bool = False) -> None:
        self._hub = hub
        self._local_files = local_files
        # A server that has measured cards of its own puts their readings in here.
        self.live_card: Callable[[Gpu], Gpu] = lambda gpu: gpu

    def read(self, data: object, unread: Sequence[FieldProblem] = ()) -> Request:
        """Build a Request from decoded JSON.

        `unread`: fields that are not in `data`, because what was written there could not be read.

        Raises:
            InvalidRequestError: names every bad field at once, unknown models and cards included.
        """
        return self._read(data, Request.parse, "a plan's document", unread)

    def read_inference(self, data: object, unread: Sequence[FieldProblem] = ()) -> Inference:
        """Build an inference question from decoded JSON, as `read` does.

        Raises:
            InvalidRequestError: as `read` does.
        """
        return self._read(data, Inference.parse, "an inference document", unread)

    def _read(
        self, data: object, parse: Callable[[object], _Found], what: str, unread: Sequence[FieldProblem]
    ) -> _Found:
        title, problems = f"What was sent cannot be read as {what}.", list(unread)
        try:
            with reading(what):
                if isinstance(data, Mapping) and isinstance(data.get("model"), str):
                    data = {**data, "model": without_address(data["model"])}
                found = parse(data)
        except InvalidRequestError as error:
            title, problems = error.title, [*problems, *error.problems]
        else:
            if not problems:
                return found
        raise InvalidRequestError(title, _one_per_field([*problems, *self._unknown_names(data)]))

    async def plan(self, request: Request, not_planned: Sequence[NotPlanned] = ()) -> Plan:
        """Answer `request`, with what a trainer's file asks for beside it.

        Raises:
            UnknownModelError, UnknownGpuError, HubError: the name leads nowhere; both are named if both do.
            UnknownArchitectureError: the formulas do not know this kind of model.
        """
        model, gpu = await self.subjects(request)
        return await _aside(model, lambda: plan(request, model=model, gpu=gpu, not_planned=not_planned))

    async def document(self, request: Request) -> bytes:
        """Answer `request` as JSON. The same question about a catalogue model is worked out once.

        Raises:
            FitproofError: as `plan` does.
        """
        model, gpu = await self.subjects(request)
        if row := model.row:
            # Defaults are filled in before it is a cache key: default targets differ from the same ones written out.
            asked = settled(request, model)
            return _explained(lambda: _catalogue_document(asked, row.id, gpu))
        return await _aside(model, lambda: to_json(plan(request, model=model, gpu=gpu).to_dict()))

    async def limits(self, request: Request) -> Limits:
        """Say how far `request` can be stretched.

        Raises:
            FitproofError: as `plan` does.
        """
        model, gpu = await self.subjects(request)
        return await asyncio.to_thread(_explained, lambda: limits(request, model=model, gpu=gpu))

    async def subjects(self, request: Subject) -> tuple[Model, Gpu]:
        """Return the model and the card that `request` is about.

        Raises:
            FitproofError: as `plan` does.
        """
        gpu, gpu_error = _attempt(resolve_gpu, request.gpu)
        model_error: FitproofError | None = None
        try:
            model = await self.model(request.model)
        except FitproofError as error:
            model_error = error
        if gpu_error and model_error:
            raise InvalidRequestError(
                "Neither the model nor the card can be used.", [*model_error.problems, *gpu_error.problems]
            )
        if model_error or gpu_error or gpu is None:
            raise model_error or gpu_error or UnknownGpuError("No such card.")
        return model, self.live_card(gpu)

    async def model(self, model: str | Mapping[str, Any]) -> Model:
        """Find a model in the catalogue, on this machine, on the hub, or in the config given.

        Raises:
            FitproofError: as `plan` does.
        """
        try:
            with reading("a model's config.json", "model"):
                return _explained(lambda: resolve_model(model, local_files=self._local_files))
        except UnknownModelError as error:
            repo = RepoName.parse(model) if isinstance(model, str) else None
            if repo is None:
                raise
            unknown = error
        try:
            config = await self._from_hub(repo)
        except (ModelNotOnHubError, HubUnreachableError) as error:
            # The name may be a misspelt one of the catalogue's; that it is not in there, the error says already.
            error.problems += tuple(problem for problem in unknown.problems if "did you mean" in problem.message)
            raise
        with reading("a model's config.json", "model"):
            return _explained(lambda: resolve_model(config))

    async def config(self, model: str | Mapping[str, Any]) -> Mapping[str, Any]:
        """Read the config.json behind a name that the catalogue lacks, whether or not the formulas know its kind.

        Raises:
            FitproofError: it leads nowhere.
        """
        if isinstance(model, Mapping):
            return model
        if self._local_files and (local := local_config(model)) is not None:
            return local
        if repo := RepoName.parse(model):
            return await self._from_hub(repo)
        raise UnknownModelError(f"No model answers to {model!r}.", [FieldProblem("model", "give a hub id")])

    async def _from_hub(self, repo: RepoName) -> dict[str, Any]:
        return {**without_switches(await self._hub.config(repo)), "_name_or_path": str(repo)}

    def _unknown_names(self, data: object) -> list[FieldProblem]:
        """Complain about names too, in a request that is wrong in other fields. Nothing is fetched for that."""
        if not isinstance(data, Mapping):
            return []
        model, gpu = data.get("model"), data.get("gpu")
        errors = []
        if isinstance(model, str) and model and RepoName.parse(model) is None:
            errors.append(_attempt(lambda name: resolve_model(name, local_files=self._local_files), model)[1])
        if isinstance(gpu, str) and gpu:
            errors.append(_attempt(resolve_gpu, _one_of(gpu))[1])
        return [problem for error in errors if error for problem in error.problems]


def _one_of(gpu: str) -> str:
    """The card of `2x3090`; a count that cannot be is another field's problem."""
    try:
        counted = counted_cards(gpu)
    except ValueError:
        return gpu
    return counted[1] if counted else gpu


@lru_cache(maxsize=512)
def _catalogue_document(request: Request, model_id: str, gpu: Gpu) -> bytes:
    """A plan is a function of these three and nothing else. At 10 kB each the cache stays below 10 MB."""
    return to_json(plan(request, model=resolve_model(model_id), gpu=gpu).to_dict())


def _explained(answer: Callable[[], _Found]) -> _Found:
    try:
        return answer()
    except UnknownArchitectureError as error:
        way_on = "ask for a dry run, or choose another model" if "dry run" in error.title else "choose another model"
        error.problems = error.problems or (FieldProblem("model", way_on),)
        raise


async def _aside(model: Model, answer: Callable[[], _Found]) -> _Found:
    """Answer in a thread where the model is the caller's own: a thousand layers take seconds, and others ask, too."""
    return _explained(answer) if model.row else await asyncio.to_thread(_explained, answer)


def _attempt(find: Callable[[_Given], _Found], given: _Given) -> tuple[_Found | None, FitproofError | None]:
    try:
        return find(given), None
    except FitproofError as error:
        return None, error


def _one_per_field(problems: list[FieldProblem]) -> list[FieldProblem]:
    first: dict[str, FieldProblem] = {}
    for problem in problems:
        first.setdefault(problem.field, problem)
    return list(first.values())

"""Answers the workers' questions from the hub and the database."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from fastapi import FastAPI

from app.compute.questions import Facts, Question, Refusal
from app.db.database import StorageUnavailableError
from app.hub.names import RepoName
from app.jobs.evidence import cuda_measurements, cuda_version, measurements_by_fingerprint
from planner.errors import FitproofError


class WorkerQuestions:
    """What one server knows."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def facts(self) -> Facts:
        """What every request may rest on."""
        service = getattr(self._app.state, "service", None)
        return Facts(probing=service is not None, cards=service.cards.changes if service else {})

    async def answer(self, question: Question, client: str) -> Any:
        """Find a fact for `client`. A database that is down takes no plan with it: then nothing was measured."""
        match question:
            case ("config", name):
                return await self._config(name, client)
            case ("file", address):
                return await _or_refusal(self._app.state.files.text(address, client))
            case ("measurements", fingerprint):
                return await self._read(lambda database: measurements_by_fingerprint(database, fingerprint))
            case ("own runs",):
                return await self._read(cuda_measurements)
            case ("own runs' version",):
                return await self._read(cuda_version)
        raise ValueError(question)

    async def _config(self, name: str, client: str) -> Any:
        repo = RepoName.parse(name)
        assert repo is not None  # noqa: S101 (a worker has parsed it)
        return await _or_refusal(self._app.state.hub.config(repo, client))

    async def _read(self, read: Any) -> Any:
        if not hasattr(self._app.state, "service"):
            return []
        try:
            return await asyncio.to_thread(read, self._app.state.service.database)
        except StorageUnavailableError:
            return []


async def _or_refusal(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except FitproofError as error:
        return Refusal.of(error)

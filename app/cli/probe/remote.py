"""A probe on a server: queue it, follow its events through reconnects, bring the measurement home."""

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
from rich.console import Console
from rich.progress import Progress

from app.cli.probe.measuring import COLUMNS, ProbeFailedError, moved_by
from planner.errors import FieldProblem, FitproofError, InvalidRequestError
from planner.request.schema import Request
from planner.units import parse_size_bytes

# A server that restarts is back within this time; its probes go on.
_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 2.0
_FINAL = {"succeeded", "failed", "cancelled"}


class ServerProblemError(FitproofError):
    """The server cannot be reached, or answered with something that is no answer."""

    code = "server"


class _BusyError(Exception):
    """Too many follow probes there."""


class RemoteProbe:
    """One probe on the server at `url`. The client may be given, so that tests speak to an app in memory."""

    def __init__(self, url: str, token: str | None, client: httpx.Client | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            problem = FieldProblem("--server", f"must start with http:// or https://; got {url}")
            raise InvalidRequestError("The probe cannot be sent.", [problem])
        self._client = client or httpx.Client(timeout=httpx.Timeout(30.0, connect=5.0))
        self._client.base_url = httpx.URL(url)
        if token:
            self._client.headers["Authorization"] = f"Bearer {token}"

    def of(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Queue `document`, wait with a live bar on stderr, and return the finished probe's resource.

        Raises:
            InvalidRequestError: the server refuses the document, names every bad field.
            ProbeFailedError: it failed or was cancelled; nothing is known about the run.
            ServerProblemError: the server does not answer.
        """
        probe = self._queue(document)
        with Progress(*COLUMNS, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(probe["state"], total=1.0, read="")
            for event in self._events(probe["id"]):
                if "stage" in event or "phase" in event:
                    bar.update(task, **moved_by(event))
                elif "state" in event:
                    bar.update(task, description=event["state"])
        final = self._ask("GET", f"/api/v1/probes/{probe['id']}")
        if final["state"] != "succeeded":
            raise ProbeFailedError(f"The probe {final['state']}: {final['error'] or 'somebody asked for its end'}")
        return final

    def _queue(self, document: Mapping[str, Any]) -> dict[str, Any]:
        # The key makes a repeated send harmless: the server answers with the probe it has made.
        key = {"Idempotency-Key": secrets.token_hex(16)}
        return self._ask("POST", "/api/v1/probes", json=dict(document), headers=key)

    def _events(self, probe_id: str) -> Iterator[dict[str, Any]]:
        """Every event once, through as many connections as it takes."""
        last, silent_since = 0, time.monotonic()
        while True:
            try:
                for seq, event in self._stream(probe_id, last):
                    last, silent_since = seq, time.monotonic()
                    yield event
                    if event.get("state") in _FINAL:
                        return
            except _BusyError:
                # As many others watch as the server lets: look now and then instead.
                if self._ask("GET", f"/api/v1/probes/{probe_id}")["state"] in _FINAL:
                    return
                time.sleep(_LOOK_SECONDS)
            except (httpx.TransportError, ServerProblemError) as error:
                if time.monotonic() - silent_since > _PATIENCE_SECONDS:
                    raise error if isinstance(error, ServerProblemError) else _unreachable(error) from error
            time.sleep(0.5)

    def _stream(self, probe_id: str, last: int) -> Iterator[tuple[int, dict[str, Any]]]:
        url, headers = f"/api/v1/probes/{probe_id}/events", {"Last-Event-ID": str(last)}
        with self._client.stream("GET", url, headers=headers, timeout=30.0) as stream:
            if stream.status_code == httpx.codes.TOO_MANY_REQUESTS:
                raise _BusyError
            if stream.status_code != httpx.codes.OK:
                stream.read()
                raise _refusal(stream)
            for line in stream.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    last = int(value)
                elif name == "data":
                    yield last, json.loads(value)

    def _ask(self, method: str, path: str, **rest: Any) -> dict[str, Any]:
        ends_at = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                answer = self._client.request(method, path, **rest)
            except httpx.ConnectError as error:
                raise _unreachable(error) from error
            except httpx.TransportError as error:
                if time.monotonic() > ends_at:
                    raise _unreachable(error) from error
                time.sleep(0.5)
                continue
            if answer.is_success:
                document: dict[str, Any] = answer.json()
                return document
            raise _refusal(answer)


def remote_document(request: Request, instrument: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write the document a server takes: the request, and those options that it leaves to the caller.

    Raises:
        InvalidRequestError: an option that only a probe on this machine has, or a size that is none.
    """
    problems = [
        FieldProblem(f"--{name}", "is the server's to decide; drop it")
        for name in ("routing", "deadline", "find-smallest", "ranks")
        if options.get(name) is not None
    ]
    if problems:
        raise InvalidRequestError("The probe cannot be sent.", problems)
    own: dict[str, Any] = {"instrument": instrument, "weights": options.get("weights")}
    if (limit := options.get("memory-limit")) is not None:
        try:
            own["memory_limit_bytes"] = parse_size_bytes(limit)
        except ValueError as error:
            problem = FieldProblem("--memory-limit", str(error))
            raise InvalidRequestError("The probe cannot be sent.", [problem]) from None
    document = request.model_dump(mode="json", exclude_none=True)
    return document | {name: value for name, value in own.items() if value is not None}


def _refusal(answer: httpx.Response) -> FitproofError:
    try:
        document = answer.json()
        title, problems = document["title"], [FieldProblem(e["field"], e["message"]) for e in document["errors"]]
    except (ValueError, KeyError, TypeError):
        return ServerProblemError(f"The server answered HTTP {answer.status_code}; is it a Fitproof server?")
    refused = ServerProblemError if answer.is_server_error else InvalidRequestError
    return refused(title, problems)


def _unreachable(error: Exception) -> ServerProblemError:
    return ServerProblemError(f"The server does not answer ({type(error).__name__}).")

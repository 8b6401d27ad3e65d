"""An existing Ray cluster, through its Jobs REST API alone. There is no ray package in this process.

Ray runs one placed attempt; the queue, the retries and the truth stay with the app. What that avoids, and the rest of
Ray 2.60's sharp edges, is noted where each is met. API: https://docs.ray.io/en/latest/cluster/running-applications/
job-submission/rest.html
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from app.engines.base import EngineDownError, EngineRefusedError, Job, LogPage, LogsLostError, Status, Worker
from app.engines.logfile import PAGE_BYTES, page_of
from app.engines.ray_entrypoint import entrypoint
from app.engines.ray_nodes import cluster_workers, resources_of

NAME = "ray"
# What the probe itself answered. Every other error type is the cluster's trouble.
_OWN_FAILURE = "JOB_ENTRYPOINT_COMMAND_ERROR"
_PATIENCE = httpx.Timeout(10.0, connect=3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySetup:
    """Where the cluster is, and how its nodes start the probe; the interpreter there need not have ray."""

    url: str
    token: str | None = None
    program: Sequence[str] = ("python3", "-m", "planner.probe")
    cpu_slots: int = 0
    card_of: Callable[[str], str | None] = lambda _name: None


class RayEngine:
    """Jobs over REST. The client may be given, so that tests speak to recorded answers."""

    name = NAME
    poll_seconds = 1.0

    def __init__(self, setup: RaySetup, client: httpx.AsyncClient | None = None) -> None:
        headers = {"Authorization": f"Bearer {setup.token}"} if setup.token else {}
        self.setup = setup
        self.changed = asyncio.Event()
        self._client = client or httpx.AsyncClient(timeout=_PATIENCE)
        self._client.base_url = httpx.URL(setup.url)
        self._client.headers.update(headers)

    async def capacity(self) -> tuple[Worker, ...]:
        """GPU types of the living nodes. Totals, not free cards: what other tenants hold shows as a pending job."""
        answer = await self._ask("GET", "/api/v0/nodes", params={"limit": 1000, "detail": 1})
        if answer.status_code != httpx.codes.OK:
            raise EngineDownError(_complaint(answer))
        try:
            nodes = answer.json()["data"]["result"]["result"]
            return cluster_workers(nodes, self.setup.cpu_slots, self.setup.card_of)
        except (ValueError, KeyError, TypeError) as error:
            msg = "the cluster's list of nodes cannot be read; is this a Ray dashboard?"
            raise EngineDownError(msg) from error

    async def submit(self, job: Job) -> None:
        """Start `job` under its ref, which is also Ray's submission id."""
        body = {
            "submission_id": job.ref,
            "entrypoint": entrypoint(self.setup.program, job),
            "metadata": {"started_by": "fitproof"},
            **resources_of(job.worker, job.kind),
        }
        answer = await self._ask("POST", "/api/jobs/", json=body)
        if answer.status_code == httpx.codes.OK or "already exists" in answer.text:
            # A ref that exists is answered with HTTP 500 and a traceback.
            return
        if answer.is_client_error:
            raise EngineRefusedError(_complaint(answer))
        raise EngineDownError(_complaint(answer))

    async def status(self, ref: str) -> Status:
        """Ray's word on `ref`. A dead node or supervisor makes the attempt lost, not failed."""
        answer = await self._ask("GET", f"/api/jobs/{ref}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return Status("absent", "the cluster no longer knows this job; its head was restarted")
        if answer.status_code != httpx.codes.OK:
            raise EngineDownError(_complaint(answer))
        return _status_of(_object(answer))

    async def logs(self, ref: str, offset: int) -> LogPage:
        """Whole lines from `offset` on. Ray sends the whole file each time; its own lines are no JSON and fall away."""
        answer = await self._ask("GET", f"/api/jobs/{ref}/logs")
        if answer.status_code != httpx.codes.OK:
            # The log lies on the node's disk and goes with it: HTTP 500 from then on.
            raise LogsLostError(_complaint(answer))
        data = str(_object(answer).get("logs") or "").encode()
        return page_of(data[offset : offset + PAGE_BYTES], offset, ended=False)

    async def cancel(self, ref: str) -> None:
        """Ask Ray to stop the job. While it is pending, Ray does so only once it gets its card (ray#58353)."""
        await self._ask("POST", f"/api/jobs/{ref}/stop")

    async def forget(self, ref: str) -> None:
        """Delete the record of a finished job. One that still runs is refused with HTTP 500 and stays."""
        await self._ask("DELETE", f"/api/jobs/{ref}")

    async def leftovers(self) -> Sequence[str]:
        """Nothing lies on this machine; a cluster may serve others, too, so only its known jobs are deleted."""
        return ()

    async def release(self) -> None:
        """Nothing to end: jobs run on, and the next dispatcher adopts them."""

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()

    async def _ask(self, method: str, path: str, **rest: Any) -> httpx.Response:
        try:
            answer = await self._client.request(method, path, **rest)
        except httpx.HTTPError as error:
            msg = f"the Ray cluster does not answer ({type(error).__name__})"
            raise EngineDownError(msg) from error
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            msg = "the Ray cluster wants a token; set FITPROOF_RAY_TOKEN"
            raise EngineDownError(msg)
        if answer.status_code == httpx.codes.FORBIDDEN:
            msg = "the Ray cluster refuses our token; check FITPROOF_RAY_TOKEN"
            raise EngineDownError(msg)
        return answer


def _status_of(job: dict[str, Any]) -> Status:
    state = job.get("status")
    if state == "FAILED":
        kind = job.get("error_type") or "UNKNOWN"
        message = str(job.get("message") or "").strip().splitlines()
        if kind == _OWN_FAILURE:
            exit_code = job.get("driver_exit_code")
            return Status("failed", f"the probe ended with exit code {exit_code}", exit_code)
        return Status("lost", f"the cluster lost it: {kind} {message[0][:200] if message else ''}".strip())
    if state == "PENDING":
        return Status("pending", "waiting for the cluster")
    if state == "RUNNING":
        return Status("running")
    if state == "SUCCEEDED":
        return Status("succeeded")
    if state == "STOPPED":
        return Status("stopped", "stopped")
    msg = f"the cluster reports a job state we do not know: {state!r}"
    raise EngineDownError(msg)


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        msg = "the cluster's answer cannot be read; is this a Ray dashboard?"
        raise EngineDownError(msg)
    return document


def _complaint(answer: httpx.Response) -> str:
    last = answer.text.strip().splitlines()[-1:] or [""]
    return f"the Ray cluster answered HTTP {answer.status_code}: {last[0][:200]}"

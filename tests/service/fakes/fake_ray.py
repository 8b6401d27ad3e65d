"""Ray 2.60.0's Jobs REST API as it answered a real cluster of two nodes; recorded 2026-11-23, replayed in memory."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

# GET /api/v0/nodes?detail=1, shortened to what a node says of itself.
NODES = [
    {
        "node_id": "713900c0b6206418ecc51924fabffae7b892e2f148120f910a4187dc",
        "node_ip": "127.0.0.3",
        "is_head_node": False,
        "state": "ALIVE",
        "state_message": None,
        "resources_total": {
            "memory": 16457295053.0,
            "object_store_memory": 7053126451.0,
            "CPU": 1.0,
            "accelerator_type:A100": 1.0,
            "node:127.0.0.3": 1.0,
            "GPU": 1.0,
        },
        "labels": {"ray.io/node-id": "713900c0b6206418ecc51924fabffae7b892e2f148120f910a4187dc"},
    },
    {
        "node_id": "7b9a3b1f16bb252cce549b6e6472fc604b66a6dfb33916fb334865dd",
        "node_ip": "127.0.0.2",
        "is_head_node": True,
        "state": "ALIVE",
        "resources_total": {"node:__internal_head__": 1.0, "CPU": 1.0, "memory": 16678121063.0},
        "labels": {},
    },
    {
        "node_id": "ceb32872bb5e27c1c1bf74aa2069a57d3066c0b08967ac921a50d227",
        "node_ip": "127.0.0.4",
        "is_head_node": False,
        "state": "DEAD",
        "resources_total": {"GPU": 1.0, "accelerator_type:A100": 1.0},
        "labels": {},
    },
]
_TRACE = (
    "Traceback (most recent call last):\n"
    '  File "/ray/dashboard/modules/job/job_head.py", line 419, in submit_job\n'
    "RuntimeError: Request failed with status code 500: Job with submission_id {ref} already exists. "
    "Please use a different submission_id.\n"
)
_RUNNING = (
    "Traceback (most recent call last):\n"
    "RuntimeError: Attempted to delete job '{ref}', but it is in a non-terminal state RUNNING.\n.\n"
)


@dataclass
class FakeRay:
    """A cluster's front door. `trouble` makes it answer like a cluster with that trouble."""

    token: str = "right"
    nodes: list[dict[str, Any]] = field(default_factory=lambda: [dict(node) for node in NODES])
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    trouble: str = ""

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.method, request.url.path))
        if self.trouble == "unreachable":
            msg = "All connection attempts failed"
            raise httpx.ConnectError(msg)
        if self.trouble:
            return httpx.Response(500, text=self.trouble)
        given = request.headers.get("authorization")
        if given is None:
            return httpx.Response(401, text="Unauthorized: Missing authentication token")
        if given != f"Bearer {self.token}":
            return httpx.Response(403, text="Forbidden: Invalid authentication token")
        if request.url.path == "/api/v0/nodes":
            return httpx.Response(200, json={"result": True, "data": {"result": {"total": 3, "result": self.nodes}}})
        if request.method == "POST" and request.url.path == "/api/jobs/":
            return self.submit(json.loads(request.content))
        return self.on_job(request.method, *request.url.path.removeprefix("/api/jobs/").split("/"))

    def submit(self, body: dict[str, Any]) -> httpx.Response:
        ref = body["submission_id"]
        if ref in self.jobs:
            return httpx.Response(500, text=_TRACE.format(ref=ref))
        if set(body) - {
            "submission_id", "entrypoint", "entrypoint_num_gpus", "entrypoint_num_cpus", "entrypoint_resources",
            "entrypoint_label_selector", "metadata", "runtime_env",
        }:  # fmt: skip
            return httpx.Response(400, text="TypeError: JobSubmitRequest.__init__() got an unexpected keyword")
        self.jobs[ref] = {"submission_id": ref, "status": "PENDING", "message": "", "error_type": None, "body": body}
        return httpx.Response(200, json={"job_id": ref, "submission_id": ref})

    def on_job(self, method: str, ref: str, act: str = "") -> httpx.Response:
        job = self.jobs.get(ref)
        if job is None:
            return httpx.Response(404, text=f"Job {ref} does not exist")
        if act == "logs":
            log = self.logs.get(ref)
            gone = "RuntimeError: Cannot connect to host 127.0.0.3:52363"
            return httpx.Response(500, text=gone) if log is None else httpx.Response(200, json={"logs": log})
        if act == "stop":
            if job["status"] == "RUNNING":
                job |= {"status": "STOPPED", "message": "Job was intentionally stopped."}
            return httpx.Response(200, json={"stopped": True})
        if method == "DELETE":
            if job["status"] in {"PENDING", "RUNNING"}:
                return httpx.Response(500, text=_RUNNING.format(ref=ref))
            del self.jobs[ref]
            return httpx.Response(200, json={"deleted": True})
        return httpx.Response(200, json={"driver_exit_code": None, **job})

    def end(self, ref: str, status: str, error_type: str | None = None, exit_code: int | None = None) -> None:
        message = f"Job entrypoint command failed with exit code {exit_code}, last available logs (truncated):\nnoise"
        self.jobs[ref] |= {"status": status, "error_type": error_type, "message": message}
        self.jobs[ref]["driver_exit_code"] = exit_code

"""What the Ray engine makes of the answers that Ray gave."""

import asyncio
import json
import shlex
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import pytest

from app.engines.base import EngineDownError, EngineRefusedError, Job, LogsLostError, Status
from app.engines.ray import RayEngine, RaySetup
from app.engines.ray_entrypoint import MOST_LINE_BYTES, entrypoint
from app.engines.ray_nodes import CARD_LABEL
from app.jobs.dispatch.progress import read_progress
from app.jobs.dispatch.scheduling import card_named
from tests.service.fakes.fake_ray import FakeRay

_Value = TypeVar("_Value")


@pytest.fixture
def ray() -> FakeRay:
    return FakeRay()


def engine_on(ray: FakeRay, token: str | None = "right", cpu_slots: int = 0) -> RayEngine:
    setup = RaySetup(url="http://head:8265", token=token, cpu_slots=cpu_slots, card_of=card_named)
    return RayEngine(setup, ray.client())


def job(**changes: object) -> Job:
    given = {"ref": "p-1", "worker": "ray:A100", "kind": "gpu", "arguments": ("--on", "cuda"), "document": '{"a": 1}'}
    return Job(**{**given, "timeout_seconds": 70, **changes})  # type: ignore[arg-type]  # a test's own spelling


def do(act: Awaitable[_Value]) -> _Value:
    async def main() -> _Value:
        return await act

    return asyncio.run(main())


def test_living_nodes_become_workers_by_gpu_type(ray: FakeRay) -> None:
    (worker,) = do(engine_on(ray).capacity())
    assert (worker.id, worker.slots, worker.kind, worker.card) == ("ray:A100", 1, "gpu", None)
    ray.nodes[2]["state"] = "ALIVE"
    ray.nodes[2]["labels"] = {CARD_LABEL: "a100-sxm-80gb"}
    ray.nodes[1]["resources_total"] |= {"GPU": 8.0, "accelerator_type:H100": 1.0}
    workers = do(engine_on(ray, cpu_slots=4).capacity())
    assert [(w.id, w.slots, w.card) for w in workers] == [
        ("ray:A100", 1, None),
        ("ray:A100/a100-sxm-80gb", 1, "a100-sxm-80gb"),
        ("ray:H100", 8, "h100-sxm-80gb"),
        ("ray:cpu", 2, None),
    ]


def test_a_job_asks_for_one_card_of_its_type_and_carries_no_secret(ray: FakeRay) -> None:
    do(engine_on(ray).submit(job()))
    body = ray.jobs["p-1"]["body"]
    assert body["entrypoint_num_gpus"] == 1
    assert body["entrypoint_resources"] == {"accelerator_type:A100": 0.001}
    assert "runtime_env" not in body
    assert "right" not in json.dumps(body)
    do(engine_on(ray).submit(job(ref="p-2", worker="ray:A100/a100-sxm-80gb")))
    assert ray.jobs["p-2"]["body"]["entrypoint_label_selector"] == {CARD_LABEL: "a100-sxm-80gb"}
    do(engine_on(ray).submit(job(ref="p-3", worker="ray:cpu", kind="cpu")))
    assert ray.jobs["p-3"]["body"]["entrypoint_num_cpus"] == 1


def test_submitting_a_ref_again_changes_nothing(ray: FakeRay) -> None:
    do(engine_on(ray).submit(job()))
    do(engine_on(ray).submit(job(document='{"a": 2}')))
    assert '{"a": 1}' in ray.jobs["p-1"]["body"]["entrypoint"]


@pytest.mark.parametrize(
    ("status", "error_type", "expected"),
    [
        ("PENDING", None, "pending"),
        ("RUNNING", None, "running"),
        ("SUCCEEDED", None, "succeeded"),
        ("STOPPED", None, "stopped"),
        ("FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR", "failed"),
        ("FAILED", "JOB_SUPERVISOR_ACTOR_DIED", "lost"),
        ("FAILED", "JOB_SUPERVISOR_ACTOR_START_TIMEOUT", "lost"),
        ("FAILED", None, "lost"),
    ],
)
def test_ray_states_are_told_apart(ray: FakeRay, status: str, error_type: str | None, expected: str) -> None:
    do(engine_on(ray).submit(job()))
    ray.end("p-1", status, error_type, exit_code=1)
    assert do(engine_on(ray).status("p-1")).phase == expected


def test_the_probes_own_exit_code_is_passed_on_without_rays_copy_of_the_log(ray: FakeRay) -> None:
    do(engine_on(ray).submit(job()))
    ray.end("p-1", "FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR", exit_code=3)
    assert do(engine_on(ray).status("p-1")) == Status("failed", "the probe ended with exit code 3", 3)


def test_a_job_that_the_head_forgot_is_absent(ray: FakeRay) -> None:
    assert do(engine_on(ray).status("p-1")).phase == "absent"


def test_logs_go_on_from_an_offset_in_bytes_and_hide_nothing_of_ours(ray: FakeRay) -> None:
    do(engine_on(ray).submit(job()))
    ray.logs["p-1"] = (
        "2026-11-23 20:57:32,940\tINFO job_manager.py:581 -- Runtime env is setting up.\n"
        "Running entrypoint for job p-1: exec env <<'FITPROOF_REQUEST'\n"
        '{"model": "x", "gpu": "y"}\nFITPROOF_REQUEST\n\n{"stage": "löad", "index": 0}\nhalf a li'
    )
    page = do(engine_on(ray).logs("p-1", 0))
    assert [event["stage"] for event in read_progress(page.lines).events] == ["löad"]
    assert ray.logs["p-1"].encode()[page.next_offset :] == b"half a li"
    ray.logs["p-1"] += "ne\n"
    assert do(engine_on(ray).logs("p-1", page.next_offset)).lines == ("half a line",)


def test_a_log_that_went_with_its_node_is_lost(ray: FakeRay) -> None:
    do(engine_on(ray).submit(job()))
    with pytest.raises(LogsLostError):
        do(engine_on(ray).logs("p-1", 0))


def test_a_job_is_stopped_and_forgotten(ray: FakeRay) -> None:
    do(engine_on(ray).submit(job()))
    do(engine_on(ray).cancel("p-1"))
    assert ray.jobs["p-1"]["status"] == "PENDING"
    ray.jobs["p-1"]["status"] = "RUNNING"
    do(engine_on(ray).forget("p-1"))
    do(engine_on(ray).cancel("p-1"))
    assert do(engine_on(ray).status("p-1")).phase == "stopped"
    do(engine_on(ray).forget("p-1"))
    assert ray.jobs == {}


@pytest.mark.parametrize("trouble", ["unreachable", "Internal Server Error"])
def test_a_cluster_in_trouble_changes_no_state(ray: FakeRay, trouble: str) -> None:
    ray.trouble = trouble
    for act in (
        lambda e: e.capacity(),
        lambda e: e.submit(job()),
        lambda e: e.status("p-1"),
    ):
        with pytest.raises(EngineDownError):
            do(act(engine_on(ray)))


@pytest.mark.parametrize(("token", "words"), [(None, "wants a token"), ("wrong", "refuses our token")])
def test_a_closed_door_says_which_setting_opens_it(ray: FakeRay, token: str | None, words: str) -> None:
    with pytest.raises(EngineDownError, match=words) as caught:
        do(engine_on(ray, token).capacity())
    assert "FITPROOF_RAY_TOKEN" in str(caught.value)
    assert "wrong" not in str(caught.value)


def test_an_address_that_is_no_cluster_is_told(ray: FakeRay) -> None:
    ray.nodes = None  # type: ignore[assignment]  # what another program would answer
    with pytest.raises(EngineDownError, match="Ray dashboard"):
        do(engine_on(ray).capacity())


def test_the_entrypoint_runs_the_program_with_its_request_and_without_tokens(tmp_path: Path) -> None:
    show = "import sys, os; print(sys.argv[1:], sys.stdin.read(), [n for n in os.environ if 'TOKEN' in n])"
    document = json.dumps({"model": 'it\'s $HOME `x` \\ "quoted"', "long": "y" * 9000})
    line = entrypoint((sys.executable, "-c", show), job(document=document))
    environment = {"PATH": "/usr/bin:/bin", "RAY_AUTH_TOKEN": "secret", "HF_TOKEN": "hf"}
    command = ["/bin/sh", "-c", line]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout == f"['--on', 'cuda'] {document}\n []\n"


def test_the_deadline_holds_on_the_node(tmp_path: Path) -> None:
    line = entrypoint((sys.executable, "-c", "import time; time.sleep(60)"), job(timeout_seconds=1))
    run = subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, timeout=20, capture_output=True, check=False)
    assert run.returncode == 124
    assert shlex.split(line)[0] == "exec"


def test_a_request_too_long_for_a_command_line_is_refused(ray: FakeRay) -> None:
    with pytest.raises(EngineRefusedError, match="by its id"):
        do(engine_on(ray).submit(job(document="x" * MOST_LINE_BYTES)))


def test_the_nodes_own_hub_token_stays_only_where_weights_come_from_the_hub() -> None:
    assert "-u HF_TOKEN" in entrypoint(("python3",), job())
    assert "-u HF_TOKEN" not in entrypoint(("python3",), job(needs_hub=True))
    assert "-u RAY_AUTH_TOKEN" in entrypoint(("python3",), job(needs_hub=True))

"""The Ray engine against Ray itself. `make test-ray` runs this; it needs ray[default] in an environment of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.cluster import Cluster, running_cluster
from tests.service.fakes.fake_probe import CRASH, HANG, QUICK, SLOW, SLOW_STEPS
from tests.service.harness import Web, is_running, journal, wait_until

LONG_SECONDS = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    yield from running_cluster()


@pytest.fixture
def access(cluster: Cluster) -> dict[str, str]:
    return {"url": cluster.url, "token": cluster.token}


@pytest.fixture
def web(tmp_path: Path, access: dict[str, str]) -> Iterator[Web]:
    with Web(tmp_path, ray=access) as server:
        yield server


def test_a_probe_runs_on_the_cluster_with_live_progress_and_without_its_token(web: Web, cluster: Cluster) -> None:
    probe = web.submit(QUICK)
    events = web.events(probe)
    final = web.get(probe)
    assert (final["state"], final["attempt"], final["worker"]) == ("succeeded", 1, "ray:A100")
    assert [e["data"]["stage"] for e in events if e["event"] == "progress"] == ["load", "backward"]
    assert journal(web.folder, "secrets", 1) == [0]
    assert cluster.token not in str(cluster.client.get(f"/api/jobs/{probe}-1").json())


def test_a_failing_probe_is_not_tried_again(web: Web) -> None:
    failure = web.wait_for(web.submit(CRASH), seconds=LONG_SECONDS)
    assert (failure["state"], failure["attempt"]) == ("failed", 1)
    assert failure["error"].endswith("The probe failed: RuntimeError: the machinery broke")


def test_running_and_queued_probes_are_cancelled(web: Web) -> None:
    running = [web.submit(HANG, mark=mark) for mark in (1, 2)]
    queued = web.submit(QUICK, mark=3)
    for probe in running:
        web.wait_for(probe, {"running"}, LONG_SECONDS)
    for probe in [queued, *running]:
        web.client.delete(f"/api/v1/probes/{probe}")
    assert web.get(queued)["state"] == "cancelled"
    assert [web.wait_for(probe, seconds=LONG_SECONDS)["state"] for probe in running] == ["cancelled"] * 2
    assert journal(web.folder, "start", 3) == []


def test_a_killed_server_adopts_its_running_probe(tmp_path: Path, access: dict[str, str]) -> None:
    with Web(tmp_path, ray=access) as first:
        probe = first.submit(SLOW)
        first.wait_for(probe, {"running"}, LONG_SECONDS)
        wait_until(lambda: bool(journal(tmp_path, "start", 1)), 10)
        first.kill()
    with Web(tmp_path, ray=access) as second:
        final = second.wait_for(probe, seconds=LONG_SECONDS)
        stages = [e["data"]["index"] for e in second.events(probe) if e["data"].get("stage") == "step"]
    assert (final["state"], final["attempt"]) == ("succeeded", 1)
    assert stages == list(range(SLOW_STEPS))
    assert len(journal(tmp_path, "start", 1)) == 1


def test_a_probe_is_run_again_elsewhere_when_its_node_dies(web: Web, cluster: Cluster) -> None:
    probe = web.submit(HANG)
    web.wait_for(probe, {"running"}, LONG_SECONDS)
    wait_until(lambda: bool(journal(web.folder, "start", 1)), 10)
    (first,) = journal(web.folder, "start", 1)
    node = cluster.client.get(f"/api/jobs/{probe}-1").json()["driver_agent_http_address"]
    index = 0 if "127.0.0.3" in node else 1
    cluster.kill_raylet(index)
    wait_until(lambda: not is_running(first), 15)
    wait_until(lambda: len(journal(web.folder, "start", 1)) == 2, LONG_SECONDS, lambda: str(web.get(probe)))
    assert web.get(probe)["attempt"] == 2
    web.client.delete(f"/api/v1/probes/{probe}")
    assert web.wait_for(probe, seconds=LONG_SECONDS)["state"] == "cancelled"
    cluster.kill(f"node{index}")
    cluster.start_node(index)


def test_probes_survive_a_killed_head(web: Web, cluster: Cluster) -> None:
    running, queued = web.submit(SLOW, mark=1), [web.submit(QUICK, mark=mark) for mark in (2, 3)]
    web.wait_for(running, {"running"}, LONG_SECONDS)
    for part in ("head", "node0", "node1"):
        cluster.kill(part)
    assert web.client.post("/api/v1/plans", json={"model": "Qwen/Qwen2.5-0.5B", "gpu": "4090"}).status_code == 200
    wait_until(lambda: any(w["problem"] for w in web.client.get("/api/v1/workers").json()["items"]), 30)
    cluster.start()
    finals = [web.wait_for(probe, seconds=2 * LONG_SECONDS) for probe in (running, *queued)]
    assert [final["state"] for final in finals] == ["succeeded"] * 3
    assert finals[0]["attempt"] == 2
    assert len(web.client.get("/api/v1/evidence").text.splitlines()) == 3

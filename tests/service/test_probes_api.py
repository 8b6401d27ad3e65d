"""Probes through HTTP: what is taken, what is refused and why, and how one is watched."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.jobs.streaming import Streams
from app.main import create_app
from app.settings import Settings
from tests.app.serving import served
from tests.service.desk import printed
from tests.service.fakes.fake_engine import CPU, H100, FakeEngine
from tests.service.forking import forked_template
from tests.service.harness import document, wait_until

PROBES = "/api/v1/probes"


@contextmanager
def serving(folder: Path, engine: FakeEngine, **settings: Any) -> Iterator[httpx.Client]:
    given = Settings(data_dir=folder, hub_offline=True, local_access=True, **settings)
    with served(create_app(given, [engine], forked_template)) as client:
        client.timeout = httpx.Timeout(60)
        if engine.workers and not engine.down:
            wait_until(lambda: bool(client.get("/api/v1/workers").json()["items"]), 10)
        yield client


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(answer=printed(3))


@pytest.fixture
def client(tmp_path: Path, engine: FakeEngine) -> Iterator[httpx.Client]:
    with serving(tmp_path, engine) as client:
        yield client


def finished(client: httpx.Client, probe: str) -> dict[str, Any]:
    final = {"succeeded", "failed", "cancelled"}
    wait_until(lambda: client.get(f"{PROBES}/{probe}").json()["state"] in final, 10)
    document: dict[str, Any] = client.get(f"{PROBES}/{probe}").json()
    return document


def fields(answer: httpx.Response) -> set[str]:
    return {error["field"] for error in answer.json()["errors"]}


def test_an_order_is_accepted_with_its_place_and_a_prediction(client: httpx.Client) -> None:
    answer = client.post(PROBES, json=document())
    assert answer.status_code == 202
    probe = answer.json()
    assert answer.headers["location"] == f"{PROBES}/{probe['id']}"
    assert (probe["state"], probe["measurement"], probe["error"]) == ("queued", None, None)
    assert probe["prediction"]["peak_allocated_bytes"] > 0
    final = finished(client, probe["id"])
    assert final["measurement"]["peak_allocated_bytes"] == 5 << 30
    assert {phase["name"] for phase in final["comparison"]} == {"backward"}
    assert final["comparison"][0]["predicted_bytes"] > 0


def test_every_bad_field_of_both_parts_is_named_at_once(client: httpx.Client) -> None:
    body = document() | {"instrument": "guess", "memory_limit_bytes": -1, "weights": "", "colour": "red"}
    body["training"] = {"max_length": -5}
    answer = client.post(PROBES, json=body)
    assert answer.status_code == 422
    assert fields(answer) == {"instrument", "memory_limit_bytes", "weights", "colour", "training.max_length"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 422),
        (b'{"model": "no/such-model", "gpu": "rtx-4090"}', 424),
        (b'{"model": "Qwen/Qwen2.5-0.5B", "gpu": "no such card"}', 404),
        (b'{"model": "../../etc/passwd", "gpu": "rtx-4090"}', 404),
    ],
)
def test_what_cannot_be_understood_is_refused_and_not_kept(client: httpx.Client, body: bytes, status: int) -> None:
    answer = client.post(PROBES, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert client.get(PROBES).json()["items"] == []


def test_the_same_key_and_document_make_one_probe_and_another_document_is_refused(client: httpx.Client) -> None:
    key = {"Idempotency-Key": "once"}
    first = client.post(PROBES, json=document(), headers=key)
    again = client.post(PROBES, json=document(), headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    other = client.post(PROBES, json=document(mark=2), headers=key)
    assert (other.status_code, fields(other)) == (422, {"Idempotency-Key"})
    assert len(client.get(PROBES).json()["items"]) == 1


def test_a_repeated_order_is_answered_though_its_worker_is_gone(tmp_path: Path) -> None:
    key, engine = {"Idempotency-Key": "once"}, FakeEngine()
    with serving(tmp_path, engine) as client:
        first = client.post(PROBES, json=document(), headers=key).json()["id"]
        engine.workers = ()
        wait_until(lambda: not client.get("/api/v1/workers").json()["items"], 10)
        assert client.post(PROBES, json=document(), headers=key).json()["id"] == first
        assert client.post(PROBES, json=document()).status_code == 409


def test_a_full_queue_answers_429_and_takes_more_when_there_is_room(tmp_path: Path) -> None:
    engine = FakeEngine()
    with serving(tmp_path, engine, queue_limit=2) as client:
        running = client.post(PROBES, json=document()).json()["id"]
        wait_until(lambda: client.get(f"{PROBES}/{running}").json()["state"] == "running", 10)
        waiting = [client.post(PROBES, json=document()).json()["id"] for _ in range(2)]
        refused = client.post(PROBES, json=document())
        assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
        assert "FITPROOF_QUEUE_LIMIT" in refused.json()["title"]
        assert int(refused.headers["retry-after"]) > 0
        client.delete(f"{PROBES}/{waiting[0]}")
        assert client.post(PROBES, json=document()).status_code == 202


@pytest.mark.parametrize(
    ("weights", "status"),
    [
        ("hub", 403),
        ("/etc", 403),
        ("/models/../etc", 403),
        ("models/llama", 403),
        ("/models/llama", 202),
        ("/models", 202),
        ("synthetic", 202),
    ],
)
def test_only_synthetic_weights_and_the_allow_list_may_be_loaded(tmp_path: Path, weights: str, status: int) -> None:
    with serving(tmp_path, FakeEngine(), weights_allowed="/models, meta-llama/Llama-2-7b-hf") as client:
        answer = client.post(PROBES, json=document(weights=weights, instrument="cpu"))
        assert answer.status_code == status, answer.text
        assert status == 202 or "FITPROOF_WEIGHTS_ALLOWED" in answer.text


def test_a_link_out_of_an_allowed_folder_leads_nowhere(tmp_path: Path) -> None:
    allowed, elsewhere = tmp_path / "allowed", tmp_path / "elsewhere"
    for folder in (allowed / "inner", elsewhere):
        folder.mkdir(parents=True)
    (allowed / "way out").symlink_to(elsewhere)
    (allowed / "way in").symlink_to(allowed / "inner")
    with serving(tmp_path / "data", FakeEngine(), weights_allowed=str(allowed)) as client:
        for name, status in (("inner", 202), ("way in", 202), ("way out", 403)):
            answer = client.post(PROBES, json=document(weights=str(allowed / name), instrument="cpu"))
            assert answer.status_code == status, name


def test_a_hub_id_on_the_allow_list_may_bring_its_weights(tmp_path: Path) -> None:
    with serving(tmp_path, FakeEngine(), weights_allowed="Qwen/Qwen2.5-0.5B") as client:
        probe = client.post(PROBES, json=document(weights="hub", instrument="cpu")).json()
        assert probe["weights"] == "hub"
        other = document(weights="hub", model="Qwen/Qwen2.5-0.5B-Instruct", instrument="cpu")
        assert client.post(PROBES, json=other).status_code == 403


def test_without_a_worker_the_answer_says_how_to_attach_one(tmp_path: Path) -> None:
    with serving(tmp_path, FakeEngine(workers=())) as client:
        workers = client.get("/api/v1/workers").json()
        assert workers["items"] == []
        assert "fitproof[probe]" in workers["hint"]
        answer = client.post(PROBES, json=document())
        assert (answer.status_code, answer.json()["code"]) == (409, "no_worker")
        assert "fitproof[probe]" in answer.json()["errors"][0]["message"]


def test_cuda_without_a_card_is_refused_and_auto_takes_what_there_is(tmp_path: Path) -> None:
    with serving(tmp_path, FakeEngine()) as client:
        assert client.post(PROBES, json=document(instrument="cuda")).json()["code"] == "no_worker"
        assert client.post(PROBES, json=document(instrument="auto")).json()["instrument"] == "cpu"
        large = client.post(PROBES, json=document(instrument="auto", model="Qwen/Qwen2.5-7B"))
        assert large.json()["instrument"] == "dry-run"
        refused = client.post(PROBES, json=document(instrument="cpu", model="Qwen/Qwen2.5-7B"))
        assert (refused.status_code, fields(refused)) == (422, {"instrument"})


def test_auto_takes_a_card_that_can_play_the_one_asked_for(tmp_path: Path) -> None:
    with serving(tmp_path, FakeEngine(workers=(CPU, H100))) as client:
        assert client.post(PROBES, json=document(instrument="auto")).json()["instrument"] == "cuda"
        too_large = client.post(PROBES, json=document(instrument="cuda", gpu="b200"))
        assert too_large.json()["code"] == "no_worker"
        (processor, card) = client.get("/api/v1/workers").json()["items"]
        assert (processor["plays"], card["plays"]) == (["dry-run", "cpu"], ["cuda"])


def test_a_model_that_no_formula_knows_is_dry_run_without_a_prediction(client: httpx.Client) -> None:
    config = {"model_type": "brand-new", "hidden_size": 64}
    probe = client.post(PROBES, json=document(model=config, instrument="auto")).json()
    assert (probe["instrument"], probe["prediction"]) == ("dry-run", None)


def test_probes_are_listed_newest_first_in_pages(client: httpx.Client) -> None:
    made = [client.post(PROBES, json=document(mark=mark)).json()["id"] for mark in range(1, 6)]
    first = client.get(PROBES, params={"limit": 3}).json()
    second = client.get(PROBES, params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [item["id"] for item in first["items"] + second["items"]] == made[::-1]
    assert second["next_cursor"] is None
    for probe in made:
        finished(client, probe)
    assert len(client.get(PROBES, params={"state": "succeeded"}).json()["items"]) == 5
    assert client.get(PROBES, params={"cursor": "nobody"}).status_code == 404
    assert client.get(PROBES, params={"stat": "succeeded"}).status_code == 422


def test_an_unknown_probe_is_a_404_everywhere(client: httpx.Client) -> None:
    for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
        assert client.request(method, f"{PROBES}/nobody{path}").json()["code"] == "unknown_probe"


def test_events_resume_after_the_last_one_seen(client: httpx.Client) -> None:
    probe = client.post(PROBES, json=document()).json()["id"]
    finished(client, probe)
    whole = client.get(f"{PROBES}/{probe}/events")
    assert whole.headers["content-type"].startswith("text/event-stream")
    ids = [int(line[4:]) for line in whole.text.splitlines() if line.startswith("id: ")]
    assert ids == list(range(1, len(ids) + 1))
    rest = client.get(f"{PROBES}/{probe}/events", headers={"Last-Event-ID": "4"}).text
    assert [int(line[4:]) for line in rest.splitlines() if line.startswith("id: ")] == ids[4:]
    assert client.get(f"{PROBES}/{probe}/events", headers={"Last-Event-ID": "-1"}).status_code == 422


def test_as_many_streams_are_open_as_the_server_can_feed_and_each_that_closes_makes_room(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, hub_offline=True, local_access=True), [FakeEngine()], forked_template)
    with served(app) as client:
        wait_until(lambda: bool(client.get("/api/v1/workers").json()["items"]), 10)
        app.state.service.streams = Streams(app.state.service.database, most=1)
        path = f"{PROBES}/{client.post(PROBES, json=document()).json()['id']}/events"
        for _ in range(2):
            wait_until(lambda: opens(client, path), 10)
        with client.stream("GET", path) as first:
            lines = first.iter_lines()
            next(lines)
            refused = client.get(path)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
            assert int(refused.headers["retry-after"]) > 0
        wait_until(lambda: opens(client, path), 10)


def opens(client: httpx.Client, path: str) -> bool:
    with client.stream("GET", path) as stream:
        return stream.status_code == 200 and bool(next(stream.iter_lines()))


def test_evidence_leaves_as_json_lines_and_comes_back_once(client: httpx.Client) -> None:
    finished(client, client.post(PROBES, json=document()).json()["id"])
    exported = client.get("/api/v1/evidence").text
    changed = json.dumps({**json.loads(exported), "seed": 7})
    mark = {"content-type": "application/x-ndjson"}
    answer = client.post("/api/v1/evidence", content=exported + changed, headers=mark)
    assert answer.json() == {"added": 1, "known": 1}
    assert len(client.get("/api/v1/evidence").text.splitlines()) == 2


def test_a_wrong_line_keeps_the_whole_import_out(client: httpx.Client) -> None:
    good = printed(0).decode().splitlines()[-1]
    mark = {"content-type": "application/x-ndjson"}
    body = "\n".join([good, "no json", '{"version": 2}', json.dumps({**json.loads(good), "request": {}})])
    answer = client.post("/api/v1/evidence", content=body, headers=mark)
    assert answer.status_code == 422
    assert {field.partition(":")[0] for field in fields(answer)} == {"line 2", "line 3", "line 4"}
    assert client.get("/api/v1/evidence").text == ""
    assert client.post("/api/v1/evidence", json=json.loads(good)).status_code == 415
    assert client.post("/api/v1/evidence", content=b"\xff", headers=mark).status_code == 415


def test_health_and_metrics_tell_what_an_operator_asks(client: httpx.Client) -> None:
    finished(client, client.post(PROBES, json=document()).json()["id"])
    client.post("/api/v1/plans", json={"model": "Qwen/Qwen2.5-0.5B", "gpu": "4090"})
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready", "dispatches": True}
    text = client.get("/metrics").text
    for line in (
        'fitproof_probes{state="succeeded"} 1.0',
        'fitproof_probe_outcomes{instrument="dry-run",outcome="ok"} 1.0',
        "fitproof_queue_age_seconds 0.0",
        'fitproof_prediction_error_fraction_gcount{instrument="dry-run"} 1.0',
        'fitproof_requests_total{method="POST",route="/api/v1/plans",status="200"} 1.0',
        'fitproof_request_seconds_count{route="/api/v1/plans"} 1.0',
        'fitproof_worker_slots{engine="fake",worker="fake:cpu"} 1.0',
        "fitproof_dispatches 1.0",
    ):
        assert line in text.splitlines()


def test_paths_nobody_serves_do_not_multiply_metrics(client: httpx.Client) -> None:
    for path in ("/a", "/b", "/static/c"):
        client.get(path)
    client.get(f"{PROBES}/nobody")
    text = client.get("/metrics").text
    assert not any(f'"{path}"' in text for path in ("/a", "/b", "/static/c", f"{PROBES}/nobody"))
    assert 'route="/api/v1/probes/{probe_id}"' in text

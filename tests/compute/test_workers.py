"""What one request does to the others, through the front door of a real server."""

import asyncio
import json
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.compute.pool import Pool
from app.compute.questions import ALONE, Facts
from app.main import create_app
from app.settings import Settings
from planner.units import MIB
from tests.app.serving import served
from tests.service.forking import forked_template

WORKERS = 2
PLAN = {"model": "meta-llama/Llama-3.1-8B", "gpu": "rtx-4090"}
# Some seconds of a processor: as many layers as a config may have, and nothing that folds them.
DEEP = {
    "model": {
        "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 1024, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192,
    },
    "gpu": "rtx-4090",
    "training": {"padded": True, "gradient_checkpointing": False, "per_device_train_batch_size": 64},
}  # fmt: skip
# Done within its first slice, so that it never goes to a slow place, whose workers end anyway.
OWN = {**PLAN, "model": {**DEEP["model"], "hidden_size": 64, "num_hidden_layers": 1}}  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), hub_offline=True, workers=WORKERS)
    with served(create_app(settings, engines=[])) as client:
        client.timeout = httpx.Timeout(60)
        yield client


def workers() -> dict[int, float]:
    """The workers of this process's servers: processor seconds by process id."""
    rows: dict[int, tuple[int, float]] = {}
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes()
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if b"app.compute.template" in command and fields[0] != "Z":
            seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            rows[int(folder.name)] = (int(fields[1]), seconds)
    templates = {pid for pid, (parent, _) in rows.items() if parent == os.getpid()}
    return {pid: seconds for pid, (parent, seconds) in rows.items() if parent in templates}


def busy(base: dict[int, float]) -> list[int]:
    return [pid for pid, seconds in workers().items() if seconds - base.get(pid, 0.0) > 0.2]


def are_idle() -> bool:
    """Whether no worker has come, gone or computed for half a second."""
    before = workers()
    time.sleep(0.5)
    return workers() == before


def until(holds: object, patience_seconds: float = 20.0) -> None:
    deadline = time.monotonic() + patience_seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.02)


def test_a_heavy_request_holds_up_neither_health_nor_anybodys_plan(client: httpx.Client) -> None:
    client.post("/api/v1/plans", json=PLAN)
    answered: list[int] = []
    heavy = threading.Thread(target=lambda: answered.append(httpx.post(url(client), json=DEEP, timeout=60).status_code))
    heavy.start()
    waits = []
    while heavy.is_alive() and len(waits) < 200:
        began = time.monotonic()
        assert client.get("/healthz").status_code == 200
        assert client.post("/api/v1/plans", json=PLAN).status_code == 200
        waits.append(time.monotonic() - began)
    heavy.join()
    assert answered[0] in {200, 503}
    assert sorted(waits)[len(waits) // 2] < 0.5


def test_a_client_that_leaves_stops_its_computation(client: httpx.Client) -> None:
    client.post("/api/v1/plans", json=PLAN)
    base = workers()
    body = httpx.Request("POST", url(client), json=DEEP)
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        head = "POST /api/v1/plans HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: {len(body.content)}\r\n\r\n".encode() + body.content)
        until(lambda: busy(base))
        (computing,) = busy(base)
    until(lambda: computing not in workers(), 5)


def test_a_worker_that_dies_is_an_answer_and_the_next_request_has_another(client: httpx.Client) -> None:
    base = workers()
    answered: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answered.append(httpx.post(url(client), json=DEEP, timeout=60)))
    asking.start()
    until(lambda: busy(base))
    os.kill(busy(base)[0], signal.SIGKILL)
    asking.join()
    assert answered[0].status_code == 500
    assert answered[0].json()["code"] == "internal_server_error"
    assert client.post("/api/v1/plans", json=PLAN).status_code == 200


def test_two_requests_that_together_take_too_much_memory_are_answered_one_after_the_other(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, hub_offline=True, workers=WORKERS), [], forked_template)
    large = {**DEEP, "model": {**DEEP["model"], "num_hidden_layers": 96}}  # type: ignore[dict-item]
    with served(app) as client, ThreadPoolExecutor(3) as threads:
        assert client.post("/api/v1/plans", json=PLAN, timeout=60).status_code == 200
        app.state.answers.pool.room_bytes = MIB
        asked = [threads.submit(httpx.post, url(client), json=large, timeout=120) for _ in range(3)]
        assert [each.result().status_code for each in asked] == [200, 200, 200]


def test_workers_made_for_callers_own_models_do_not_pile_up(client: httpx.Client) -> None:
    before = len(workers())  # servers of other tests have theirs
    for _ in range(WORKERS + 3):
        assert client.post("/api/v1/plans", json=OWN).status_code == 200
    # Those that stay for the next request read catalogue models only.
    until(lambda: len(workers()) <= before + WORKERS)
    assert client.post("/api/v1/plans", json=PLAN).status_code == 200


def test_a_worker_refuses_a_callers_own_model_unless_it_ends_with_it() -> None:
    async def act() -> None:
        template = await forked_template()
        try:
            shared, own = await template.worker(low=False), await template.worker(low=False)
            assert await shared.ask(pickle.dumps((Facts(), request(OWN)))) == ("asks", ALONE)
            assert not shared.ends
            reply = await own.ask(pickle.dumps((Facts(alone=True), request(OWN))))
            assert (reply[:2], own.ends) == (("answer", 200), True)
            assert await own.ask(pickle.dumps((Facts(), request(PLAN)))) == ("gone",)
        finally:
            template.close()

    asyncio.run(act())


def test_many_workers_are_ended_at_once() -> None:
    async def act() -> None:
        template = await forked_template()
        try:
            workers = [await template.worker(low=False) for _ in range(8)]
            os.kill(template._process.pid, signal.SIGSTOP)  # so that what it is told comes to it in one piece
            for worker in workers:
                worker.kill()
            os.kill(template._process.pid, signal.SIGCONT)
            for worker in workers:  # there until the template has read what it was told, and reaped them
                while Path(f"/proc/{worker.pid}/statm").exists():
                    await asyncio.sleep(0.02)
            another = await template.worker(low=False)
            assert (await another.ask(pickle.dumps((Facts(), request(PLAN)))))[:2] == ("answer", 200)
        finally:
            template.close()

    asyncio.run(act())


def test_whoever_leaves_just_as_its_turn_comes_takes_no_place_with_it() -> None:
    async def act() -> None:
        pool = Pool(1, forked_template)
        await pool.start()

        async def nothing(question: object) -> None:
            del question

        def asked(client: str) -> asyncio.Task[tuple[object, ...]]:
            message = pickle.dumps((Facts(), request(PLAN)))
            return asyncio.create_task(pool.answer(client, message, nothing))

        try:
            first, second = asked("first"), asked("second")
            while len(pool.quick) == 0:
                await asyncio.sleep(0)
            second.cancel()  # takes effect in the next turn of the loop,
            pool.places = 2  # by which time its task exists and has not begun
            pool.dispatch()
            with pytest.raises(asyncio.CancelledError):
                await second
            pool.places = 1
            assert (await first)[:2] == ("answer", 200)
            async with asyncio.timeout(5):
                assert (await asked("third"))[:2] == ("answer", 200)
        finally:
            await pool.close()

    asyncio.run(act())


def test_a_worker_serves_many_plans_before_it_has_grown() -> None:
    async def act() -> None:
        template = await forked_template()
        try:
            worker = await template.worker(low=False)
            for length in range(1024, 1029):
                document = {**PLAN, "training": {"max_length": length}}
                assert (await worker.ask(pickle.dumps((Facts(), request(document)))))[:2] == ("answer", 200)
                assert not worker.ends
        finally:
            template.close()

    asyncio.run(act())


def request(document: object) -> dict[str, object]:
    """A plan as the server hands it to a worker."""
    path, headers = "/api/v1/plans", [(b"content-type", b"application/json")]
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": headers, "scheme": "http", "server": None, "client": None, "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    return {"id": "test", "scope": scope, "body": json.dumps(document).encode()}


def test_as_many_questions_are_worked_out_at_a_time_as_there_are_workers(tmp_path: Path) -> None:
    others = set(workers())
    with served(create_app(Settings(data_dir=tmp_path, workers=5), engines=[])) as fresh:
        assert fresh.post("/api/v1/plans", json=PLAN, timeout=60).status_code == 200  # its template is there now
        maps = [
            f"{fresh.base_url}/map?model=meta-llama/Llama-3.1-8B&gpu=rtx-4090&lora_r={rank}" for rank in range(1, 25)
        ]
        with ThreadPoolExecutor(len(maps)) as clients:
            answers = [clients.submit(httpx.get, address, timeout=60) for address in maps]
            until(lambda: len(set(workers()) - others) >= 5)
            assert {answer.result().status_code for answer in answers} <= {200, 503}


def test_workers_know_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("FITPROOF_DATABASE_URL", f"sqlite:///{tmp_path}/other")
    others = set(workers())
    with served(create_app(Settings(data_dir=tmp_path, hub_offline=True), engines=[])) as fresh:
        assert fresh.post("/api/v1/plans", json=PLAN).status_code == 200
        for pid in set(workers()) - others:
            assert b"SECRET" not in (environment := Path(f"/proc/{pid}/environ").read_bytes()).upper()
            assert b"FITPROOF_" not in environment


def test_the_accuracy_page_is_worked_out_once_for_each_way_to_send_it(client: httpx.Client) -> None:
    text = client.get("/accuracy").text
    assert client.get("/accuracy", headers={"accept-encoding": "identity"}).text == text
    until(are_idle)
    before = workers()
    assert {client.get(f"/accuracy?view={number}").text for number in range(20)} == {text}
    assert workers() == before


def test_a_lone_surrogate_in_a_pasted_file_breaks_no_page(client: httpx.Client) -> None:
    text = 'base_model: meta-llama/Llama-3.1-8B\nload_in_4bit: "\\ud800"\n'
    answer = client.post("/import", data={"config": text, "gpu": "rtx-4090"}, headers={"accept": "text/html"})
    assert answer.status_code in {200, 422}


def url(client: httpx.Client) -> str:
    return str(client.base_url.join("/api/v1/plans"))

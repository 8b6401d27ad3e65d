"""Many callers at once: every order is taken once, run once and answered once, and plans go on meanwhile.

How fast that is, `make bench` prints, with a thousand probes in real processes.
"""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx

from tests.service.desk import printed
from tests.service.fakes.fake_engine import CPU, FakeEngine
from tests.service.harness import document, wait_until
from tests.service.test_probes_api import PROBES, serving

PROBES_ORDERED, PLANS_ASKED, CALLERS = 120, 200, 24


def patiently(send: Callable[[], httpx.Response]) -> httpx.Response:
    """Send it; a server that is too busy says so with 503, keeps nothing, and is asked again when it said."""
    answer = send()
    while answer.status_code == 503:
        time.sleep(float(answer.headers["retry-after"]) / 4)
        answer = send()
    return answer


def order(client: httpx.Client, mark: int) -> str:
    answer = patiently(lambda: client.post(PROBES, json=document(mark=mark)))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def ask(client: httpx.Client, length: int) -> int:
    question = {"model": "Qwen/Qwen2.5-0.5B", "gpu": "rtx-4090", "training": {"max_length": length}}
    return patiently(lambda: client.post("/api/v1/plans", json=question)).status_code


def test_all_orders_are_accounted_for_exactly_once_while_plans_are_answered(tmp_path: Path) -> None:
    engine = FakeEngine(workers=(replace(CPU, slots=8),), answer=printed(1))
    with serving(tmp_path, engine, queue_limit=PROBES_ORDERED) as client, ThreadPoolExecutor(CALLERS) as callers:
        ordered = callers.map(lambda mark: order(client, mark), range(1, PROBES_ORDERED + 1))
        planned = callers.map(lambda length: ask(client, length), range(64, 64 + PLANS_ASKED))
        probes = list(ordered)
        assert Counter(planned) == {200: PLANS_ASKED}
        assert len(set(probes)) == PROBES_ORDERED
        counted = f'fitproof_probes{{state="succeeded"}} {PROBES_ORDERED}.0'
        wait_until(lambda: counted in client.get("/metrics").text, 60)
        ends = Counter(client.get(f"{PROBES}/{probe}/events").text.count('"state": "succeeded"') for probe in probes)
    assert ends == {1: PROBES_ORDERED}
    assert Counter(engine.submits) == Counter(f"{probe}-1" for probe in probes)

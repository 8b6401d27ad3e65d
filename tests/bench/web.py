"""Requests per second of the API beside an empty FastAPI route, and the server time of the pages."""

import json
import tempfile
import urllib.request
from pathlib import Path

from fastapi import FastAPI

from tests.bench.plans import MODELS
from tests.bench.server import fitproof_with, message, requests_per_second, served, uvicorn_of
from tests.bench.timing import median_seconds, report
from tests.site.first_view import decoded, first_view_bytes

PLAN_QUERY = "model=meta-llama/Llama-3.1-8B&gpu=rtx-4090"


def empty_app() -> FastAPI:
    """The smallest FastAPI app: what the framework itself costs."""
    app = FastAPI()

    @app.post("/")
    async def nothing() -> dict[str, str]:
        return {}

    return app


def run() -> None:
    """Print the API's ratio to an empty route, with one worker and with two, then the pages."""
    with tempfile.TemporaryDirectory() as folder:
        with served(uvicorn_of("tests.bench.web:empty_app"), Path(folder)) as port:
            empty = requests_per_second(port, [message("POST", "/", b"{}")], 4_000)
            report("empty FastAPI route", f"{empty:.0f} /s")
        with served(fitproof_with(1), Path(folder)) as port:
            one = _new_questions(port)
            report("every question new, one worker", f"{one:.0f} /s", f"{one / empty:.2f} of empty, 0.12 wanted")
        with served(fitproof_with(2), Path(folder)) as port:
            two = _new_questions(port)
            report("every question new, two workers", f"{two:.0f} /s", f"{two / one:.2f} of one, 1.8 wanted")
            same = requests_per_second(port, [_plan_message(0)], 4_000)
            report("POST /api/v1/plans, one question", f"{same:.0f} /s", f"{same / empty:.2f} of empty, 0.40 wanted")
            advised = requests_per_second(port, [_plan_message(index, batch=64) for index in range(400)], 400)
            report("the same where nothing fits, with advice", f"{advised:.0f} /s", f"{advised / empty:.2f} of empty")
            _pages(port)


def _new_questions(port: int) -> float:
    requests_per_second(port, [_plan_message(index) for index in range(4_000, 4_100)], 100)
    return requests_per_second(port, [_plan_message(index) for index in range(2_000)], 2_000)


def _plan_message(index: int, batch: int = 1) -> bytes:
    document = {
        "model": MODELS[index % len(MODELS)],
        "gpu": "rtx-4090",
        "lora": {"r": 8 + index // 1_000},
        "training": {"max_length": 512 + index % 1_000, "per_device_train_batch_size": batch},
    }
    return message("POST", "/api/v1/plans", json.dumps(document).encode())


def _pages(port: int) -> None:
    for name, path, target in (
        ("answer page", f"/plan?{PLAN_QUERY}", "at most 7 ms"),
        ("heat map", f"/map?{PLAN_QUERY}", "at most 40 ms"),
    ):
        seconds = median_seconds(lambda path=path: _get(port, path), 20)
        report(f"{name}, server time, median", f"{1e3 * seconds:.1f} ms", target)
    for address, size_bytes in (view := first_view_bytes(lambda path: _travelling(port, path))).items():
        report(f"first load, brotli: {address.partition('?')[0]}", f"{size_bytes / 1e3:.1f} kB")
    report("first load, all of it", f"{sum(view.values()) / 1e3:.1f} kB", "at most 20 kB")


def _travelling(port: int, path: str) -> tuple[bytes, bytes]:
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept-Encoding": "br"})
    with urllib.request.urlopen(asked) as answer:
        body = bytes(answer.read())
        return body, decoded(body, answer.headers["Content-Encoding"])


def _get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        return bytes(answer.read())

"""How long a run takes and what it costs, at the API and on the page."""

import re
from typing import Any

import httpx
import pytest

RUN: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B", "gpu": "a100-sxm-80gb", "tokens": 100_000_000, "price_per_hour": 2.0,
    "training": {"per_device_train_batch_size": 4, "max_length": 4096},
}  # fmt: skip


def test_the_api_says_hours_and_their_cost_with_the_range_of_the_rate(site: httpx.Client) -> None:
    found = site.post("/api/v1/plans", json=RUN).json()["throughput"]
    rate = found["tokens_per_second"]
    assert found["hours"]["likely"] == pytest.approx(RUN["tokens"] / rate["likely"] / 3600, rel=0.01)
    assert found["hours"]["low"] == pytest.approx(RUN["tokens"] / rate["high"] / 3600, rel=0.01)
    assert found["cost"] == {end: pytest.approx(2 * hours) for end, hours in found["hours"].items()}


def test_two_cards_cost_twice_as_much_an_hour(site: httpx.Client) -> None:
    found = site.post("/api/v1/plans", json={**RUN, "gpus": 2, "ddp": {}}).json()["throughput"]
    assert found["cost"]["likely"] == pytest.approx(4 * found["hours"]["likely"])


def test_without_tokens_nothing_is_said_and_no_byte_depends_on_them(site: httpx.Client) -> None:
    plain = {key: value for key, value in RUN.items() if key not in {"tokens", "price_per_hour"}}
    asked, unasked = (site.post("/api/v1/plans", json=document).json() for document in (RUN, plain))
    assert (unasked["throughput"]["hours"], unasked["throughput"]["cost"]) == (None, None)
    assert asked["required_bytes"] == unasked["required_bytes"]


def test_a_price_of_no_tokens_is_refused_at_its_field(site: httpx.Client) -> None:
    answer = site.post("/api/v1/plans", json={key: value for key, value in RUN.items() if key != "tokens"})
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["errors"]] == ["price_per_hour"]


def test_the_page_says_them_and_keeps_both_controls_in_its_address(site: httpx.Client) -> None:
    page = site.get("/plan", params={name: str(value) for name, value in RUN.items() if name != "training"}).text
    assert re.search(r"100,000,000 tokens: about <strong>[\d.]+ hours</strong>", page)
    assert re.search(r"which cost about <strong>[\d.]+</strong>", page)
    assert "tokens=100000000" in page
    assert "price_per_hour=2.0" in page

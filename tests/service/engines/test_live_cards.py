"""What was measured here is used here: totals, contexts and the record of differences."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from app.jobs.comparison import explanations
from planner.answer.plan import plan as planned
from planner.measurement import Measurement
from planner.request.schema import Request
from tests.service.desk import MEASUREMENT, document_of, printed
from tests.service.fakes.fake_engine import CPU, GIB, H100, FakeEngine
from tests.service.harness import document, wait_until
from tests.service.test_probes_api import PROBES, finished, serving

EVIDENCE = "/api/v1/evidence"
JSON_LINES = {"content-type": "application/x-ndjson"}
TOTAL_BYTES = 84_929_347_584
PLAN = {"model": "Qwen/Qwen2.5-0.5B", "gpu": "h100-sxm-80gb"}
DEVICE = {"name": "NVIDIA H100 80GB HBM3", "total_memory_bytes": TOTAL_BYTES, "compute_capability": "9.0"}


def cuda(length: int = 64, **changes: Any) -> bytes:
    """What a probe of a card prints that took one part in a thousand more than was foreseen for it."""
    request = document(length)
    del request["instrument"]
    foreseen = planned(Request.parse(request | {"gpu": PLAN["gpu"]}))
    sizes = {
        "peak_allocated_bytes": round(foreseen.peak_allocated_bytes * 1.001),
        "peak_reserved_bytes": round(foreseen.estimate.reserved_bytes() * 1.001),
        "context_bytes": 600 << 20,
        "request": request,
    }
    return printed(1, instrument="cuda", device=DEVICE, **(sizes | changes))


def record(length: int = 64, **changes: Any) -> str:
    return cuda(length, **changes).decode().splitlines()[-1]


def plan(client: httpx.Client) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/api/v1/plans", json=PLAN).json()
    return answer


def test_a_card_measured_here_is_planned_with_its_own_total_and_context(tmp_path: Path) -> None:
    engine = FakeEngine(workers=(CPU, H100), answer=cuda())
    with serving(tmp_path, engine) as client:
        before = plan(client)
        assert before["usable_bytes"] != TOTAL_BYTES
        finished(client, client.post(PROBES, json=document(instrument="cuda")).json()["id"])
    with serving(tmp_path, engine) as client:
        wait_until(lambda: plan(client)["usable_bytes"] == TOTAL_BYTES, 60)
        after = plan(client)
        assert [line["bytes"] for line in after["lines"] if "context" in line["name"]] == [600 << 20]
        width = {name: each["required_bytes"]["high"] - each["required_bytes"]["low"] for name, each in
                 (("before", before), ("after", after))}  # fmt: skip
        assert width["after"] < width["before"]


def test_records_that_others_share_do_not_speak_for_this_cards_total(tmp_path: Path) -> None:
    with serving(tmp_path, FakeEngine()) as client:
        before = plan(client)
        assert client.post(EVIDENCE, content=record(), headers=JSON_LINES).json()["added"] == 1
        assert plan(client)["usable_bytes"] == before["usable_bytes"] != TOTAL_BYTES


def width(required: dict[str, int]) -> int:
    return required["high"] - required["low"]


def test_each_measurement_of_a_card_narrows_the_range_of_plans_for_it_and_of_no_other(tmp_path: Path) -> None:
    other = PLAN | {"gpu": "rtx-4090"}
    with serving(tmp_path, FakeEngine()) as client:
        untouched, ranges = client.post("/api/v1/plans", json=other).json(), [plan(client)["required_bytes"]]
        for length in range(64, 70):
            client.post(EVIDENCE, content=record(length), headers=JSON_LINES)
            ranges.append(plan(client)["required_bytes"])
        assert all(width(later) < width(earlier) for earlier, later in pairwise(ranges))
        assert ranges[0]["low"] < ranges[-1]["low"] <= ranges[-1]["likely"] <= ranges[-1]["high"] < ranges[0]["high"]
        assert client.post("/api/v1/plans", json=other).json() == untouched


def test_a_run_that_took_far_more_than_foreseen_widens_the_range_to_hold_it(tmp_path: Path) -> None:
    with serving(tmp_path, FakeEngine()) as client:
        foreseen = plan(client)
        client.post(EVIDENCE, content=record(peak_allocated_bytes=5 << 30, peak_reserved_bytes=6 << 30),
                    headers=JSON_LINES)  # fmt: skip
        assert width(plan(client)["required_bytes"]) > 2 * width(foreseen["required_bytes"])


def test_the_accuracy_page_lists_what_was_measured_on_cards_wherever_it_ran(tmp_path: Path) -> None:
    with serving(tmp_path, FakeEngine()) as client:
        assert "Measured on this installation" not in client.get("/accuracy").text
        lines = "\n".join(record(length) for length in (64, 65))
        client.post(EVIDENCE, content=lines, headers=JSON_LINES)
        page = client.get("/accuracy").text
        assert page.count(f">{DEVICE['name']}</a>") == 2
        assert "−0.10 %" in page


def test_records_out_of_all_reason_are_refused_by_name(tmp_path: Path) -> None:
    with serving(tmp_path, FakeEngine()) as client:
        lines = "\n".join((record(), record(peak_allocated_bytes=-1), record(context_bytes=1 << 60)))
        answer = client.post(EVIDENCE, content=lines, headers=JSON_LINES)
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == [
            "line 2: peak_allocated_bytes",
            "line 3: context_bytes",
        ]
        assert client.get(EVIDENCE).text == ""


def measured(**changes: Any) -> Measurement:
    return Measurement.model_validate({**MEASUREMENT, "request": document_of(), "instrument": "cuda", **changes})


def foreseen(peak_bytes: int) -> dict[str, Any]:
    return {"peak_allocated_bytes": peak_bytes, "phases": [{"name": "backward", "allocated_bytes": peak_bytes}]}


def test_a_difference_within_the_band_needs_no_excuse() -> None:
    assert explanations(foreseen(5 * GIB), measured()) == []
    assert explanations(None, measured()) == []


def test_a_difference_over_the_band_names_the_phase_and_the_bytes() -> None:
    (said,) = explanations(foreseen(4 * GIB), measured())
    assert said.startswith("The peak is 20.0% above the formula's")
    assert said.endswith("the largest difference is in backward, 1.00 GiB.")


def test_what_was_unlike_the_prediction_is_always_said() -> None:
    died = measured(outcome="out_of_memory", failed_phase="backward", versions={"torch": "3.0.1"}, notes=("synthetic",))
    assert explanations(foreseen(5 * GIB), died) == [
        "synthetic",
        "Memory ran out in backward; what comes after it was not measured.",
        "The formula was held to torch 2.14; this ran on 3.0.1.",
    ]
    assert "processor" in explanations(foreseen(5 * GIB), measured(instrument="cpu"))[0]

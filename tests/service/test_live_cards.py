"""What was measured here is used here: totals, contexts and the record of differences."""

from pathlib import Path
from typing import Any

import httpx

from app.jobs.comparison import explanations
from planner.measurement import Measurement
from tests.service.desk import MEASUREMENT, document_of, printed
from tests.service.fake_engine import CPU, GIB, H100, FakeEngine
from tests.service.harness import document, wait_until
from tests.service.test_probes_api import PROBES, finished, serving

TOTAL_BYTES = 84_929_347_584
PLAN = {"model": "Qwen/Qwen2.5-0.5B", "gpu": "h100-sxm-80gb"}
DEVICE = {"name": "NVIDIA H100 80GB HBM3", "total_memory_bytes": TOTAL_BYTES, "compute_capability": "9.0"}


def cuda(**changes: Any) -> bytes:
    return printed(1, instrument="cuda", device=DEVICE, context_bytes=600 << 20, **changes)


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
        wait_until(lambda: plan(client)["usable_bytes"] == TOTAL_BYTES, 5)
        after = plan(client)
        assert [line["bytes"] for line in after["lines"] if "context" in line["name"]] == [600 << 20]
        width = {name: each["required_bytes"]["high"] - each["required_bytes"]["low"] for name, each in
                 (("before", before), ("after", after))}  # fmt: skip
        assert width["after"] < width["before"]


def test_records_that_others_share_do_not_speak_for_this_card(tmp_path: Path) -> None:
    mark = {"content-type": "application/x-ndjson"}
    record = cuda().decode().splitlines()[-1]
    with serving(tmp_path, FakeEngine()) as client:
        assert client.post("/api/v1/evidence", content=record, headers=mark).json()["added"] == 1
    with serving(tmp_path, FakeEngine()) as client:
        assert plan(client)["usable_bytes"] != TOTAL_BYTES


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
        "The formula was held to torch 2.13; this ran on 3.0.1.",
    ]
    assert "processor" in explanations(foreseen(5 * GIB), measured(instrument="cpu"))[0]

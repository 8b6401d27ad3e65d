"""The worst moment of each phase is the same in C and in Python."""

import pytest

from planner.answer.plan import plan
from planner.request.schema import Request
from planner.step.engine import segment_peaks
from planner.step.engine.program import worst_of_phases
from planner.step.lines import program_order_and_tables


@pytest.mark.parametrize("model", ["meta-llama/Llama-3.1-8B", "google/gemma-2-9b", "openai/gpt-oss-20b"])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_python_finds_the_same_worst_moments(
    model: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {"model": model, "gpu": "rtx-4090", "training": {"gradient_checkpointing": checkpointing}}
    planned = plan(Request.parse(document))
    decoder = planned.model.known_decoder()
    step = program_order_and_tables(decoder, planned.recipe, planned.gpu)
    natively = worst_of_phases(*step)
    monkeypatch.setattr(segment_peaks, "native_library", lambda: None)
    assert worst_of_phases(*step) == natively
    assert min(worst.bytes for worst in natively) > 0

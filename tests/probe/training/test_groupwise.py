"""hqq's group-wise int4: the real library on a CPU and on a virtual card."""

from typing import Any

import pytest

from planner.answer.plan import plan
from planner.errors import InvalidRequestError
from planner.probe.measure import measure
from planner.probe.notes import notes_of
from planner.probe.options import Options
from planner.probe.progress import Progress
from planner.probe.training import hqq as hqq_loading
from planner.probe.training.configs import config_of
from planner.request.recipe import Recipe
from planner.request.schema import Request
from tests.probe.tiny import on_card, peaks, request, watch


def hqq(group_size: int = 64, **parts: Any) -> Request:
    return request(quantization={"quant_method": "hqq", "group_size": group_size}, **parts)


def prepared_bytes(asked: Request) -> int:
    return next(phase.resident_bytes for phase in on_card(asked).phases if phase.name == "prepare")


def beyond_the_plan(asked: Request) -> int:
    """Bytes of the prepared model that no plan counts: the model's few small buffers, whatever the quantization."""
    return prepared_bytes(asked) - next(
        phase.allocated_bytes for phase in plan(asked).phases if phase.name == "prepare"
    )


@pytest.mark.parametrize("group_size", [32, 128])
def test_the_prepared_model_holds_what_the_plan_says(group_size: int) -> None:
    nf4 = request(quantization={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"})
    assert beyond_the_plan(hqq(group_size)) == beyond_the_plan(nf4)


def test_the_real_quantizer_and_step_run_on_a_cpu() -> None:
    assert peaks(watch(hqq(stack="kbit", lora={"r": 8, "use_dora": True})))["save"]


def test_the_measurement_says_that_the_layers_were_named() -> None:
    asked = hqq()
    recipe = Recipe.of(asked)
    assert any("all-linear" in note for note in notes_of(recipe, config_of(asked, recipe), Options()))


def test_a_machine_without_hqq_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hqq_loading, "is_installed", lambda: False)
    with pytest.raises(InvalidRequestError) as refusal:
        measure(hqq(), Options(), Progress())
    assert [problem.field for problem in refusal.value.problems] == ["quantization.quant_method"]
    assert "pip install" in refusal.value.problems[0].message


def test_a_weight_that_does_not_divide_into_groups_is_named() -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        watch(hqq(256, config={"intermediate_size": 90}))
    assert [problem.field for problem in refusal.value.problems] == ["quantization.group_size"]
    assert "gate_proj.weight" in refusal.value.problems[0].message

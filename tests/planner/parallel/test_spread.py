"""`device_map` over several cards: the formula beside probes of it, card by card, and what its words come to."""

import json
from typing import Any

import pytest

from planner import plan
from planner.answer.plan import Plan
from planner.errors import InvalidRequestError
from planner.request.schema import Request
from tests.planner.parallel.spread import FILE, SETTINGS

ROWS = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
LLAMA_8B = {"model": "meta-llama/Llama-3.1-8B", "gpu": "rtx-3090", "gpus": 2, "device_map": "auto", "method": "lora"}


def peaks(found: Plan) -> list[int]:
    assert found.spread is not None
    return [card.ledger.peak().allocated_bytes for card in found.spread.cards]


def layers(found: Plan) -> list[int]:
    assert found.spread is not None
    return [len(card.layers) for card in found.spread.cards]


def llama(**changes: Any) -> Plan:
    return plan(Request.parse(LLAMA_8B | changes))


def problem_of(**changes: Any) -> tuple[str, str]:
    with pytest.raises(InvalidRequestError) as caught:
        llama(**changes)
    (problem,) = caught.value.problems
    return problem.field, problem.message


def test_every_setting_is_on_record_as_it_is_asked() -> None:
    assert [(row["name"], row["request"]) for row in ROWS] == list(SETTINGS)


def differences(row: dict[str, Any]) -> list[float]:
    """Of each card that computes anything, the formula's peak as a fraction of what was probed, less one."""
    found = peaks(plan(Request.parse(row["request"])))
    return [own / probed - 1 for own, probed in zip(found, row["ranks"], strict=True) if probed > 1 << 20]


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_each_card_is_the_probes_to_a_permille(row: dict[str, Any]) -> None:
    # One hidden state at the border counts on the other card.
    most = 0.006 if row["name"] == "lora 8 bit" else 0.001
    assert max(map(abs, differences(row))) < most


def test_the_card_that_decides_is_the_one_that_the_probe_found_fullest() -> None:
    for row in ROWS:
        found = plan(Request.parse(row["request"]))
        assert found.spread is not None
        if found.request.cards is None:
            assert row["ranks"][found.spread.fullest.number] == max(row["ranks"])


def test_half_the_layers_lie_on_each_of_two_cards() -> None:
    assert layers(llama()) == [16, 16]


def test_a_small_card_gets_what_its_room_allows() -> None:
    assert layers(llama(gpus=["rtx-3090", "rtx-3060-12gb"], device_map="sequential"))[0] == 32


def test_the_plan_is_of_the_fullest_of_unlike_cards() -> None:
    found = llama(gpu="rtx-3090", gpus=["rtx-3090", "rtx-3060-12gb"])
    assert found.gpu.id == "rtx-3060-12gb"
    assert found.to_dict()["cards"]["worst_rank"] == 1


def test_layers_that_no_card_has_room_for_do_not_fit_whatever_is_free() -> None:
    found = llama(max_memory={"0": "4GiB", "1": "6GB", "cpu": "60GiB"})
    assert found.verdict == "does_not_fit"
    assert found.warnings[0].code == "device_map_spills"
    assert "raise max_memory" in found.warnings[0].message


def test_that_one_card_computes_at_a_time_is_said() -> None:
    assert "one_card_at_a_time" in [warning.code for warning in llama().warnings]


def test_an_explicit_map_is_followed_by_the_longest_name() -> None:
    written = {"": "cuda:0", "model.layers": 1, "model.layers.7": 0}
    assert layers(llama(device_map=written)) == [1, 31]


def test_more_layers_on_a_card_never_take_less_of_it() -> None:
    def on_the_second(first: int) -> int:
        return peaks(llama(device_map={"": 0} | {f"model.layers.{number}": 1 for number in range(first, 32)}))[1]

    assert on_the_second(8) > on_the_second(16)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"device_map": "everywhere"}, "device_map"),
        ({"device_map": {"model.layers": "tpu"}}, "device_map"),
        ({"device_map": {"": 3}}, "gpus"),
        ({"max_memory": {"0": "much"}}, "max_memory"),
        ({"device_map": None, "max_memory": {"0": "4GiB"}}, "max_memory"),
        ({"device_map": None, "gpus": ["rtx-3090", "rtx-4090"]}, "gpus"),
        ({"gpus": ["rtx-3090", 7]}, "gpus"),
    ],
)
def test_words_that_lead_nowhere_are_named(changes: dict[str, Any], field: str) -> None:
    assert problem_of(**changes)[0] == field


def test_evaluation_is_named_as_not_counted() -> None:
    asked = {"gpus": 4, "training": {"max_length": 512, "loss": "full_logits"}}
    trained = llama(**asked)
    evaluated = llama(**asked | {"training": {**asked["training"], "per_device_eval_batch_size": 8}})
    assert (trained.verdict, trained.not_planned) == ("fits", ())
    assert [item.key for item in evaluated.not_planned] == ["training.per_device_eval_batch_size"]
    assert evaluated.verdict != "fits"


def test_adafactors_column_means_are_counted_on_each_card() -> None:
    found = llama(method="full", gpus=4, training={"max_length": 512, "loss": "full_logits", "optim": "adafactor"})
    assert found.spread is not None
    steps = [line for card in found.spread.cards for line in card.ledger.lines if line.name == "optimizer step"]
    assert len(steps) == 4
    assert all(line.bytes for line in steps)

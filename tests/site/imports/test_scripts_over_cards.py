"""A script that spreads its model over several cards, once it is said how many there are."""

import pytest

from app import imports
from planner import plan
from planner.errors import InvalidRequestError
from planner.request.schema import Request
from tests.site.imports.test_python_programs import TRAINER, TRL

SPREAD = TRAINER.replace("dtype=torch.bfloat16)", 'dtype=torch.bfloat16, device_map="auto")')


def asked(text: str, gpu: str) -> Request:
    return Request.parse(imports.read(text, gpu=gpu).document)


def test_its_layers_lie_on_the_cards_that_are_counted() -> None:
    request = asked(SPREAD, "2x3090")
    assert (request.gpus, request.device_map) == (2, "auto")
    found = plan(request)
    assert found.spread is not None
    assert all(card.layers for card in found.spread.cards)


def test_what_max_memory_says_of_the_cards_is_read_and_the_host_is_none() -> None:
    given = 'device_map="balanced", max_memory={0: "10GiB", 1: "20GB", "cpu": "60GiB"})'
    request = asked(SPREAD.replace('device_map="auto")', given), "2x3090")
    assert (request.device_map, request.max_memory) == ("balanced", {0: 10 << 30, 1: 20 * 10**9})


def test_cards_may_be_unlike() -> None:
    request = asked(SPREAD, "rtx-3090+rtx-3060-12gb")
    assert request.cards == ("rtx-3090", "rtx-3060-12gb")


def test_on_one_card_nothing_is_spread() -> None:
    assert asked(SPREAD, "3090").device_map is None


def test_a_map_of_each_process_is_a_process_a_card() -> None:
    own = SPREAD.replace('device_map="auto"', 'device_map={"": Accelerator().process_index}')
    request = asked(own, "2x3090")
    assert (request.gpus, request.device_map) == (2, None)


@pytest.mark.parametrize("given", ['{"": Accelerator().process_index}', "get_kbit_device_map()", '"cuda:0"', "None"])
def test_a_device_of_each_process_is_no_map(given: str) -> None:
    read = imports.read(SPREAD.replace('device_map="auto"', f"device_map={given}"), gpu="2x3090")
    assert not {"device_map"} & {item.key for item in read.not_planned}
    assert "device_map" not in read.document


@pytest.mark.parametrize(
    "given", ["device_map=pick()", 'device_map="auto", max_memory={0: "lots"}', 'device_map="disk"']
)
def test_a_map_that_is_not_understood_is_named_beside_several_cards_alone(given: str) -> None:
    def named(gpu: str) -> set[str]:
        return {item.key for item in imports.read(SPREAD.replace('device_map="auto"', given), gpu=gpu).not_planned}

    assert "device_map" in named("2x3090")
    assert "device_map" not in named("3090")


def test_trls_fused_head_fails_there_and_the_fix_is_said() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        plan(asked(TRL, "2x3090"))
    assert [problem.field for problem in caught.value.problems] == ["training.loss"]

"""GaLore and APOLLO: what is projected, what is kept of it, and what is refused."""

from typing import Any

import pytest

from planner.answer.static_lines import trained_tensors
from planner.errors import InvalidRequestError
from planner.memory.optimizer import state_of
from planner.model.model import resolve_model
from planner.request.recipe import Recipe
from planner.request.schema import Request
from tests.planner.step.tables.settings import CARD, LLAMA

NORM_BYTES = 512


def request(optim: str, targets: Any = "all-linear", arguments: Any = None, **more: Any) -> Request:
    training = {"optim": optim, "optim_target_modules": targets, "optim_args": arguments}
    return Request.parse({"model": LLAMA, "gpu": CARD, "method": "full", "training": training, **more})


def projected(asked: Request) -> dict[str, int]:
    tensors = trained_tensors(resolve_model(asked.model), Recipe.of(asked))
    return {tensor.name.split(".")[-2]: tensor.count for tensor in tensors if tensor.projection}


def state_bytes(asked: Request, name: str) -> int:
    tensors = trained_tensors(resolve_model(asked.model), Recipe.of(asked))
    return state_of(next(tensor for tensor in tensors if f".{name}." in tensor.name), asked.training.optim).device_bytes


def trained(**changed: Any) -> None:
    training = {"optim": "galore_adamw", "optim_target_modules": "all-linear", **changed.pop("training", {})}
    asked = Request.parse({"model": LLAMA, "gpu": CARD, "method": "full", "training": training, **changed})
    trained_tensors(resolve_model(asked.model), Recipe.of(asked))


def problem(**changed: Any) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        trained(**changed)
    return f"{caught.value.problems[0].field}: {caught.value.problems[0].message}"


def test_all_linear_is_every_linear_layer_and_the_output_head() -> None:
    assert set(projected(request("galore_adamw"))) == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head",
    }  # fmt: skip


def test_a_list_matches_parts_of_names_and_a_string_the_whole_of_one() -> None:
    assert set(projected(request("galore_adamw", ["mlp"]))) == {"gate_proj", "up_proj", "down_proj"}
    assert projected(request("galore_adamw", r"model\.layers\.[01]\..*\.q_proj")) == {"q_proj": 2}


def test_the_moments_are_those_of_the_smaller_side() -> None:
    projection, moments = 2 * 64 * 1024, 2 * 2 * 64 * 2816
    asked = request("galore_adamw", arguments="rank=64")
    assert state_bytes(asked, "gate_proj") == state_bytes(asked, "down_proj") == projection + moments


def test_a_decomposition_of_float32_gradients_keeps_the_whole_of_it_and_random_numbers_do_not() -> None:
    wide = {"model_dtype": "float32"}
    moments = 2 * 4 * 64 * 1024
    decomposed = state_bytes(request("galore_adamw", arguments="rank=64", stack=wide), "q_proj")
    random = state_bytes(request("apollo_adamw", arguments={"rank": 64}, stack=wide), "q_proj")
    assert decomposed == 4 * 1024 * 1024 + moments
    assert random == 4 * 64 * 1024 + moments + NORM_BYTES


def test_what_is_not_projected_keeps_adamws_moments() -> None:
    assert state_bytes(request("galore_adamw", ["attn"]), "gate_proj") == 2 * 2 * 2816 * 1024


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"method": "qlora"}, "training.optim: galore_adamw projects gradients of whole weights; use method full"),
        ({"training": {"optim_target_modules": None}}, "training.optim_target_modules: galore_adamw must be told"),
        ({"training": {"optim_target_modules": ["w1"]}}, "training.optim_target_modules: nothing matches w1; write"),
        ({"training": {"optim": "adamw_torch"}}, "training.optim_target_modules: planned for GaLore and APOLLO"),
        ({"training": {"optim_args": "rank=many"}}, "training.optim_args.rank: "),
        ({"gpus": 2, "fsdp": "full_shard"}, "training.optim: galore_adamw is planned where each card has the whole"),
        (
            {"training": {"optim": "apollo_adamw", "optim_args": "proj_type=left"}},
            "training.optim_args: apollo_torch 1.0.3 fails with proj_type left",
        ),
        (
            {"training": {"optim": "galore_adafactor_layerwise"}},
            "training.optim: galore_adafactor_layerwise is not planned: it is refused by its own class",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused_with_the_field_and_the_fix(changed: dict[str, Any], said: str) -> None:
    assert problem(**changed).startswith(said)

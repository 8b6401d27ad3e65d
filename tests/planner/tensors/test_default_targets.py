"""A model whose "all-linear" PEFT refuses is planned with the targets it can have, unless somebody asked for those."""

import asyncio
import json
from typing import Any

import pytest

from app.hub.names import RepoName
from app.planning import Planning
from planner.answer.plan import plan
from planner.answer.reach.limits import limits
from planner.errors import InvalidRequestError
from planner.request.schema import Request

REFUSED = {
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": "router",
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": "router",
    "microsoft/Phi-3.5-MoE-instruct": "router",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": "out_proj",
}


class NoHub:
    async def config(self, repo: RepoName) -> dict[str, Any]:
        raise AssertionError(repo)


@pytest.mark.parametrize(("model", "refused"), REFUSED.items())
def test_a_model_opens_with_targets_that_peft_can_adapt(model: str, refused: str) -> None:
    targets = plan(Request.parse({"model": model, "gpu": "h100"})).request.lora.target_modules
    assert {"q_proj", "k_proj", "v_proj", "o_proj"} <= set(targets)
    assert refused not in targets


@pytest.mark.parametrize("model", REFUSED)
def test_targets_that_somebody_wrote_are_answered_as_written(model: str) -> None:
    written = Request.parse({"model": model, "gpu": "h100", "lora": {"target_modules": "all-linear"}})
    unwritten = Request.parse({"model": model, "gpu": "h100"})
    planning = Planning(NoHub())
    assert json.loads(asyncio.run(planning.document(unwritten)))["verdict"]
    with pytest.raises(InvalidRequestError):
        asyncio.run(planning.document(written))


def test_a_mixture_without_chosen_targets_has_limits_too() -> None:
    request = Request.parse({"model": "microsoft/Phi-3.5-MoE-instruct", "gpu": "h200"})
    assert limits(request, cards=1).smallest_cards

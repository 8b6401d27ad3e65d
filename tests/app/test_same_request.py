"""The same request means the same to every instrument, and an answer tells nothing of the operator's."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.hub.names import RepoName
from app.jobs.order import Order
from app.planning import Planning
from app.settings import Settings
from planner.errors import InvalidRequestError
from planner.request.schema import Request

CONFIG = {"model_type": "llama", "hidden_size": 64, "_name_or_path": "a/b"}


def test_a_pasted_config_cannot_switch_what_only_the_request_says() -> None:
    odd = {"_attn_implementation": "kernels-community/x", "attn_implementation": "eager", "_commit_hash": "0"}
    config = CONFIG | odd | {"text_config": {"hidden_size": 8, "_attn_implementation": "eager"}}
    request = Request.parse({"model": config, "gpu": "rtx-4090"})
    assert request.model == CONFIG | {"text_config": {"hidden_size": 8}}


def test_a_config_from_the_hub_cannot_either() -> None:
    class OddHub:
        async def config(self, repo: RepoName) -> dict[str, Any]:
            return CONFIG | {"_name_or_path": str(repo), "_attn_implementation": "eager", "_private": 1}

    assert asyncio.run(Planning(OddHub()).config("acme/odd")) == CONFIG | {"_name_or_path": "acme/odd"}


@pytest.mark.parametrize("weights", ["hub", "/models/mine"])
def test_a_dry_run_of_real_weights_is_refused_before_it_is_queued(weights: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Order.parse({"model": "a/b", "gpu": "rtx-4090", "instrument": "dry-run", "weights": weights})
    (problem,) = caught.value.problems
    assert problem.field == "weights"
    assert "fitproof probe --on dry-run --weights" in problem.message


def test_the_hub_is_named_without_its_password(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, hub_endpoint="https://user:secret@hub.example:8443/x")
    assert settings.hub_name == "https://hub.example:8443/x"

"""Fields that are valid each by itself and cannot be meant together: the request names all of them at once."""

from typing import Any

import pytest

from planner.errors import InvalidRequestError
from planner.request.schema import Request


def named(**fields: Any) -> set[str]:
    with pytest.raises(InvalidRequestError) as refusal:
        Request.parse({"model": "meta-llama/Llama-2-7b-hf", "gpu": "rtx-4090", **fields})
    return {problem.field for problem in refusal.value.problems}


def test_what_excludes_cut_sequences_is_named_at_once() -> None:
    asked = {"gpus": 4, "fsdp": "full_shard", "parallelism_config": {"cp_size": 3, "tp_size": 2}}
    assert named(**asked, training={"attn_implementation": "eager", "packing": True}) == {
        "parallelism_config.cp_size", "parallelism_config.tp_size", "training.attn_implementation",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        (
            {"price_per_hour": 2.0, "method": "full", "quantization": {"load_in_4bit": True}},
            {"price_per_hour", "quantization"},
        ),
        (
            {"method": "full", "training": {"optim": "galore_adamw", "ref_model": "copy"}},
            {"training.optim_target_modules", "training.ref_model"},
        ),
        (
            {"stack": "unsloth", "gpus": 2, "training": {"loss": "liger", "packing": True}},
            {"stack", "training.loss", "training.packing"},
        ),
        (
            {"training": {"objective": "dpo", "loss": "liger", "packing": True}},
            {"training.loss", "training.packing"},
        ),
        ({"max_memory": {"0": "10GiB"}, "training": {"qat": 32}}, {"max_memory", "training.qat"}),
    ],
)
def test_every_field_that_contradicts_another_is_named(fields: dict[str, Any], problems: set[str]) -> None:
    assert named(**fields) == problems

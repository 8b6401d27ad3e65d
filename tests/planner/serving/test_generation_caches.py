"""Caches that `generate` is told to use: what they leave on the card, and what transformers would refuse."""

import pytest

from planner.errors import FitproofError, InvalidRequestError
from planner.serving.answer import Served, served
from planner.serving.request import Inference

ASKED = {"model": "meta-llama/Llama-3.1-8B", "gpu": "rtx-4090", "context": 8192, "max_new_tokens": 64}
ELEMENTS = (8192 - 64) * 2 * 32 * 8 * 128  # keys and values of the prompt


def answer(implementation: str = "quantized", **config: object) -> Served:
    return served(Inference.parse({**ASKED, "cache_implementation": implementation, **_config(config)}))


def _config(config: dict[str, object]) -> dict[str, object]:
    return {"cache_config": config} if config else {}


@pytest.mark.parametrize(
    ("config", "bits"),
    [
        ({}, 4 + 2 * 16 / 64),
        ({"nbits": 2, "q_group_size": 32}, 2 + 2 * 16 / 32),
        ({"backend": "hqq", "nbits": 8}, 8 + 2 * 16 / 64),
        ({"backend": "fp8"}, 8),
    ],
)
def test_a_quantized_cache_stands_with_its_bits_and_two_numbers_a_group(config: dict[str, object], bits: float) -> None:
    # Beside the prompt fp8 has each new token, and the others the last ones as they are.
    new = 63 * (8 if config.get("backend") == "fp8" else 16) * ELEMENTS / (8192 - 64)
    assert answer(**config).to_dict()["cache_bytes"] == pytest.approx((ELEMENTS * bits + new) / 8, rel=0.001)


def test_what_an_offloaded_cache_takes_of_the_host_is_said() -> None:
    told = {kind: answer(kind).to_dict()["host_bytes"] for kind in ("dynamic", "quantized", "offloaded")}
    assert (told["dynamic"], told["quantized"]) == (0, 0)
    assert told["offloaded"] == pytest.approx(32 * 8191 * 2 * 8 * 128 * 2, rel=0.001)


def test_of_an_offloaded_cache_one_layer_stands() -> None:
    assert answer("offloaded").to_dict()["cache_bytes"] == pytest.approx(8191 * 2 * 8 * 128 * 2, rel=0.001)


def test_more_context_fits_the_fewer_bits_it_takes() -> None:
    kinds = ("dynamic", "quantized", "offloaded")
    usual, quantized, offloaded = (answer(kind).limits()["context"] or 0 for kind in kinds)
    assert 0 < usual < quantized < offloaded


def test_once_the_residual_is_full_all_is_quantized_anew_beside_itself() -> None:
    before, after = (
        served(Inference.parse({**ASKED, "context": 8064 + new, "max_new_tokens": new, "batch": 8,
                                "gpu": "h100-sxm-80gb", "cache_implementation": "quantized"})).totals["decode"]
        for new in (128, 129)
    )  # fmt: skip
    of_a_layer = 8 * 8192 * 8 * 128 * 2
    assert after - before > 2 * of_a_layer


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
def test_other_engines_have_caches_of_their_own(engine: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        Inference.parse({**ASKED, "engine": engine, "cache_implementation": "quantized"})
    assert [problem.field for problem in refused.value.problems] == ["cache_implementation"]


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        ({"cache_implementation": "static"}, "cache_implementation", "CUDA graphs"),
        ({"cache_implementation": "paged"}, "cache_implementation", "must be"),
        ({"cache_config": {"nbits": 2}}, "cache_config", "write cache_implementation quantized"),
        ({"cache_implementation": "quantized", "cache_config": {"nbits": 8}}, "cache_config", "2 or 4"),
        ({"cache_implementation": "quantized", "cache_config": {"axis_key": 1}}, "cache_config", "0 or -1"),
        (
            {"cache_implementation": "quantized", "cache_config": {"backend": "hqq", "axis_value": -1}},
            "cache_config", "0 or 1",
        ),
        (
            {"cache_implementation": "quantized", "cache_config": {"backend": "fp8", "nbits": 4}},
            "cache_config", "nbits",
        ),
    ],
)  # fmt: skip
def test_what_no_backend_takes_is_named_with_the_fix(document: dict[str, object], field: str, words: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        Inference.parse({**ASKED, **document})
    (problem,) = refused.value.problems
    assert problem.field.startswith(field)
    assert words in problem.message


@pytest.mark.parametrize(
    "config", [{"axis_key": -1}, {"backend": "hqq", "q_group_size": 3 * 64, "nbits": 2}, {"q_group_size": 3 * 128}]
)
def test_a_prompt_that_no_groups_divide_is_refused_as_the_library_would(config: dict[str, object]) -> None:
    document = {**ASKED, "context": 1002, "cache_implementation": "quantized", "cache_config": config}
    with pytest.raises(InvalidRequestError) as refused:
        served(Inference.parse(document))
    assert [problem.field for problem in refused.value.problems] == ["cache_config"]


@pytest.mark.parametrize(
    ("model", "implementation"),
    [
        ("google/gemma-2-2b", "quantized"),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", "quantized"),
        ("deepseek-ai/DeepSeek-V2-Lite", "offloaded"),
    ],
)
def test_models_with_other_layers_are_refused_with_the_fix(model: str, implementation: str) -> None:
    document = {**ASKED, "model": model, "gpu": "h100-sxm-80gb", "cache_implementation": implementation}
    with pytest.raises(FitproofError, match="write dynamic"):
        served(Inference.parse(document))

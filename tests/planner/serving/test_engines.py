"""vLLM and llama.cpp by their own rules, beside what others read in their logs."""

import pytest

from planner.catalog import resolve_gpu
from planner.errors import InvalidRequestError
from planner.model.model import resolve_model
from planner.serving import llama_cpp, vllm
from planner.serving.answer import served
from planner.serving.request import Inference
from planner.units import GIB, MIB


def asked(model: str, gpu: str, engine: str, **more: object) -> Inference:
    return Inference.parse({"model": model, "gpu": gpu, "engine": engine, **more})


def cache_gib(model: str, weights_gib: float) -> float:
    request = asked(model, "h100-sxm-80gb", "vllm")
    found = vllm.shares(request, resolve_model(model), resolve_gpu(request.gpu), round(weights_gib * GIB))
    return found.cache_bytes / GIB


# Weights and cache that vLLM logged on an H100: planner/serving/vllm.py, SAMPLER_SOURCE.
@pytest.mark.parametrize(
    ("model", "weights_gib", "logged_gib"),
    [
        ("meta-llama/Llama-3.1-8B", 14.99, 51.38),
        ("Qwen/Qwen3-0.6B", 1.12, 64.45),
        ("openai/gpt-oss-20b", 13.47, 50.28),
        ("Qwen/Qwen3-32B", 61.03, 4.45),
    ],
)
def test_vllm_leaves_as_much_for_its_cache_as_it_logged(model: str, weights_gib: float, logged_gib: float) -> None:
    assert cache_gib(model, weights_gib) == pytest.approx(logged_gib, abs=0.1)


@pytest.mark.parametrize(("context", "verdict"), [(16_000, "fits"), (32_000, "does_not_fit")])
def test_qwen3_32b_started_with_16000_tokens_on_an_h100_and_not_with_32000(context: int, verdict: str) -> None:
    assert served(asked("Qwen/Qwen3-32B", "h100-sxm-80gb", "vllm", context=context)).verdict == verdict


def test_an_fp8_cache_takes_half() -> None:
    decoder = resolve_model("Qwen/Qwen3-8B").known_decoder()
    wide, narrow = (
        vllm.sequence_bytes(asked("Qwen/Qwen3-8B", "4090", "vllm", kv_cache_dtype=kind), decoder, 4096)
        for kind in ("auto", "fp8")
    )
    assert wide == 2 * narrow


def test_llama_cpp_loads_what_its_log_says_of_llama_3_8b_in_q4_k_m() -> None:
    request = asked("meta-llama/Llama-3.1-8B", "4090", "llama.cpp", context=8192)
    model = resolve_model(request.model)
    assert llama_cpp.weights_bytes(request, model) / MIB == pytest.approx(4403.49, abs=0.5)
    assert llama_cpp.slots_bytes(request, model.known_decoder()) == 1024 * MIB
    assert llama_cpp.compute_bytes(model.known_decoder()) / MIB == pytest.approx(258.5)


@pytest.mark.parametrize(("kind", "of_f16"), [("q8_0", 34 / 64), ("q4_0", 18 / 64)])
def test_a_quantized_cache_has_a_scale_for_every_32_numbers(kind: str, of_f16: float) -> None:
    decoder = resolve_model("Qwen/Qwen3-8B").known_decoder()
    narrow, wide = (
        llama_cpp.slots_bytes(asked("Qwen/Qwen3-8B", "4090", "llama.cpp", kv_cache_dtype=name), decoder)
        for name in (kind, "f16")
    )
    assert narrow == wide * of_f16


@pytest.mark.parametrize(
    ("engine", "more", "field"),
    [
        ("transformers", {"kv_cache_dtype": "fp8"}, "kv_cache_dtype"),
        ("llama.cpp", {"quantization": {"load_in_8bit": True}}, "quantization"),
        ("vllm", {"lora": {"r": 8}}, "lora"),
    ],
)
def test_what_an_engine_does_not_take_is_refused(engine: str, more: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        asked("Qwen/Qwen3-8B", "4090", engine, **more)
    assert [problem.field for problem in refused.value.problems] == [field]

"""The cache alone, by hand."""

import pytest

from planner.catalog import resolve_gpu
from planner.catalog.model_rows import model_catalog
from planner.model.model import resolve_model
from planner.serving.request import Inference
from planner.serving.transformers_generate import generated
from planner.step.attention.kv_cache import CACHE
from planner.step.cache_bytes import cache_bytes

LLAMA = resolve_model("meta-llama/Llama-3.1-8B").known_decoder()


def test_grouped_keys_and_values_of_llama_take_128_kib_a_token() -> None:
    assert cache_bytes(LLAMA, 1, 8192, each=2) == 8192 * 32 * 2 * 8 * 128 * 2


def test_users_multiply_it_and_a_narrower_type_divides_it() -> None:
    assert cache_bytes(LLAMA, 4, 1024, each=1) == cache_bytes(LLAMA, 1, 2048, each=2)


def test_a_window_bounds_what_a_sliding_layer_keeps() -> None:
    mistral = resolve_model("mistralai/Mistral-7B-v0.1").known_decoder()
    assert cache_bytes(mistral, 1, 32768, each=2) == cache_bytes(mistral, 1, 4096, each=2)
    assert cache_bytes(mistral, 1, 8192, each=2, windows=False) == 2 * cache_bytes(mistral, 1, 4096, each=2)


def test_latent_attention_keeps_a_latent_and_its_rotary_part() -> None:
    deepseek = resolve_model("deepseek-ai/DeepSeek-V3").known_decoder()
    assert cache_bytes(deepseek, 1, 4096, each=2) == 61 * 4096 * (512 + 64) * 2


@pytest.mark.parametrize("tokens", [1, 100_000])
def test_a_state_does_not_grow_with_the_context(tokens: int) -> None:
    hybrid = resolve_model("Qwen/Qwen3-Next-80B-A3B-Instruct").known_decoder()
    keys = 12 * 2 * 2 * 256 * 2 * tokens
    states = 36 * (32 * 128 * 128 * 4 + 8192 * 4 * 2)
    assert cache_bytes(hybrid, 1, tokens, each=2) == pytest.approx(keys + states, rel=0.001)


def test_an_indexer_keeps_its_own_keys() -> None:
    plain, chosen = (
        resolve_model({**resolve_model("deepseek-ai/DeepSeek-V3").config, "model_type": kind, **more}).known_decoder()
        for kind, more in (("deepseek_v3", {}), ("deepseek_v32", {"index_n_heads": 64, "index_head_dim": 128}))
    )
    assert cache_bytes(chosen, 1, 512, each=2) - cache_bytes(plain, 1, 512, each=2) == 61 * 512 * 128 * 2


def test_the_walk_of_every_known_model_leaves_the_cache_that_is_counted_here() -> None:
    gpu, missing = resolve_gpu("h100-sxm-80gb"), []
    for row in model_catalog().rows.values():
        model = resolve_model(row.id)
        if model.decoder is None:
            continue
        asked = Inference.parse({"model": row.id, "gpu": gpu.id, "context": 516, "max_new_tokens": 4})
        lines = generated(asked, model, gpu).lines
        left = sum(line.bytes for line in lines if line.name == CACHE and "prefill" in line.alive_in)
        whole = cache_bytes(model.decoder, 1, 512, each=2, windows=False, repeated=True)
        if not 0.8 * whole <= left <= whole:
            missing.append((row.id, left, whole))
    assert missing == []

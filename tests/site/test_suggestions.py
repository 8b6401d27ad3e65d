"""What people type, and what they mean by it."""

import re

import httpx
import pytest


def first(site: httpx.Client, kind: str, query: str) -> list[str]:
    answer = site.get(f"/suggest/{kind}", params={"q": query})
    assert answer.status_code == 200
    return re.findall(r'data-value="([^"]+)"', answer.text)


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("llama 8b", "meta-llama/Llama-3.1-8B"),
        ("llama 3 8b", "meta-llama/Meta-Llama-3-8B"),
        ("llama3 70b", "meta-llama/Meta-Llama-3-70B"),
        ("llama2 7b", "meta-llama/Llama-2-7b-hf"),
        ("qwen 7b", "Qwen/Qwen2.5-7B"),
        ("qwen3 30b", "Qwen/Qwen3-30B-A3B"),
        ("deepseek r1", "deepseek-ai/DeepSeek-R1"),
        ("phi4", "microsoft/phi-4"),
        ("gemma 9b", "google/gemma-2-9b"),
        ("mixtral", "mistralai/Mixtral-8x7B-v0.1"),
        ("gpt2", "openai-community/gpt2"),
        ("gpt oss", "openai/gpt-oss-20b"),
        ("tinyllama", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
        ("lama 8b", "meta-llama/Llama-3.1-8B"),
        ("quen 2.5 7b", "Qwen/Qwen2.5-7B"),
        ("deepsek r1", "deepseek-ai/DeepSeek-R1"),
    ],
)
def test_the_best_model_comes_first(site: httpx.Client, query: str, best: str) -> None:
    assert first(site, "models", query)[0] == best


@pytest.mark.parametrize("query", ["mistral", "mistrl"])
def test_a_family_shows_its_most_used(site: httpx.Client, query: str) -> None:
    assert all(found.startswith("mistralai/Mistral-7B") for found in first(site, "models", query)[:2])


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("4090", "rtx-4090"),
        ("rtx4090", "rtx-4090"),
        ("4o90", "rtx-4090"),
        ("3090 ti", "rtx-3090-ti"),
        ("3090ti", "rtx-3090-ti"),
        ("a6000", "rtx-a6000"),
        ("6000 ada", "rtx-6000-ada"),
        ("t4", "t4"),
        ("teslat4", "t4"),
        ("l40s", "l40s"),
        ("h100 80gb", "h100-sxm-80gb"),
        ("mi300", "mi300x"),
        ("laptop 4090", "rtx-4090-laptop"),
    ],
)
def test_the_best_card_comes_first(site: httpx.Client, query: str, best: str) -> None:
    assert first(site, "gpus", query)[0] == best


@pytest.mark.parametrize(
    ("query", "among"), [("24gb", "rtx-4090"), ("24 GB", "rtx-4090"), ("a100 80", "a100-sxm-80gb")]
)
def test_a_size_of_memory_finds_its_cards(site: httpx.Client, query: str, among: str) -> None:
    assert among in first(site, "gpus", query)[:4]


def test_a_hub_id_is_never_guessed_at(site: httpx.Client) -> None:
    assert first(site, "models", "nobody/Mistral-9B-v7") == []


def test_nonsense_and_markup_find_nothing_and_break_nothing(site: httpx.Client) -> None:
    for query in ("zzzzqqq", "<script>", "%00", "a" * 10_000, ""):
        assert site.get("/suggest/models", params={"q": query}).status_code == 200
    assert first(site, "nothing", "4090") == []

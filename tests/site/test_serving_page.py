"""The page that says what context fits, for how many users; and the pictures that only some plans have."""

import re
from html import unescape
from typing import get_args

import httpx
import pytest

from app.drawing.bars import Row, draw_bars
from app.views.pictures import passes, ranks
from app.views.serving.answer import ServingAnswer, parts_of
from app.views.serving.question import document_of, values_in
from planner.answer.plan import plan
from planner.ledger import Cause
from planner.request.schema import Request
from planner.serving.answer import served
from planner.serving.request import Inference
from planner.units import GIB

QWEN = {"model": "Qwen/Qwen3-8B", "gpu": "rtx-4090"}


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", unescape(html))).replace("\u202f", " ")


def test_the_page_says_what_context_fits_and_how_many_users(site: httpx.Client) -> None:
    asked = QWEN | {"context": "8192", "batch": "4", "weights": "nf4"}
    answer = site.get("/inference", params=asked)
    assert answer.status_code == 200
    limits = served(Inference.parse(document_of(values_in(asked))[0])).limits()
    said = text_of(answer.text)
    assert f"Up to {limits['context']:,} tokens for 4 users, or {limits['batch']:,} users with 8,192 tokens" in said
    assert "Modelled" not in said
    assert said.count("Longest context of each") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engine": "vllm"}, "Modelled by vLLM’s own rules"),
        ({"engine": "llama.cpp", "gguf": "Q8_0"}, "Modelled by llama.cpp’s own rules"),
        ({"gpu": "rtx-3060-12gb"}, "No context fits for certain"),
        ({"adapter_rank": "16"}, "Adapter"),
        ({"cache_implementation": "quantized", "cache_config": "backend=hqq,nbits=2"}, "cache, quantized"),
        ({"cache_implementation": "offloaded"}, "cache of the next layer"),
        ({"cache_implementation": "offloaded"}, "of host memory, where the cache is."),
    ],
)
def test_every_engine_and_an_adapter_can_be_asked_for(site: httpx.Client, change: dict[str, str], words: str) -> None:
    answer = site.get("/inference", params=QWEN | change)
    assert answer.status_code == 200
    assert words in text_of(answer.text)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"context": "many", "weights": "3bit", "adapter_rank": "x"}, {"context", "weights", "adapter_rank"}),
        ({"context": "64"}, {"context"}),
        ({"context": "many", "gpu": "nothing", "batch": "0"}, {"context", "gpu", "batch"}),
        ({"gpu": "nothing"}, {"gpu"}),
        ({"engine": "tgi", "batch": "0"}, {"engine", "batch"}),
        ({"engine": "vllm", "adapter_rank": "8"}, {"adapter_rank"}),
        ({"kv_cache_dtype": "q8_0"}, {"kv_cache_dtype"}),
        ({"cache_config": "nbits", "cache_implementation": "quantized"}, {"cache_config"}),
        ({"cache_config": "nbits=3", "cache_implementation": "quantized"}, {"cache_config"}),
        ({"cache_implementation": "static"}, {"cache_implementation"}),
    ],
)
def test_every_bad_control_is_named_where_it_stands(
    site: httpx.Client, change: dict[str, str], wrong: set[str]
) -> None:
    answer = site.get("/inference", params=QWEN | change)
    assert answer.status_code == 422
    assert set(re.findall(r'id="(\w+)-error"', answer.text)) == wrong
    assert set(re.findall(r'<li><a href="#(\w+)">', answer.text)) == wrong


def test_links_carry_what_their_page_reads_of_a_plan_and_nothing_else(site: httpx.Client) -> None:
    html = unescape(site.get("/plan", params=QWEN | {"max_length": "512", "lora_r": "8"}).text)
    links = dict(re.findall(r'href="(/[a-z]+)\?([^"]+)"', html.partition("<main")[0]))
    pair = "model=Qwen/Qwen3-8B&gpu=rtx-4090"
    assert links["/inference"] == pair
    assert links["/recommend"] == "gpu=rtx-4090"
    assert links["/map"] == links["/compare"] == f"{pair}&lora_r=8&max_length=512"
    assert f'<a href="/inference?{pair}">what context it serves' in html
    asked = site.get("/inference", params=QWEN | {"context": "8192"}).text
    assert f'href="/plan?{pair}"' in unescape(asked)


@pytest.mark.parametrize("engine", ["transformers", "vllm", "llama.cpp"])
def test_the_parts_of_a_served_model_add_up_to_what_it_needs(engine: str) -> None:
    found = served(Inference.parse({**QWEN, "engine": engine, "batch": 4}))
    parts = parts_of(found)
    assert sum(parts.values()) == found.required.likely
    assert min(parts["weights"], parts["cache"], parts["outside"]) > 0


def test_the_bars_show_the_question_the_longest_context_and_the_most_users() -> None:
    answer = ServingAnswer(served(Inference.parse(QWEN)))
    mine, longest, most = answer.bars.bars
    assert mine.marked
    assert mine.bytes < longest.bytes <= answer.found.usable_bytes
    assert mine.bytes < most.bytes <= answer.found.usable_bytes


FULL = {"model": "meta-llama/Llama-3.1-8B", "gpu": "rtx-3090", "method": "full", "gpus": 4}


@pytest.mark.parametrize(
    ("strategy", "held"),
    [
        ({"fsdp": "full_shard"}, {"shards", "flight"}),
        ({"deepspeed": "zero2"}, {"shards", "whole"}),
        ({"method": "lora"}, {"whole", "flight", "batch"}),
    ],
)
def test_each_card_is_drawn_as_shards_what_is_whole_and_what_is_in_flight(
    strategy: dict[str, object], held: set[str]
) -> None:
    planned = plan(Request.parse(FULL | strategy))
    parts = ranks.parts_of(planned)
    assert sum(parts.values()) == planned.required_bytes.likely
    assert {kind for kind in ("shards", "whole", "flight", "batch") if parts[kind] > GIB // 10} == held
    fullest, *_ = ranks.draw_ranks(planned).bars
    assert fullest.marked
    assert "rank 0" in fullest.name


def test_preference_training_is_drawn_with_its_passes_and_what_the_reference_adds() -> None:
    full = {"model": "Qwen/Qwen2.5-7B", "gpu": "h100-sxm-80gb", "method": "full", "stack": "trl"}
    planned = plan(Request.parse(full | {"training": {"objective": "dpo"}}))
    assert [words.partition(",")[0] for words in passes.passes_in_words(planned.recipe)] == [
        "the policy", "the reference", "the policy",
    ]  # fmt: skip
    mine, *others = passes.draw_passes(planned).bars
    assert mine.bytes == planned.required_bytes.likely
    assert "reference" in {part.kind for part in mine.parts}
    assert {bar.name for bar in others} == {"supervised, for comparison", "reference scores worked out before"}
    assert all(bar.bytes < mine.bytes for bar in others)


def test_grpos_passes_begin_with_generation_and_stand_beside_supervised_training() -> None:
    training = {"objective": "grpo", "max_length": 1024, "beta": 0.1, "per_device_train_batch_size": 2}
    planned = plan(Request.parse({"model": "Qwen/Qwen2.5-7B", "gpu": "rtx-4090", "training": training}))
    assert [words.partition(":")[0] for words in passes.passes_in_words(planned.recipe)] == [
        "the policy, generation", "the reference, forward", "the policy, forward", "the policy, backward",
    ]  # fmt: skip
    assert [bar.name for bar in passes.draw_passes(planned).bars] == ["this plan", "supervised, for comparison"]


def test_these_pictures_are_on_the_plans_that_ask_for_them_alone(site: httpx.Client) -> None:
    path = "/plan?model=meta-llama/Llama-3.1-8B&gpu=rtx-4090"
    for change, shown in ((path, set()), (f"{path}&gpus=2", {"ranks"}), (f"{path}&objective=dpo", {"passes"})):
        html = site.get(change).text
        assert {name for name in ("ranks", "passes") if f'id="{name}-title"' in html} == shown


def test_every_kind_has_a_word_and_the_colour_of_a_cause() -> None:
    causes = {*get_args(Cause), "rest"}
    for part in (passes, ranks):
        assert part.WORDS.keys() == part.COLOURS.keys()
        assert set(part.COLOURS.values()) <= causes


def test_bars_are_to_one_scale_and_leave_out_what_weighs_nothing() -> None:
    picture = draw_bars([Row("a", {"x": GIB, "y": 0, "z": GIB}), Row("b", {"z": 4 * GIB}, marked=True)], 3 * GIB)
    first, second = picture.bars
    assert [part.kind for part in first.parts] == ["x", "z"]
    assert first.parts[1].x == first.parts[0].width
    assert second.parts[0].width == pytest.approx(4 * first.parts[0].width, abs=0.01)
    assert picture.usable_x == pytest.approx(3 * first.parts[0].width, abs=0.01)
    assert second.y > first.y + picture.thickness
    assert picture.kinds == ("x", "z")

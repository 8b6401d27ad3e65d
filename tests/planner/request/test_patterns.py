import time

import pytest

from planner.answer.plan import plan
from planner.errors import InvalidRequestError
from planner.request.schema import Request
from planner.request.validation.patterns import checked_pattern

MODEL = {"model": "meta-llama/Llama-2-7b-hf", "gpu": "rtx-4090"}


@pytest.mark.parametrize(
    "text",
    [
        "all-linear",
        r".*\.(q|k|v)_proj",
        r"^model\.layers\.\d+\.(self_attn|mlp)\.(q_proj|v_proj)$",
        ".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$",
        r".*layers\.(?:[0-9]|1[0-9])\.(self_attn|attention|attn|mlp)\.(q|k|v|o|gate|up|down)_proj",
        "x{1,3}",
        "(?:ab){2}",
    ],
)
def test_the_patterns_people_write_are_taken(text: str) -> None:
    assert checked_pattern(text) == text


@pytest.mark.parametrize(
    "text", ["(.*)*x", "(a+)+$", "(a|a)*b", "(?:a|ab)+c", ".*" * 5 + "x", "(.|.)" * 20 + "!", "a?" * 20, r"(.*)\1"]
)
def test_a_pattern_that_could_take_for_ever_is_refused_before_it_is_tried(text: str) -> None:
    started = time.monotonic()
    for document in ({"lora": {"target_modules": text}}, {"load_in_4bit": True, "llm_int8_skip_modules": [text]}):
        with pytest.raises(InvalidRequestError) as caught:
            plan(Request.parse(MODEL | document))
        (problem,) = caught.value.problems
        assert "write a list of module names" in problem.message
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("text", [".*" * 4 + "!", "(?:.?)" * 12 + "!", ".*.*" + ".?" * 6 + "!"])
def test_the_slowest_pattern_that_is_taken_answers_soon(text: str) -> None:
    started = time.process_time()
    with pytest.raises(InvalidRequestError, match="No module"):
        plan(Request.parse(MODEL | {"lora": {"target_modules": text}}))
    assert time.process_time() - started < 3


@pytest.mark.parametrize("text", ["(", "[", "*", "(?P<n>"])
def test_what_is_no_pattern_is_named(text: str) -> None:
    for document in ({"lora": {"target_modules": text}}, {"load_in_4bit": True, "llm_int8_skip_modules": [text]}):
        with pytest.raises(InvalidRequestError) as caught:
            Request.parse(MODEL | document)
        (problem,) = caught.value.problems
        assert "no regular expression" in problem.message

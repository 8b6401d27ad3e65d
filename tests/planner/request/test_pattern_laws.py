"""Laws of pattern matching: what peft and transformers would say, and in time linear in names and patterns."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.answer.plan import plan
from planner.errors import InvalidRequestError
from planner.request.schema import Request
from planner.request.validation.patterns import MOST_NAMES, Matcher, SkipList, checked_list, checked_pattern
from planner.request.validation.re2_syntax import compiled, linear_text

NAMES = [
    "lm_head",
    "model.embed_tokens",
    "model.layers.0.self_attn.q_proj",
    "model.layers.11.self_attn.o_proj",
    "model.layers.1.mlp.gate_proj",
    "model.layers.10.mlp.experts.3.down_proj",
    "model.language_model.layers.7.linear_attn.in_proj_qkvz",
    "visual.blocks.2.attn.qkv",
]
LARGE = {"model_type": "llama", "num_hidden_layers": 1024, "hidden_size": 64, "intermediate_size": 64,
         "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": 64,
         "architectures": ["LlamaForCausalLM"]}  # fmt: skip

_atoms = st.sampled_from(
    ["model", "layers", "q_proj", "proj", "mlp", "lm_head", "visual", "1", "0", r"\.", ".", r"\d", r"\w", "[a-z]",
     "[^.]", "[0-9_]", "(q|k|v|o)", "(?:self_attn|mlp)", "(gate|up)?", "^", "$", r"\b", r"\Z", "(?!visual)",
     "(?<=attn)", "(?:)", "Q", "(?i:Q)", "{", "x{,2}"]
)  # fmt: skip
_repeats = st.sampled_from(["", "", "", "", "*", "+", "?", "*?", "{1,3}", "{2}", "*+"])
_flags = st.sampled_from(["", "", "", "(?i)", "(?s)", "(?x)"])
_patterns = st.builds(
    lambda flags, parts: flags + "".join(atom + repeat for atom, repeat in parts),
    _flags,
    st.lists(st.tuples(_atoms, _repeats), min_size=1, max_size=7),
)


def kept_by_transformers(name: str, pattern: str) -> bool:
    """As transformers 5.23 says in quantizers/quantizers_utils.py, should_convert_module."""
    return bool(re.match(rf"(?:{pattern})(?:(?<=\.)|(?=\.|$))", name)) or name.endswith(pattern)


def taken(text: str) -> bool:
    try:
        checked_list((checked_pattern(text),))
    except ValueError:
        return False
    return True


@given(_patterns)
@settings(max_examples=1500, deadline=None)
def test_a_pattern_of_targets_names_what_peft_would_adapt(text: str) -> None:
    try:
        checked_pattern(text)
    except ValueError:
        return
    matcher = Matcher(text)
    assert [matcher.matches(name) for name in NAMES] == [re.fullmatch(text, name) is not None for name in NAMES]


@given(st.lists(_patterns.filter(taken), min_size=1, max_size=3))
@settings(max_examples=1500, deadline=None)
def test_a_skip_list_keeps_what_transformers_would_keep(patterns: list[str]) -> None:
    skipped = SkipList(patterns)
    assert [skipped.holds(name) for name in NAMES] == [
        any(kept_by_transformers(name, pattern) for pattern in patterns) for name in NAMES
    ]


@pytest.mark.parametrize(
    "quantization",
    [
        {"llm_int8_skip_modules": [f"model.layers.{number}.mlp" for number in range(MOST_NAMES)]},
        {"llm_int8_skip_modules": [f".*.*.*.*{number}x" for number in range(8)]},
        {"llm_int8_skip_modules": [f"(?:[a-z]{{300}}.*){number}" for number in range(32)]},
        {"llm_int8_skip_modules": [f"^(?!.*vis{number}).*z" for number in range(16)]},
    ],
)
def test_the_longest_skip_list_that_is_taken_answers_soon(quantization: dict[str, list[str]]) -> None:
    started = time.process_time()
    plan(Request.parse({"model": LARGE, "gpu": "rtx-4090", "load_in_4bit": True} | quantization))
    assert time.process_time() - started < 6


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"load_in_4bit": True, "llm_int8_skip_modules": ["x"] * 513}, "llm_int8_skip_modules"),
        ({"load_in_4bit": True, "llm_int8_skip_modules": [".*.*.*.*x"] * 60}, "llm_int8_skip_modules"),
        ({"load_in_4bit": True, "llm_int8_skip_modules": ["(?i)x"]}, "llm_int8_skip_modules"),
        ({"lora": {"target_modules": ["x"] * 513}}, "lora.target_modules"),
    ],
)
def test_a_list_that_is_too_much_is_refused_at_its_field(document: dict[str, object], field: str) -> None:
    started = time.process_time()
    with pytest.raises(InvalidRequestError) as caught:
        Request.parse({"model": "meta-llama/Llama-2-7b-hf", "gpu": "rtx-4090", **document})
    assert [problem.field for problem in caught.value.problems] == [field]
    assert time.process_time() - started < 1


def test_the_guarded_parse_tree_of_re_is_what_the_translation_expects() -> None:
    for text in (r"^model\.layers\.\d+\.(self_attn|mlp)\.(q|v)_proj$", ".*decoder.*(q|v)$", "(?i)Q[^a-c]{2,}?"):
        assert compiled([linear_text(text)]).fullmatch("") is None

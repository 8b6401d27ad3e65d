"""The query string and the request document say the same."""

from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.forms.fields import FIELDS
from app.forms.plan_form import changed, field_at, query_of, read_form
from planner.answer.plan import plan
from planner.errors import FieldProblem, InvalidRequestError
from planner.model.model import resolve_model
from planner.request.schema import Request


def form(query: str) -> dict[str, object]:
    return read_form(parse_qsl(query)).document


def there_and_back(document: dict[str, object]) -> None:
    request = Request.parse(document)
    query = query_of(request.model_dump(mode="json"))
    assert Request.parse(form(query)) == request, query


training = st.fixed_dictionaries(
    {},
    optional={
        "per_device_train_batch_size": st.integers(1, 64),
        "gradient_accumulation_steps": st.integers(1, 64),
        "max_length": st.integers(1, 100_000),
        "gradient_checkpointing": st.booleans(),
        "use_reentrant": st.booleans(),
        "padded": st.booleans(),
        "expandable_segments": st.booleans(),
        "optim": st.sampled_from(["adamw_torch", "paged_adamw_8bit", "sgd", "adafactor"]),
        "attn_implementation": st.sampled_from([None, "sdpa", "eager"]),
        "loss": st.sampled_from([None, "full_logits", "chunked", "liger"]),
        "max_grad_norm": st.sampled_from([0.0, 0.3, 1.0]),
    },
)
lora = st.fixed_dictionaries(
    {},
    optional={
        "r": st.integers(1, 512),
        "lora_alpha": st.sampled_from([8.0, 16.0, 64.0]),
        "lora_dropout": st.sampled_from([0.0, 0.05, 0.5]),
        "target_modules": st.sampled_from(["all-linear", ["q_proj", "v_proj"], ["q_proj"]]),
        "use_dora": st.booleans(),
    },
)
quantization = st.sampled_from(
    [
        None,
        {"load_in_4bit": True},
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "float16"},
        {"load_in_4bit": True, "bnb_4bit_use_double_quant": True, "llm_int8_skip_modules": ["lm_head"]},
    ]
)
stack = st.sampled_from(
    ["trainer", "trl", "kbit", "loop", {"model_dtype": "float16", "kbit_preparation": True, "outputs_kept": True}]
)


@given(training=training, lora=lora, quantization=quantization, stack=stack)
def test_every_request_survives_the_way_through_its_address(
    training: object, lora: object, quantization: object, stack: object
) -> None:
    there_and_back(
        {"model": "a/b", "gpu": "t4", "training": training, "lora": lora, "quantization": quantization, "stack": stack}
    )


words = st.one_of(
    st.sampled_from(["q_proj", "all-linear", "linear-names", "x,y", " x ", "[q]_proj", '"', "[", "a\u00a0"]),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=8),
)
patterns = st.sampled_from(
    [r".*\.(q|v)_proj", "q_proj", "[qk]_proj", ".*,x", '".*"', "all-linear", "All-Linear", "a.*b"]
)
floats = st.floats(0.001, 1e6, allow_nan=False)
any_lora = st.fixed_dictionaries(
    {},
    optional={
        "r": st.integers(1, 8192),
        "lora_alpha": floats,
        "lora_dropout": st.floats(0, 0.999),
        "target_modules": st.one_of(patterns, st.lists(words, max_size=3)),
        "use_dora": st.booleans(),
        "use_rslora": st.booleans(),
    },
)
any_quantization = st.fixed_dictionaries(
    {},
    optional={
        "bnb_4bit_quant_type": st.sampled_from(["nf4", "fp4"]),
        "bnb_4bit_use_double_quant": st.booleans(),
        "bnb_4bit_compute_dtype": st.sampled_from(["float32", "float16", "bfloat16"]),
        "llm_int8_skip_modules": st.one_of(st.none(), st.lists(patterns, max_size=3)),
        "group_size": st.sampled_from([32, 64, 128]),
    },
)
kinds = st.sampled_from([{}, {"load_in_4bit": True}, {"load_in_8bit": True}, {"quant_method": "hqq"}])
stacks = st.one_of(
    st.sampled_from(["trainer", "trl", "kbit", "loop"]),
    st.fixed_dictionaries(
        {},
        optional={
            "model_dtype": st.sampled_from(["float32", "float16", "bfloat16"]),
            "autocast": st.sampled_from([None, "float16", "bfloat16"]),
            "adapter_dtype": st.sampled_from(["float32", "bfloat16"]),
            "outputs_kept": st.booleans(),
        },
    ),
)
cards = st.one_of(
    words,
    st.fixed_dictionaries(
        {
            "total_memory_bytes": st.integers(1 << 28, 1 << 44),
            "compute_capability": st.sampled_from(["7.5", "8.9", "12.0"]),
        },
        optional={"name": words},
    ),
)
models = st.one_of(words, st.dictionaries(words, st.one_of(st.none(), st.integers(), floats, words, st.booleans())))


@settings(max_examples=400, deadline=None)
@given(
    model=models,
    gpu=cards,
    method=st.sampled_from(["qlora", "lora", "full"]),
    quantization=st.one_of(st.none(), st.builds(lambda kind, rest: kind | rest, kinds, any_quantization)),
    lora=any_lora,
    training=training,
    clip=floats,
    stack=stacks,
)
def test_the_address_is_the_plan_whatever_the_plan_is(clip: float, **document: Any) -> None:
    document["training"] = {**document["training"], "max_grad_norm": clip}
    try:
        request = Request.parse(document)
    except InvalidRequestError:
        return
    there_and_back(request.model_dump(mode="json"))


def test_the_addresses_that_people_read_stay_plain() -> None:
    for document, query in [
        ({"lora": {"target_modules": ["q_proj", "v_proj"]}}, "target_modules=q_proj,v_proj"),
        ({"load_in_8bit": True, "bnb_4bit_compute_dtype": "bfloat16"},
         "quantization=int8&bnb_4bit_use_double_quant=off"),
        ({"lora": {"target_modules": ".*_proj"}}, "target_modules=%22.%2A_proj%22"),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
          "bnb_4bit_compute_dtype": "bfloat16", "llm_int8_skip_modules": []}, "llm_int8_skip_modules=%5B%5D"),
    ]:  # fmt: skip
        whole = Request.parse({"model": "a/b", "gpu": "t4"} | document).model_dump(mode="json")
        assert query_of(whole) == f"model=a/b&gpu=t4&{query}"


def test_a_control_that_somebody_moves_is_what_is_meant() -> None:
    kept = query_of(Request.parse({"model": "a/b", "gpu": "t4", "method": "full", "lora": {"r": 8}}).model_dump())
    assert "also" in kept
    moved = form(kept.replace("method=full", "method=lora") + "&lora_r=4")
    assert moved["lora"] == {"r": 4}


def test_every_setting_of_a_request_has_its_place_in_the_address() -> None:
    full = Request.parse({"model": "a/b", "gpu": "t4", "stack": {}}).model_dump(mode="json")
    leaves = {(section, key) for section, part in full.items() if isinstance(part, dict) for key in part}
    told_by_one_control = {("quantization", key) for key in ("quant_method", "load_in_4bit", "load_in_8bit")}
    told_by_one_control.add(("quantization", "bnb_4bit_quant_type"))
    told_by_the_checkpoint = {("quantization", "bits"), ("quantization", "weight_block_size")}
    assert leaves - told_by_one_control - told_by_the_checkpoint <= {item.path for item in FIELDS}


def test_a_described_card_and_a_pasted_config_survive_it_too() -> None:
    gpu = {"total_memory_bytes": 25_000_000_000, "compute_capability": "8.6", "name": "mine"}
    there_and_back({"model": {"model_type": "llama", "hidden_size": 64}, "gpu": gpu, "method": "lora"})


def test_a_model_typed_over_a_pasted_config_is_the_one_that_is_meant() -> None:
    assert form('model=a/b&config={"model_type": "llama"}&gpu=t4')["model"] == "a/b"


def test_defaults_are_not_in_the_address() -> None:
    document = Request.parse({"model": "a/b", "gpu": "t4"}).model_dump(mode="json")
    assert query_of(document) == "model=a/b&gpu=t4"


def test_settings_of_another_method_are_left_out() -> None:
    assert "quantization" not in form("model=a&gpu=t4&method=full&quantization=fp4&lora_r=8")
    assert "lora" not in form("model=a&gpu=t4&method=full&lora_r=8")


def test_advice_is_applied_by_dotted_path_and_leaves_the_original_alone() -> None:
    document = {"model": "a", "training": {"max_length": 10}}
    assert changed(document, {"training.max_length": 5, "lora.r": 2}) == {
        "model": "a", "training": {"max_length": 5}, "lora": {"r": 2},
    }  # fmt: skip
    assert document["training"] == {"max_length": 10}


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("max_length=many", "max_length"),
        ("lora_dropout=some", "lora_dropout"),
        ("gradient_checkpointing=perhaps", "gradient_checkpointing"),
        ("quantization=int3", "quantization"),
        ("gpu_memory=lots", "gpu_memory"),
        ("config=nonsense", "config"),
        ("config=" + "[" * 20_000, "config"),
    ],
)
def test_what_cannot_be_read_is_an_error_at_its_control(query: str, name: str) -> None:
    assert list(read_form(parse_qsl(query)).errors) == [name]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("training.max_length", "max_length"),
        ("lora.target_modules.0", "target_modules"),
        ("gpu.compute_capability", "compute_capability"),
        ("gpu", "gpu"),
        ("model.hidden_size", "model"),
        ("quantization", "quantization"),
        ("something.else", "model"),
    ],
)
def test_a_problem_of_the_document_finds_its_control(path: str, name: str) -> None:
    assert field_at(path) == name


def test_a_refused_form_keeps_everything_else() -> None:
    read = read_form([("model", "a"), ("max_length", "5"), ("utm_source", "x")])
    refused = read.refused([FieldProblem("training.max_length", "too short")])
    assert refused.errors == {"max_length": "too short"}
    assert refused.values["model"] == "a"
    assert refused.ignored == ("utm_source",)


def test_a_checkpoints_own_quantization_comes_from_its_config_again() -> None:
    config = {**resolve_model("meta-llama/Meta-Llama-3-8B").config, "quantization_config": {"quant_method": "awq"}}
    answer = plan(Request.parse({"model": config, "gpu": "rtx-4090"}))
    again = read_form(parse_qsl(query_of(answer.request.model_dump(mode="json"))))
    assert plan(Request.parse(again.document)).required_bytes == answer.required_bytes

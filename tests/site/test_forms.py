"""The query string and the request document say the same."""

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fields import FIELDS
from app.forms import changed, field_at, query_of, read_form
from planner.errors import FieldProblem
from planner.model import resolve_model
from planner.plan import plan
from planner.request import Request


def form(query: str) -> dict[str, object]:
    return read_form(parse_qsl(query)).document


def there_and_back(document: dict[str, object]) -> None:
    request = Request.parse(document)
    again = Request.parse(form(query_of(request.model_dump(mode="json"))))
    assert again == request


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

import json
from typing import Any

import httpx
import pytest

from app.examples import PLAN_REQUESTS
from app.schemas.plan import PlanDocument
from planner.answer.plan import plan
from planner.request.schema import Request
from tests.app.hub_server import CONFIG, FakeHub

MODEL = "meta-llama/Llama-2-7b-hf"


def asked(**changes: Any) -> dict[str, Any]:
    return {"model": MODEL, "gpu": "rtx-4090", **changes}


def post(client: httpx.Client, document: object) -> httpx.Response:
    return client.post("/api/v1/plans", json=document)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, str]:
    """The messages of a problem by field, after the checks that hold for every problem."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["code"] == code
    assert document["type"] == f"urn:fitproof:problem:{code}"
    assert document["title"]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    return {error["field"]: error["message"] for error in document["errors"]}


@pytest.mark.parametrize("name", PLAN_REQUESTS)
def test_every_example_of_the_documentation_is_answered_as_documented(client: httpx.Client, name: str) -> None:
    answer = post(client, PLAN_REQUESTS[name])
    assert answer.status_code == 200, answer.text
    PlanDocument.model_validate_json(answer.text)


def test_the_answer_is_the_plan(client: httpx.Client) -> None:
    assert post(client, asked()).json() == plan(Request.parse(asked())).to_dict()


def test_the_first_true_answer(client: httpx.Client) -> None:
    answer = post(client, asked()).json()
    assert answer["verdict"] == "fits"
    assert answer["headroom_bytes"] == answer["usable_bytes"] - answer["required_bytes"]["likely"]
    peak = sum(line["bytes"] for line in answer["lines"] if answer["peak_phase"] in line["alive_in"])
    assert peak == answer["peak_allocated_bytes"]


def test_does_not_fit_is_an_answer(client: httpx.Client) -> None:
    answer = post(client, asked(model="meta-llama/Llama-2-70b-hf", gpu="rtx-3060-12gb"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["verdict"] == "does_not_fit"


def test_a_pasted_config_is_planned_without_the_hub(client: httpx.Client, hub: FakeHub) -> None:
    before = len(hub.asked)
    assert post(client, asked(model=CONFIG)).status_code == 200
    assert len(hub.asked) == before


def test_a_model_of_the_hub_is_planned(client: httpx.Client, hub: FakeHub) -> None:
    hub.publish("acme/from-the-hub")
    answer = post(client, asked(model="acme/from-the-hub"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"]["id"] == "acme/from-the-hub"
    assert answer.json()["peak_allocated_bytes"] == post(client, asked(model=CONFIG)).json()["peak_allocated_bytes"]


def test_the_same_request_has_the_same_answer_in_the_chapters_flat_spelling(client: httpx.Client) -> None:
    nested = post(client, asked(lora={"r": 8}, quantization={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}))
    flat = post(client, asked(lora_r=8, load_in_4bit=True, bnb_4bit_quant_type="nf4"))
    assert nested.json() == flat.json()


# Bad input ------------------------------------------------------------------------------------------------------------


def test_an_unknown_model_is_missing_here_and_on_the_hub(client: httpx.Client) -> None:
    said = problem(post(client, asked(model="acme/never-was")), 404, "unknown_model")
    assert "config.json" in said["model"]


def test_a_mistyped_model_gets_suggestions(client: httpx.Client) -> None:
    answer = post(client, asked(model="meta-llama/Llama-2-7b-fh"))
    problem(answer, 404, "unknown_model")
    assert MODEL in answer.text


def test_an_unknown_card_is_named_with_the_way_out(client: httpx.Client) -> None:
    assert "total_memory_bytes" in problem(post(client, asked(gpu="rtx-9999-zz")), 404, "unknown_gpu")["gpu"]


def test_an_unknown_model_on_an_unknown_card_names_both(client: httpx.Client) -> None:
    said = problem(post(client, asked(model="acme/never-was", gpu="rtx-9999-zz")), 422, "invalid_request")
    assert set(said) == {"model", "gpu"}


def test_a_gated_model_is_said_to_be_gated(client: httpx.Client, hub: FakeHub) -> None:
    hub.say("/acme/gated/resolve/main/config.json", 403, x_error_code="GatedRepo")
    assert "HF_TOKEN" in problem(post(client, asked(model="acme/gated")), 403, "gated_model")["model"]


def test_an_architecture_without_formulas_names_the_dry_run(client: httpx.Client) -> None:
    answer = post(client, asked(model={"model_type": "mamba2", "hidden_size": 8}))
    assert "dry run" in problem(answer, 422, "unknown_architecture")["model"]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../../etc/passwd", "./tests", "C:\\model", "file:///etc", "http://10.0.0.1/x"]
)
def test_a_name_never_opens_a_file_or_an_address(client: httpx.Client, hub: FakeHub, name: str) -> None:
    before = len(hub.asked)
    assert "model" in problem(post(client, asked(model=name)), 404, "unknown_model")
    assert len(hub.asked) == before


def test_every_bad_field_is_named_at_once(client: httpx.Client) -> None:
    answer = post(
        client,
        {
            "model": "no such model!",
            "gpu": "rtx-9999-zz",
            "colour": "red",
            "lora": {"r": 1_000_000, "rnak": 1},
            "training": {"max_length": -1, "optim": "adam", "per_device_train_batch_size": 1.5},
        },
    )
    said = problem(answer, 422, "invalid_request")
    assert said.keys() == {
        "model", "gpu", "colour", "lora.r", "lora.rnak", "training.max_length", "training.optim",
        "training.per_device_train_batch_size",
    }  # fmt: skip
    assert said["lora.r"] == "must be at most 8192; got 1000000"
    assert said["training.max_length"] == "must be at least 1; got -1"
    assert "unknown key" in said["colour"]


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"gpu": 4090}, "gpu", 'write a catalogue id such as "rtx-4090", or total_memory_bytes and compute_capability'),
        ({"gpu": {"compute_capability": "8.9"}}, "gpu.total_memory_bytes", "is required"),
        (
            {"gpu": {"total_memory_bytes": 24 << 30, "compute_capability": "8"}},
            "gpu.compute_capability",
            'write major.minor as NVIDIA does, such as "8.9"; got 8',
        ),
        ({"lora": {"target_modules": []}}, "lora.target_modules", "names nothing; modules: q_proj"),
        ({"lora": {"trainable_token_indices": []}}, "lora.trainable_token_indices", "must name at least 1"),
        ({"model": None}, "model", "write a catalogue id, a hub id"),
        ({"stack": "deepspeed"}, "stack", "must be trainer, trl, kbit, loop or unsloth"),
        ({"stack": {"autocast": "int3"}}, "stack.autocast", "must be float16 or bfloat16"),
        ({"trainig": {}}, "trainig", "did you mean training?"),
        ({"lora": {"target_modules": 7}}, "lora.target_modules", 'write "all-linear"'),
        ({"lora_r": 0}, "lora_r", "must be at least 1; got 0"),
        ({"lora_r": 8, "lora": {"r": 16}}, "lora_r", "contradicts lora.r"),
        ({"training": {"gradient_checkpointing": "yes"}}, "training.gradient_checkpointing", "must be true or false"),
        ({"lora": {"lora_dropout": "0.1"}}, "lora.lora_dropout", "must be a number"),
        ({"method": "lora", "load_in_4bit": True}, "quantization", "use method qlora"),
    ],
)
def test_one_bad_field_gets_one_sentence(client: httpx.Client, changes: Any, field: str, message: str) -> None:
    assert message in problem(post(client, asked(**changes)), 422, "invalid_request")[field]


@pytest.mark.parametrize(
    "cards", [{"device_map": "auto", "max_memory": {"0": "10GiB", "1": "20GiB"}}, {"device_map": {"": 0, "lm_head": 1}}]
)
def test_maps_of_cards_are_answered(client: httpx.Client, cards: dict[str, Any]) -> None:
    answer = post(client, asked(gpus=2, **cards))
    assert answer.status_code == 200, answer.text


def test_a_map_that_leaves_weights_out_is_refused_by_their_names(client: httpx.Client) -> None:
    said = problem(post(client, asked(gpus=2, device_map={"model.layers.0": 0})), 422, "invalid_request")
    assert "no card for model.embed_tokens, model.layers.1" in said["device_map"]


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"7", b"null", b"true"])
def test_a_document_that_is_no_object_is_refused(client: httpx.Client, body: bytes) -> None:
    assert "must be an object" in problem(send(client, body), 422, "invalid_request")["request"]


def test_an_empty_object_names_what_is_missing(client: httpx.Client) -> None:
    assert problem(post(client, {}), 422, "invalid_request") == {"model": "is required", "gpu": "is required"}


def test_thousands_of_bad_keys_are_not_repeated_back(client: httpx.Client) -> None:
    answer = post(client, asked(**{f"key{number}": 0 for number in range(9_000)}))
    said = problem(answer, 422, "invalid_request")
    assert "8900 more problems" in said["request"]
    assert len(answer.content) < 30_000


def test_a_document_of_too_many_values_is_refused(client: httpx.Client) -> None:
    said = problem(post(client, asked(model={"id2label": [0] * 20_000})), 400, "invalid_json")
    assert "more than 10000 values" in said["request"]


def send(client: httpx.Client, body: bytes, content_type: str = "application/json") -> httpx.Response:
    return client.post("/api/v1/plans", content=body, headers={"content-type": content_type})


@pytest.mark.parametrize(
    "body",
    [b"", b"words", b"{", b'{"model": NaN}', b'{"a": 1, "a": 2}', b"\xff\xfe", b"[" * 500_000, b"[" * 40 + b"]" * 40],
    ids=["empty", "words", "open", "nan", "twice", "bytes", "abyss", "deep"],
)
def test_what_is_not_json_is_refused(client: httpx.Client, body: bytes) -> None:
    assert problem(send(client, body), 400, "invalid_json")


def test_deep_nesting_inside_a_config_is_refused(client: httpx.Client) -> None:
    config: dict[str, Any] = {}
    for _ in range(100):
        config = {"text_config": config}
    assert "nests deeper" in str(problem(post(client, asked(model=config)), 400, "invalid_json"))


def test_ten_megabytes_are_refused(client: httpx.Client) -> None:
    body = json.dumps(asked(model="x" * 10_000_000)).encode()
    assert "1048576 bytes" in problem(send(client, body), 413, "body_too_large")["request"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_a_body_that_is_not_marked_as_json_is_refused(client: httpx.Client, content_type: str) -> None:
    said = problem(send(client, json.dumps(asked()).encode(), content_type), 415, "unsupported_media_type")
    assert "application/json" in said["content-type"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"])
def test_every_spelling_of_json_is_accepted(client: httpx.Client, content_type: str) -> None:
    assert send(client, json.dumps(asked()).encode(), content_type).status_code == 200


def test_an_address_nobody_serves_is_a_problem(client: httpx.Client) -> None:
    problem(client.get("/api/v1/nowhere"), 404, "not_found")


def test_a_method_nobody_serves_names_those_that_are(client: httpx.Client) -> None:
    answer = client.delete("/api/v1/plans")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_a_browser_is_shown_a_page_outside_the_api(client: httpx.Client) -> None:
    answer = client.get("/nowhere", headers={"accept": "text/html"})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    problem(client.get("/api/nowhere", headers={"accept": "text/html"}), 404, "not_found")

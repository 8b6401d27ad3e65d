"""Whatever a stranger sends is answered or refused: never a 5xx, at any door."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.forms.fields import FIELDS
from app.imports.rules import words
from app.main import create_app
from app.settings import Settings
from tests.service.forking import forked_template

LAW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
PLAN = {"model": "Qwen/Qwen2.5-0.5B", "gpu": "rtx-4090"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    data_dir: Path = tmp_path_factory.mktemp("data")
    with TestClient(
        create_app(Settings(data_dir=data_dir, hub_offline=True, local_access=True), start_template=forked_template),
        base_url="http://127.0.0.1:8000",
        client=("127.0.0.1", 50000),
        raise_server_exceptions=False,
        follow_redirects=False,
    ) as client:
        yield client


odd_text = st.one_of(
    st.sampled_from(
        [
            "",
            "\x00",
            "x\x00y",
            "\x1b[0m",
            "\x7f",
            "\x85",
            "\ud800",
            "//[",
            "http://[::1",
            "(?i)x",
            "(?P<a>",
            "%00",
            "9" * 310,
            "1" * 5000,
            "1e999",
            "-0",
            "nan",
            "inf",
            "on",
            "null",
            "{}",
            "[]",
            '{"a":',
            "all-linear",
            "٣",
            "\u2028",
            "a&b=c",
        ]
    ),
    st.text(max_size=20),
)
odd_value = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([0, -1, 2**31, 2**53, 2**63, 2**64, 10**80, 1e308, -1e308, 1e-320, 0.1]),
        odd_text,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(odd_text, inner, max_size=3)),
    max_leaves=6,
)
# Sizes stay ordinary here: what a page draws for absurd ones is no question of reading.
_sizes = {"max_length", "per_device_train_batch_size"}
addresses = st.lists(
    st.tuples(st.sampled_from([field.name for field in FIELDS if field.name not in _sizes] + ["x"]), odd_text),
    max_size=5,
).map(lambda pairs: urlencode([*PLAN.items(), *pairs], errors="surrogatepass"))
_paths = [".".join(field.path) for field in FIELDS if field.path[0] != "model"]
documents = st.dictionaries(st.sampled_from(_paths), odd_value, max_size=4).map(lambda change: nested(change))  # noqa: PLW0108 (defined below)
_config_keys = sorted(
    words(
        """hidden_size num_hidden_layers num_attention_heads num_key_value_heads intermediate_size vocab_size head_dim
    layer_types num_local_experts tie_word_embeddings quantization_config torch_dtype text_config rope_scaling
    sliding_window attention_bias model_type"""
    )
)
_whole = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_whole |= {"intermediate_size": 64, "vocab_size": 100}
configs = st.dictionaries(st.sampled_from(_config_keys), odd_value, max_size=4).map(lambda odd: _whole | odd)
_words = st.one_of(
    st.sampled_from(
        [
            "-_",
            "0x_",
            "!!bool x",
            "!!set {a}",
            "!!omap [a: 1]",
            "!!int ''",
            "!!float x",
            "!!binary x",
            "2020-13-45",
            "~",
            ".inf",
            '"\\0"',
            '"\\ud800"',
            "{[1]: 2}",
            "{{a: 1}: 2}",
            "[1, [2]]",
            "*a",
            "&a [*a]",
            "<<",
            "? b",
            "|\n  x",
            "yes",
            "1:60",
        ]
    ),
    st.text(max_size=12),
)
_keys = sorted(
    words(
        """base_model adapter sequence_len lora_r lora_target_modules micro_batch_size optimizer bf16 cutoff_len
    gradient_checkpointing_kwargs lora_target finetuning_type model_name_or_path stage output_dir max_length optim
    quantization_bit datasets load_in_4bit"""
    )
)
yamls = st.lists(st.tuples(st.sampled_from(_keys), _words), min_size=1, max_size=5).map(
    lambda pairs: "".join(f"{key}: {word}\n" for key, word in pairs)
)


def nested(change: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = dict(PLAN)
    for path, value in change.items():
        *parents, last = path.split(".")
        place = document
        for key in parents:
            place = place.setdefault(key, {}) if isinstance(place.setdefault(key, {}), dict) else {}
        place[last] = value
    return document


def wire(value: object) -> bytes:
    return json.dumps(value).encode()


@LAW
@given(document=documents)
def test_any_document_is_planned_or_refused(client: TestClient, document: dict[str, Any]) -> None:
    for path in ("/api/v1/plans", "/api/v1/probes"):
        answer = client.post(path, content=wire(document), headers={"content-type": "application/json"})
        assert answer.status_code < 500, (path, document, answer.text)


@LAW
@given(config=configs)
def test_any_config_of_a_model_is_planned_or_refused(client: TestClient, config: dict[str, Any]) -> None:
    body = wire(PLAN | {"model": config})
    answer = client.post("/api/v1/plans", content=body, headers={"content-type": "application/json"})
    assert answer.status_code < 500, (config, answer.text)


@LAW
@given(text=yamls)
def test_any_pasted_file_is_understood_or_refused(client: TestClient, text: str) -> None:
    answer = client.post("/api/v1/imports", json={"config": text, "gpu": "rtx-4090"})
    assert answer.status_code < 500, (text, answer.text)
    assert client.post("/import", data={"config": text.encode("utf-8", "replace")}).status_code < 500


@LAW
@given(address=addresses)
def test_any_address_of_a_plan_is_answered_or_refused(client: TestClient, address: str) -> None:
    for path in ("/plan", "/plan.json", "/plan.md", "/api/v1/limits"):
        answer = client.get(f"{path}?{address}")
        assert answer.status_code < 500, (path, address, answer.text[:500])


@LAW
@given(a=st.one_of(odd_text, addresses), b=st.one_of(odd_text, addresses))
def test_any_two_addresses_are_compared_or_refused(client: TestClient, a: str, b: str) -> None:
    query = urlencode({"a": a, "b": b}, errors="surrogatepass")
    assert client.get(f"/compare?{query}").status_code < 500
    sent = urlencode({"plan": a, "instrument": b}, errors="surrogatepass")
    form = {"content-type": "application/x-www-form-urlencoded", "origin": "http://127.0.0.1:8000"}
    assert client.post("/prove", content=sent, headers=form).status_code < 500


@LAW
@given(text=odd_text)
def test_any_name_in_a_path_or_a_search_is_answered_or_refused(client: TestClient, text: str) -> None:
    name = quote(text, safe="", errors="surrogatepass")
    for path in (
        f"/probes/{name}",
        f"/api/v1/probes/{name}",
        f"/api/v1/probes?cursor={name}",
        f"/suggest/{name}",
        f"/suggest/models?q={name}",
        f"/api/v1/models?q={name}",
        f"/import?example={name}",
    ):
        assert client.get(path).status_code < 500, path


@LAW
@given(record=odd_value, device=odd_text)
def test_any_record_of_evidence_is_kept_or_refused(client: TestClient, record: object, device: str) -> None:
    measurement = {
        "instrument": "cpu",
        "outcome": "ok",
        "peak_allocated_bytes": 1,
        "phases": [],
        "steps": 1,
        "tokens_per_micro_batch": 1,
        "device": {"name": device},
        "versions": {},
        "request": PLAN,
    }
    body = b"\n".join(map(wire, (record, measurement)))
    answer = client.post("/api/v1/evidence", content=body, headers={"content-type": "application/x-ndjson"})
    assert answer.status_code < 500, (record, device, answer.text)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/probes/%00", 404),
        ("/api/v1/probes/%00", 404),
        ("/compare?a=//[", 422),
        ("/compare?" + urlencode({"a": "x=1&" * 101}), 422),
        ("/plan?model=a%00b&gpu=rtx-4090", 422),
        ("/plan?model=Qwen/Qwen2.5-0.5B&gpu=x&gpu_memory=" + "9" * 310, 422),
        ("/plan?model=Qwen/Qwen2.5-0.5B&gpu=rtx-4090&llm_int8_skip_modules=(?i)x", 422),
    ],
)
def test_what_once_broke_is_refused(client: TestClient, path: str, status: int) -> None:
    assert client.get(path).status_code == status


@pytest.mark.parametrize(
    "text", ["a: -_", "a: !!bool x", "a: !!set {b}", "a: !!omap [b: 1]", "? [a]\n: 1", 'a: "\\ud800"']
)
def test_a_file_that_yaml_itself_stumbles_over_is_refused(client: TestClient, text: str) -> None:
    answer = client.post("/api/v1/imports", json={"config": f"adapter: qlora\n{text}", "gpu": "rtx-4090"})
    assert (answer.status_code, answer.json()["code"]) == (422, "unreadable_config")


def test_a_run_of_exabytes_does_not_fit(client: TestClient) -> None:
    training = {"per_device_train_batch_size": 65_536, "max_length": 16_777_216, "expandable_segments": True}
    answer = client.post(
        "/api/v1/plans", json={"model": "meta-llama/Llama-3.1-8B", "gpu": "4090", "training": training}
    )
    assert answer.json()["verdict"] == "does_not_fit"


def test_a_plan_to_prove_with_too_many_parameters_is_refused(client: TestClient) -> None:
    answer = client.post("/prove", data={"plan": "x=1&" * 101}, headers={"origin": "http://127.0.0.1:8000"})
    assert answer.status_code == 422

"""How much context for how many users? At the API and in the terminal."""

import json

import httpx
import pytest
from typer.testing import CliRunner

from app.cli import app
from app.examples import INFERENCE_REQUESTS
from app.schemas.inference import InferenceDocument
from planner.serving.answer import served
from planner.serving.request import Inference

ASKED = {"model": "Qwen/Qwen3-8B", "gpu": "rtx-4090"}


@pytest.mark.parametrize("name", INFERENCE_REQUESTS)
def test_what_the_document_shows_is_answered(client: httpx.Client, name: str) -> None:
    answer = client.post("/api/v1/inference", json=INFERENCE_REQUESTS[name])
    assert answer.status_code == 200, answer.text
    InferenceDocument.model_validate_json(answer.text)


def test_the_longest_context_fits_and_one_more_token_does_not() -> None:
    limits = served(Inference.parse(ASKED)).limits()
    verdicts = [served(Inference.parse({**ASKED, "context": limits["context"] + more})).verdict for more in (0, 1)]
    assert verdicts == ["fits", "tight"]


def test_users_take_room_from_each_other() -> None:
    alone, together = (served(Inference.parse({**ASKED, "batch": batch})).limits() for batch in (1, 4))
    assert 0 < together["context"] < alone["context"]


def test_where_the_weights_do_not_fit_no_context_does() -> None:
    limits = served(Inference.parse({**ASKED, "gpu": "rtx-3060-12gb"})).limits()
    assert (limits["context"], limits["batch"]) == (0, 0)


def test_every_bad_field_is_named(client: httpx.Client) -> None:
    bad = {"model": ASKED["model"], "gpu": "nothing", "engine": "tgi", "batch": 0, "contex": 8}
    answer = client.post("/api/v1/inference", json=bad)
    assert answer.status_code == 422
    said = {error["field"]: error["message"] for error in answer.json()["errors"]}
    assert said.keys() == {"gpu", "engine", "batch", "contex"}
    assert said["contex"] == "unknown key; did you mean context?"


def test_an_answer_longer_than_the_context_leaves_no_prompt(client: httpx.Client) -> None:
    answer = client.post("/api/v1/inference", json={**ASKED, "context": 256, "max_new_tokens": 256})
    assert answer.json()["errors"][0]["field"] == "context"


@pytest.mark.parametrize(("field", "value"), [("gguf", "Q8_0"), ("gpu_memory_utilization", 0.5)])
def test_what_another_engine_reads_is_refused_with_its_name(client: httpx.Client, field: str, value: object) -> None:
    answer = client.post("/api/v1/inference", json={**ASKED, field: value})
    (error,) = answer.json()["errors"]
    assert (error["field"], "transformers" in error["message"]) == (field, True)


def test_the_terminal_says_what_the_api_says(client: httpx.Client) -> None:
    words = ["inference", "qwen3-8b", "4090", "--context", "8192", "--batch", "4", "--quant-type", "nf4"]
    printed = CliRunner().invoke(app, [*words, "--json"])
    assert printed.exit_code == 0
    example = next(iter(INFERENCE_REQUESTS.values()))
    assert json.loads(printed.stdout) == client.post("/api/v1/inference", json=example).json()
    assert "sequences of this context" in CliRunner().invoke(app, words).stdout

import httpx

from app.schemas.limits import LimitsDocument
from planner.answer.plan import plan
from planner.answer.reach.limits import limits
from planner.request.schema import Request

ASKED = {"model": "meta-llama/Llama-2-7b-hf", "gpu": "rtx-4090"}


def get(client: httpx.Client, **parameters: str) -> httpx.Response:
    return client.get("/api/v1/limits", params={**ASKED, **parameters})


def test_the_limits_are_those_of_the_planner(client: httpx.Client) -> None:
    answer = get(client, lora_r="8", quantization="nf4")
    assert answer.status_code == 200, answer.text
    LimitsDocument.model_validate_json(answer.text)
    assert answer.json() == limits(Request.parse({**ASKED, "lora_r": 8})).to_dict()


def test_the_longest_length_fits_and_one_more_does_not(client: httpx.Client) -> None:
    longest = get(client).json()["max_length"]["fits"]
    verdicts = [
        plan(Request.parse({**ASKED, "training": {"max_length": length}})).verdict for length in (longest, longest + 1)
    ]
    assert verdicts[0] == "fits"
    assert verdicts[1] != "fits"


def test_every_bad_parameter_is_named_as_it_was_written(client: httpx.Client) -> None:
    answer = get(client, lora_r="-1", max_length="many", colour="red", gpu="rtx-9999-zz")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    said = {error["field"]: error["message"] for error in answer.json()["errors"]}
    assert said.keys() == {"lora_r", "max_length", "colour", "gpu"}
    assert said["lora_r"] == "must be at least 1; got -1"
    assert said["max_length"] == "write a whole number"


def test_nothing_asked_names_what_is_missing(client: httpx.Client) -> None:
    answer = client.get("/api/v1/limits")
    assert answer.status_code == 422
    assert {error["field"] for error in answer.json()["errors"]} == {"model", "gpu"}

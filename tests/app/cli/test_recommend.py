"""What can I train on this card? At the API and in the terminal."""

import json

import httpx
from typer.testing import CliRunner

from app.cli import app
from app.schemas.recommend import RecommendDocument
from planner.answer.plan import plan
from planner.request.schema import Request


def recommended(client: httpx.Client, gpu: str) -> RecommendDocument:
    answer = client.get("/api/v1/recommend", params={"gpu": gpu})
    assert answer.status_code == 200, answer.text
    return RecommendDocument.model_validate_json(answer.text)


def test_each_choice_is_a_plan_that_fits_and_a_token_more_does_not(client: httpx.Client) -> None:
    choices = recommended(client, "rtx-3060-12gb").choices
    assert [choice.size for choice in choices] == ["1B", "2B", "4B", "8B", "14B", "32B", "70B"]
    for choice in (choice for choice in choices if choice.outcome == "card"):
        assert choice.request is not None
        assert choice.max_length is not None
        training = choice.request["training"]
        verdicts = [
            plan(
                Request.parse({**choice.request, "training": training | {"max_length": choice.max_length + more}})
            ).verdict
            for more in (0, 1)
        ]
        is_context = choice.max_length == 40_960  # Qwen3-0.6B's own limit, not the card's
        assert verdicts == ["fits", "fits" if is_context else "tight"]


def test_what_trains_more_of_the_model_comes_first(client: httpx.Client) -> None:
    methods = [choice.method or "" for choice in recommended(client, "4090").choices if choice.outcome == "card"]
    assert sorted(methods, key=["full", "lora", "qlora"].index) == methods
    assert set(methods) == {"full", "lora", "qlora"}


def test_a_model_too_large_for_one_card_is_given_several(client: httpx.Client) -> None:
    """In 16 bit: transformers loads 4-bit weights whole on each card, where 70 billion of them find no room."""
    largest = recommended(client, "rtx-5090").choices[-1]
    assert (largest.method, largest.outcome, largest.cards, largest.verdict) == ("lora", "cards", 8, "fits")
    assert largest.request is not None
    assert plan(Request.parse(largest.request)).verdict == "fits"
    assert recommended(client, "4090").choices[-1].outcome == "nothing"


def test_a_card_that_nobody_knows_is_an_error_that_names_others(client: httpx.Client) -> None:
    answer = client.get("/api/v1/recommend", params={"gpu": "rtx-4091"})
    assert answer.status_code == 404
    assert "did you mean" in answer.json()["errors"][0]["message"]


def test_the_terminal_prints_what_the_api_answers(client: httpx.Client) -> None:
    printed = CliRunner().invoke(app, ["recommend", "--gpu", "t4", "--json"]).stdout
    assert json.loads(printed) == client.get("/api/v1/recommend", params={"gpu": "t4"}).json()
    assert "Qwen/Qwen3-8B" in CliRunner().invoke(app, ["recommend", "t4"]).stdout


def test_the_limits_say_how_many_of_a_card_a_run_needs(client: httpx.Client) -> None:
    asked = {"model": "meta-llama/Llama-3.3-70B-Instruct", "gpu": "a100-pcie-40gb", "method": "lora"}
    assert client.get("/api/v1/limits", params=asked).json()["cards_of_this_kind"] == 8
    four_bit_on_each = asked | {"gpu": "rtx-4090", "method": "qlora"}
    assert client.get("/api/v1/limits", params=four_bit_on_each).json()["cards_of_this_kind"] is None


def test_a_card_is_named_by_place_or_by_flag_but_not_two_of_them() -> None:
    by_flag = CliRunner().invoke(app, ["plan", "qwen3-8b", "--gpu", "4090", "--json"])
    by_place = CliRunner().invoke(app, ["plan", "qwen3-8b", "4090", "--json"])
    assert by_flag.stdout == by_place.stdout
    both = CliRunner().invoke(app, ["plan", "qwen3-8b", "4090", "--gpu", "t4"])
    assert both.exit_code != 0

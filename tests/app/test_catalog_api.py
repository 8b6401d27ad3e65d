import httpx
import pytest

from app.schemas.catalog import GpuList, ModelList
from planner.catalog import search_gpus, search_models


def test_the_whole_catalogue_of_models_is_listed_as_documented(client: httpx.Client) -> None:
    answer = client.get("/api/v1/models", params={"limit": 1000})
    listed = ModelList.model_validate_json(answer.text)
    assert listed.total == len(listed.items) == len(search_models(""))
    assert all(item.sources for item in listed.items)


def test_the_whole_catalogue_of_cards_is_listed_as_documented(client: httpx.Client) -> None:
    answer = client.get("/api/v1/gpus", params={"limit": 1000})
    listed = GpuList.model_validate_json(answer.text)
    assert listed.total == len(listed.items) == len(search_gpus(""))
    assert all(item.sources for item in listed.items)


def test_models_are_found_by_the_words_people_type(client: httpx.Client) -> None:
    items = client.get("/api/v1/models", params={"q": "llama 3 8b"}).json()["items"]
    assert any(item["id"] == "meta-llama/Meta-Llama-3-8B" for item in items)
    assert items[0]["facts"]["hidden_size"] == 4096


def test_cards_are_found_by_the_words_people_type(client: httpx.Client) -> None:
    first = client.get("/api/v1/gpus", params={"q": "4090"}).json()["items"][0]
    assert first["id"] == "rtx-4090"
    assert 23 << 30 < first["usable_bytes"] < 24 << 30
    assert first["compute_capability"] == "8.9"


def test_a_limit_shortens_the_list_and_the_total_stays(client: httpx.Client) -> None:
    few = client.get("/api/v1/models", params={"limit": 3}).json()
    assert len(few["items"]) == 3
    assert few["total"] > 100


def test_nothing_found_is_an_empty_list(client: httpx.Client) -> None:
    assert client.get("/api/v1/gpus", params={"q": "abacus"}).json() == {"items": [], "total": 0}


@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v1/gpus"])
def test_bad_parameters_are_named_all_at_once(client: httpx.Client, path: str) -> None:
    answer = client.get(path, params={"limit": 0, "q": "x" * 201, "sort": "up"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    said = {error["field"]: error["message"] for error in answer.json()["errors"]}
    assert said == {
        "limit": 'must be at least 1; got "0"',
        "q": f'must have at most 200 characters; got "{"x" * 59}…"',
        "sort": "unknown key; check the spelling or remove it",
    }

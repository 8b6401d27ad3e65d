"""The OpenAPI document is complete, and the API keeps every promise in it, whatever it is sent."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from app.examples import PLAN_REQUESTS
from app.main import create_app
from app.settings import Settings
from tests.app.serving import served
from tests.service.forking import forked_template

Operation = APIOperation[Any, Any, Any, Any]
PATHS = (
    "/api/v1/plans", "/api/v1/models", "/api/v1/gpus", "/api/v1/limits", "/api/v1/recommend", "/api/v1/inference",
    "/api/v1/imports",
)  # fmt: skip
BOUNDED = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True
)


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Operation]]:
    # Over a socket: a client of the application itself would start and end it around each request.
    given = Settings(data_dir=tmp_path_factory.mktemp("data"), hub_offline=True, requests_per_minute=100_000)
    with served(create_app(given, [], forked_template)) as client:
        schema = schemathesis.openapi.from_url(f"{client.base_url}/api/v1/openapi.json")
        yield {result.ok().path: result.ok() for result in schema.get_all_operations()}


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("path", PATHS)
def test_whatever_is_sent_the_answer_is_as_documented(
    operations: dict[str, Operation], path: str, mode: GenerationMode
) -> None:
    @BOUNDED
    @given(case=operations[path].as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        # A name that the schema allows need not exist, and a config is any object: 404 and 422 are right answers.
        case.call_and_validate(timeout=60, excluded_checks=[positive_data_acceptance])

    send()


def test_any_recipe_for_a_real_model_is_answered_or_refused_in_words(
    operations: dict[str, Operation],
) -> None:
    @BOUNDED
    @given(case=operations["/api/v1/plans"].as_strategy())
    def send(case: schemathesis.Case) -> None:
        assert isinstance(case.body, dict)
        case.body |= {"model": "meta-llama/Llama-2-7b-hf", "gpu": "rtx-4090"}
        case.call_and_validate(timeout=60, checks=[not_a_server_error])

    send()


def test_the_document_shows_the_requests_that_the_readme_shows(client: httpx.Client) -> None:
    document = client.get("/api/v1/openapi.json").json()
    body = document["paths"]["/api/v1/plans"]["post"]["requestBody"]["content"]["application/json"]
    assert {name: example["value"] for name, example in body["examples"].items()} == PLAN_REQUESTS
    assert body["schema"] == {"$ref": "#/components/schemas/Request"}


def test_every_reference_in_the_document_leads_somewhere(client: httpx.Client) -> None:
    text = client.get("/api/v1/openapi.json").text
    schemas = client.get("/api/v1/openapi.json").json()["components"]["schemas"]
    references = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert references <= schemas.keys()
    assert {"Request", "PlanDocument", "ModelList", "GpuList", "ProblemDocument"} <= references


def test_no_page_of_ours_loads_documentation_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page.text)
    assert client.get("/redoc").status_code == 404


def test_the_folder_of_the_server_is_not_served(client: httpx.Client) -> None:
    for path in ("/static/../app/main.py", "/static/%2e%2e/pyproject.toml", "/static//etc/passwd"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert Path(__file__).read_text()[:20] not in answer.text

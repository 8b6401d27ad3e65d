"""schemathesis over the whole API, with and without a token: no 5xx, and nothing done without the token."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from app.main import create_app
from app.security.tokens import create_token
from app.settings import Settings
from tests.app.serving import served
from tests.app.test_openapi import PATHS as PLANNING
from tests.service.desk import printed
from tests.service.fakes.fake_engine import CPU, H100, FakeEngine
from tests.service.forking import forked_template
from tests.service.harness import document, wait_until

Operation = APIOperation[Any, Any, Any, Any]
PROBES, EVIDENCE = "/api/v1/probes", "/api/v1/evidence"
LOCKED = (PROBES, f"{PROBES}/{{probe_id}}", f"{PROBES}/{{probe_id}}/events", EVIDENCE)
OPEN = ("/api/v1/workers", "/healthz", "/readyz", "/metrics")
BOUNDED = settings(
    max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True
)


@schemathesis.serializer("application/x-ndjson")
def json_lines(_context: object, value: object) -> bytes:
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


class Service:
    """A server bound to the world, with workers that answer at once."""

    def __init__(self, client: httpx.Client, token: str, engine: FakeEngine) -> None:
        self.client = client
        self.bearer = {"Authorization": f"Bearer {token}"}
        self.engine = engine
        schema = schemathesis.openapi.from_url(f"{client.base_url}/api/v1/openapi.json")
        self.operations: list[Operation] = [result.ok() for result in schema.get_all_operations()]

    def on(self, path: str, mode: GenerationMode = GenerationMode.POSITIVE) -> list[Operation]:
        """Operations on a path; of those that take nothing, no wrong request can be made."""
        found = [operation for operation in self.operations if operation.path == path]
        return found if mode is GenerationMode.POSITIVE else [each for each in found if takes_something(each)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("data")
    engine = FakeEngine(workers=(CPU, H100), answer=printed(2))
    settings = Settings(data_dir=folder, host="0.0.0.0", hub_offline=True, queue_limit=5)
    app = create_app(settings, [engine], forked_template)
    with served(app) as client:
        wait_until(lambda: bool(client.get("/api/v1/workers").json()["items"]), 10)
        yield Service(client, create_token(app.state.service.database, "tests").secret, engine)


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("path", [*LOCKED, *OPEN])
def test_with_a_token_every_answer_is_as_documented(service: Service, path: str, mode: GenerationMode) -> None:
    probe = service.client.post(PROBES, json=document(), headers=service.bearer).json().get("id", "none")
    for operation in service.on(path, mode):

        @BOUNDED
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: schemathesis.Case) -> None:
            # A schema cannot say which names exist, how full a queue is, or that a stream may be resumed.
            if case.path_parameters and mode is GenerationMode.POSITIVE:
                case.path_parameters = {"probe_id": probe}
            case.call_and_validate(headers=service.bearer, excluded_checks=[positive_data_acceptance])

        send()


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("path", LOCKED)
def test_without_a_token_nothing_is_done(service: Service, path: str, mode: GenerationMode) -> None:
    before = probes(service)
    for operation in service.on(path, mode):

        @BOUNDED
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: schemathesis.Case) -> None:
            answer = case.call()
            assert 400 <= answer.status_code < 500

        send()
    assert probes(service) == before


def test_any_recipe_for_a_real_model_is_queued_or_refused_in_words(service: Service) -> None:
    (operation,) = (each for each in service.on(PROBES) if each.method.upper() == "POST")

    @BOUNDED
    @given(case=operation.as_strategy())
    def send(case: schemathesis.Case) -> None:
        assert isinstance(case.body, dict)
        case.body |= {"model": "Qwen/Qwen2.5-0.5B", "gpu": "rtx-4090"}
        answer = case.call(headers=service.bearer)
        assert answer.status_code in {202, 403, 409, 422, 429}

    send()


def takes_something(operation: Operation) -> bool:
    return any((operation.path_parameters, operation.query, operation.headers, operation.body))


def probes(service: Service) -> list[tuple[str, bool]]:
    """Every probe there is, and whether somebody asked for its end."""
    listed = service.client.get(PROBES, params={"limit": 200}, headers=service.bearer).json()["items"]
    return [(item["id"], item["cancel_requested"]) for item in listed]


def test_no_route_is_left_out_of_these_tests(service: Service) -> None:
    assert {operation.path for operation in service.operations} == {*LOCKED, *OPEN, *PLANNING}

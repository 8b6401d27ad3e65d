"""Whatever a pasted config.json holds, the answer is a plan or a sentence about the field, never a broken server."""

import asyncio
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.hub.names import RepoName
from app.planning import Planning
from planner.catalog.model_rows import model_catalog
from planner.errors import FitproofError, InvalidRequestError
from planner.families.config import class_defaults
from tests.app.hub_server import CONFIG

NUMBERS = st.sampled_from([0, -1, 1, 3, 7, 64, 512, 1025, 10**9, 10**400, 0.5, -0.0, 1e300, True, None])
WORDS = st.text(max_size=5)
VALUES = st.one_of(
    NUMBERS,
    WORDS,
    st.lists(NUMBERS, max_size=3),
    st.lists(st.lists(NUMBERS, max_size=1), min_size=1, max_size=2),
    st.dictionaries(WORDS, NUMBERS, max_size=2),
)
CONFIGS = {row.model_type: dict(row.config) for row in model_catalog().rows.values()}
DEFAULTS = class_defaults()


@st.composite
def spoiled_configs(draw: st.DrawFn) -> dict[str, Any]:
    """A config of the catalogue, every architecture among them, with keys missing and others gone wrong."""
    kind = draw(st.sampled_from(sorted(CONFIGS)))
    config = CONFIGS[kind]
    own = DEFAULTS.get(kind, DEFAULTS["llama"])
    keys = sorted({*config, *own["defaults"], *own["attribute_map"], "text_config", "_name_or_path"} - {"model_type"})
    spoiled = draw(st.dictionaries(st.sampled_from(keys), VALUES, max_size=3))
    missing = draw(st.sets(st.sampled_from(keys), max_size=1))
    return {key: value for key, value in (config | spoiled).items() if key not in missing}


class NoHub:
    async def config(self, repo: RepoName) -> dict[str, Any]:
        raise AssertionError(repo)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(config=spoiled_configs())
@example(config=CONFIGS["qwen3_moe"] | {"mlp_only_layers": 1.5})
@example(config=CONFIGS["qwen3_next"] | {"mlp_only_layers": "all"})
@example(config=CONFIGS["qwen3_next"] | {"rope_parameters": {"partial_rotary_factor": 1e308}})
@example(config=CONFIGS["qwen3_next"] | {"rope_parameters": {"partial_rotary_factor": 10**400}})
@example(config=CONFIGS["llama4_text"] | {"moe_layers": [[0]]})
def test_no_config_breaks_the_planner(config: dict[str, Any]) -> None:
    error = refusal_of(config)
    if error:
        assert 400 <= error.status < 500, error
        assert error.problems, error


def refusal_of(config: dict[str, Any]) -> FitproofError | None:
    planning = Planning(NoHub())
    try:
        asyncio.run(planning.document(planning.read({"model": config, "gpu": "4090"})))
    except FitproofError as error:
        return error
    return None


def test_a_million_layers_are_a_typing_mistake() -> None:
    error = refusal_of(CONFIG | {"num_hidden_layers": 1_000_000})
    assert isinstance(error, InvalidRequestError)
    (problem,) = error.problems
    assert problem.field == "model.num_hidden_layers"
    assert "1024" in problem.message


def test_a_model_beyond_all_models_is_a_typing_mistake_that_costs_no_time() -> None:
    error = refusal_of(CONFIG | {"hidden_size": 2**24, "num_hidden_layers": 1024})
    assert isinstance(error, InvalidRequestError)
    assert [problem.field for problem in error.problems] == ["model"]
    assert "more than any model" in error.problems[0].message


def test_a_long_name_is_not_told_back_at_length() -> None:
    error = refusal_of({"model_type": "x" * 100_000})
    assert error is not None
    assert len(error.title) < 300


def test_layers_named_by_index_must_be_a_list_of_indices() -> None:
    error = refusal_of(CONFIGS["qwen3_moe"] | {"mlp_only_layers": "all"})
    assert isinstance(error, InvalidRequestError)
    assert [problem.field for problem in error.problems] == ["model.mlp_only_layers"]
    assert "[0, 1]" in error.problems[0].message

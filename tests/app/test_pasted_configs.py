"""Whatever a pasted config.json holds, the answer is a plan or a sentence about the field, never a broken server."""

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.hub.names import RepoName
from app.planning import Planning
from planner.errors import FitproofError, InvalidRequestError
from tests.app.hub_server import CONFIG

OTHER_KEYS = (
    "head_dim", "rope_scaling", "sliding_window", "layer_types", "num_local_experts", "num_experts_per_tok",
    "moe_intermediate_size", "text_config", "attention_bias", "mlp_bias", "hidden_act", "quantization_config",
    "n_layer", "n_embd", "partial_rotary_factor", "first_k_dense_replace", "kv_lora_rank", "_name_or_path",
)  # fmt: skip
KINDS = (
    "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2", "granite", "mixtral", "gpt2",
    "deepseek_v3", "gpt_neox", "qwen3_moe", "jamba",
)  # fmt: skip
NUMBERS = st.sampled_from([0, -1, 1, 3, 7, 64, 512, 1025, 10**9, 10**400, 0.5, -0.0, 1e300, True, None])
WORDS = st.text(max_size=5)
VALUES = st.one_of(NUMBERS, WORDS, st.lists(NUMBERS, max_size=3), st.dictionaries(WORDS, NUMBERS, max_size=2))


SPOILED = [key for key in CONFIG if key != "model_type"]


class NoHub:
    async def config(self, repo: RepoName) -> dict[str, Any]:
        raise AssertionError(repo)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(
    kind=st.sampled_from(KINDS),
    spoiled=st.dictionaries(st.sampled_from([*SPOILED, *OTHER_KEYS]), VALUES, max_size=3),
    missing=st.sets(st.sampled_from(SPOILED), max_size=1),
)
def test_no_config_breaks_the_planner(kind: str, spoiled: dict[str, Any], missing: set[str]) -> None:
    config = {key: value for key, value in (CONFIG | {"model_type": kind} | spoiled).items() if key not in missing}
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

"""A config that the formulas do not know gets one true sentence, and the dry run is named only where it knows more."""

from typing import Any

import pytest

from planner.errors import UnknownArchitectureError
from planner.families import decoder_of
from planner.model.model import resolve_model

TEXT = {"hidden_size": 64, "num_hidden_layers": 2}


def said(config: dict[str, Any]) -> str:
    with pytest.raises(UnknownArchitectureError) as error:
        decoder_of(config)
    return error.value.title


@pytest.mark.parametrize("model_type", ["bert", "roberta", "deberta-v2", "modernbert", "distilbert"])
def test_an_encoder_is_called_one(model_type: str) -> None:
    assert "is an encoder, and" in said({"model_type": model_type})


@pytest.mark.parametrize("model_type", ["t5", "mt5", "bart", "whisper", "m2m_100"])
def test_an_encoder_with_a_decoder_is_called_one(model_type: str) -> None:
    assert "encoder with a decoder" in said({"model_type": model_type})


@pytest.mark.parametrize("config", [{"model_type": "bert"}, {"model_type": "t5"}, {"model_type": "clip"},
    {"model_type": "foo", "auto_map": {}}, {"model_type": "llava", "text_config": {"model_type": "llama"}},
    {"model_type": "qwen3_vl", "text_config": {"model_type": "qwen3_vl_text"}},
])  # fmt: skip
def test_the_dry_run_is_not_named_where_it_cannot_help(config: dict[str, Any]) -> None:
    assert "dry run" not in said(config)


@pytest.mark.parametrize("model_type", ["mamba", "lfm2_moe", "jamba", "gpt_neo"])
def test_the_dry_run_is_named_for_decoders_that_transformers_builds(model_type: str) -> None:
    assert "fitproof probe --on dry-run" in said({"model_type": model_type})


def test_a_wrapper_of_a_known_language_model_says_how_to_plan_that() -> None:
    message = said({"model_type": "llava", "text_config": {"model_type": "llama", **TEXT}})
    assert message.endswith("its language model (llama) is: paste its text_config")


def test_code_of_the_models_own_is_not_run() -> None:
    kimi = {"model_type": "kimi_k2", "architectures": ["DeepseekV3ForCausalLM"], "auto_map": {"AutoConfig": "x.Y"}}
    assert "deepseek_v3" in said(kimi)
    assert "runs no stranger's code" in said({**kimi, "architectures": ["FooForCausalLM"]})


def test_exaones_own_config_is_planned() -> None:
    kinds = [("full" if index % 4 == 3 else "sliding") + "_attention" for index in range(64)]
    own = {
        "model_type": "exaone4", "hidden_size": 5120, "intermediate_size": 27392, "num_hidden_layers": 64,
        "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "sliding_window": 4096,
        "sliding_window_pattern": "LLLG", "vocab_size": 102400, "tie_word_embeddings": False,
    }  # fmt: skip
    whole = resolve_model({**own, "layer_types": kinds})
    assert whole.params == 32_003_216_384
    assert resolve_model(own).known_decoder().order == whole.known_decoder().order

"""Which configs the formulas take, and what they say of the others."""

import pytest

from planner.catalog.model_rows import model_catalog
from planner.errors import InvalidRequestError, UnknownArchitectureError
from planner.families import census_of, decoder_of, known_types
from planner.families.unknown import NOT_KNOWN
from planner.tensors.inventory import total_params

LLAMA = {"model_type": "llama", "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8}


def test_every_model_type_of_the_catalogue_is_known_or_said_not_to_be() -> None:
    assert not known_types() & NOT_KNOWN.keys()
    for row in model_catalog().rows.values():
        if row.model_type in known_types():
            assert decoder_of(row.config).model_type == row.model_type
        else:
            assert row.model_type in NOT_KNOWN
            with pytest.raises(UnknownArchitectureError):
                decoder_of(row.config)


def test_an_unknown_type_is_told_of_the_dry_run() -> None:
    with pytest.raises(UnknownArchitectureError, match="dry-run") as caught:
        decoder_of({"model_type": "mamba2"})
    assert "mamba2" in caught.value.title


def test_every_bad_key_is_named_at_once() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decoder_of({**LLAMA, "hidden_size": -1, "num_attention_heads": "eight", "num_key_value_heads": 0})
    fields = {problem.field for problem in caught.value.problems}
    assert {"model.hidden_size", "model.num_attention_heads", "model.num_key_value_heads"} <= fields


def test_a_config_without_a_type_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="which model"):
        decoder_of({"hidden_size": 64})


def test_missing_keys_take_the_class_defaults() -> None:
    assert decoder_of({"model_type": "llama"}).sizes["V"] == 32_000


def test_other_spellings_of_a_key_are_understood() -> None:
    own = {"model_type": "gpt2", "n_embd": 256, "n_layer": 2, "n_head": 4}
    other = {"model_type": "gpt2", "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    assert total_params(census_of(decoder_of(own))) == total_params(census_of(decoder_of(other)))


def test_a_text_tower_inside_a_multimodal_config_is_found() -> None:
    text = {"hidden_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2}
    assert decoder_of({"model_type": "llama4", "text_config": text}).model_type == "llama4_text"


def test_a_multimodal_model_built_whole_is_not_passed_off_as_its_text_tower() -> None:
    with pytest.raises(UnknownArchitectureError, match="text_config"):
        decoder_of({"model_type": "gemma3", "text_config": {"hidden_size": 64}})


@pytest.mark.parametrize("listed", [["sliding_attention"], "all", [1, 2, 3]])
def test_layer_types_must_have_one_entry_per_layer(listed: object) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be used"):
        decoder_of({"model_type": "gemma2", "num_hidden_layers": 4, "layer_types": listed})


def test_letters_of_an_older_nemotron_config_are_its_layers() -> None:
    written = {"model_type": "nemotron_h", "hybrid_override_pattern": "ME*-M"}
    listed = {"model_type": "nemotron_h", "layers_block_type": ["mamba", "moe", "attention", "mlp", "mamba"]}
    assert decoder_of(written).structure == decoder_of(listed).structure
    with pytest.raises(InvalidRequestError, match="nemotron_h"):
        decoder_of({"model_type": "nemotron_h", "hybrid_override_pattern": "MX"})
    with pytest.raises(UnknownArchitectureError, match="dry-run"):
        decoder_of({**written, "moe_latent_size": 64})

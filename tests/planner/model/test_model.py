import json

import pytest

from planner.errors import InvalidRequestError, UnknownArchitectureError, UnknownModelError
from planner.model.model import config_facts, resolve_model

TINY = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 256, "tie_word_embeddings": False,
}  # fmt: skip
# 2 · 256·64 (embedding, head) + 2 layers of 64·64 (q) + 2·32·64 (k, v) + 64·64 (o) + 3·128·64 + 2·64 (norms), + 64
TINY_PARAMS = 2 * 256 * 64 + 2 * (64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 128 * 64 + 2 * 64) + 64


def test_a_catalogue_model_carries_its_generated_census_and_evidence():
    model = resolve_model("Llama-2-7B")
    assert (model.id, model.params, model.census_source) == ("meta-llama/Llama-2-7b-hf", 6_738_415_616, "generated")
    assert model.row is not None
    assert any("litgpt" in source for source in model.sources)
    assert model.facts["hidden_size"] == 4096
    assert model.facts["dtype"] == "float16"


def test_resolving_twice_gives_the_same_model():
    assert resolve_model("llama 3 8b") is resolve_model("llama 3 8b")


def test_a_pasted_config_is_described_by_the_closed_form():
    model = resolve_model(TINY)
    assert (model.params, model.census_source, model.row) == (TINY_PARAMS, "closed form", None)
    assert model.id == "a llama config"
    assert model.known_decoder() is model.decoder


def test_a_config_from_the_hub_keeps_its_name():
    assert resolve_model(TINY | {"_name_or_path": "acme/anvil"}).id == "acme/anvil"


def test_a_config_of_a_type_that_nobody_builds_is_told_so_and_one_that_transformers_builds_of_the_dry_run():
    with pytest.raises(UnknownArchitectureError, match="builds no decoder of that name"):
        resolve_model({"model_type": "anvil", "hidden_size": 64})
    with pytest.raises(UnknownArchitectureError, match="dry run"):
        resolve_model({"model_type": "xglm", "hidden_size": 64})


@pytest.mark.parametrize("config", [{}, {"model_type": 7}, {"model_type": ""}])
def test_a_config_without_a_type_names_the_field(config):
    with pytest.raises(InvalidRequestError) as caught:
        resolve_model(config)
    assert caught.value.problems[0].field == "model.model_type"


def test_an_unknown_name_is_an_unknown_model():
    with pytest.raises(UnknownModelError):
        resolve_model("no-such-model-anywhere")


def test_a_folder_or_its_config_is_read_where_that_is_allowed(tmp_path):
    folder = tmp_path / "anvil-tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY))
    for place in (folder, folder / "config.json"):
        model = resolve_model(str(place), local_files=True)
        assert (model.id, model.params) == ("anvil-tiny", TINY_PARAMS)


def test_a_name_never_opens_a_file_unless_allowed(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    with pytest.raises(UnknownModelError):
        resolve_model(str(tmp_path))


def test_a_catalogue_name_still_answers_where_files_are_allowed():
    assert resolve_model("gpt2", local_files=True).id == "openai-community/gpt2"
    with pytest.raises(UnknownModelError):
        resolve_model("x" * 300, local_files=True)


def test_an_empty_folder_says_what_is_missing(tmp_path):
    with pytest.raises(UnknownModelError, match=r"holds no config.json"):
        resolve_model(str(tmp_path), local_files=True)


@pytest.mark.parametrize(("text", "told"), [("{", "not JSON"), ("[1]", "not a JSON object")])
def test_a_file_that_is_no_config_is_refused(tmp_path, text, told):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidRequestError) as caught:
        resolve_model(str(tmp_path), local_files=True)
    assert told in caught.value.problems[0].message


def test_facts_are_read_under_any_spelling_and_never_guessed():
    facts = config_facts({"n_embd": 768, "n_layer": 12, "vocab_size": 50257})
    assert facts == {"hidden_size": 768, "layers": 12, "vocab_size": 50257}
    assert config_facts({"text_config": {"hidden_size": 8}})["hidden_size"] == 8

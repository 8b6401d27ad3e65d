import json

import pytest

from planner.catalog import search_models
from planner.catalog.model_rows import model_catalog
from planner.errors import UnknownModelError

ROWS = model_catalog().rows


def test_all_240_models_load():
    assert len(ROWS) == 240


def test_every_model_names_its_sources_and_its_type():
    for row in ROWS.values():
        assert row.sources
        assert row.model_type
        assert row.provenance
        assert row.checked.year == 2026


def test_every_id_and_alias_finds_its_model():
    for row in ROWS.values():
        for name in (row.id, row.id.lower(), *row.other_names):
            assert model_catalog().find(name) is row


@pytest.mark.parametrize(
    ("typed", "model_id"),
    [
        ("Llama-2-7B", "meta-llama/Llama-2-7b-hf"),
        ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"),
        ("META-LLAMA/LLAMA-2-7B-HF", "meta-llama/Llama-2-7b-hf"),
        ("llama 3 8b", "meta-llama/Meta-Llama-3-8B"),
        ("Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("qwen2.5 7b", "Qwen/Qwen2.5-7B"),
        ("mistral 7b", "mistralai/Mistral-7B-v0.1"),
        ("mixtral", "mistralai/Mixtral-8x7B-v0.1"),
        ("gpt2", "openai-community/gpt2"),
        ("Gemma 3 4B", "google/gemma-3-4b-it"),
    ],
)
def test_a_model_answers_to_what_people_call_it(typed, model_id):
    assert model_catalog().find(typed).id == model_id


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("llama 3 8b", "meta-llama/Meta-Llama-3-8B"),
        ("llama 8b", "meta-llama/Llama-3.1-8B"),
        ("qwen 2.5 7b", "Qwen/Qwen2.5-7B"),
        ("qwen 7b", "Qwen/Qwen2.5-7B"),
        ("smollm2 135", "HuggingFaceTB/SmolLM2-135M"),
        ("pythia 70m", "EleutherAI/pythia-70m"),
    ],
)
def test_search_puts_what_was_meant_first(typed, first):
    assert search_models(typed)[0].id == first


def test_an_empty_search_lists_the_catalogue():
    assert len(search_models()) == 240


def test_an_unknown_model_gets_suggestions_and_the_ways_out():
    with pytest.raises(UnknownModelError) as caught:
        model_catalog().find("llma 3 8b")
    (problem,) = caught.value.problems
    assert problem.message.startswith("did you mean meta-llama/Meta-Llama-3-8B, ")
    assert "config.json" in problem.message


def test_a_stranger_gets_no_silly_suggestions():
    with pytest.raises(UnknownModelError) as caught:
        model_catalog().find("xyzzy")
    assert caught.value.problems[0].message.startswith("not in the catalogue; ")


def test_a_row_claims_no_more_than_its_sources():
    yi = ROWS["01-ai/Yi-6B"]
    assert yi.unsourced == ("sliding_window", "rope", "activation")
    assert "hidden_act" not in yi.config
    assert ROWS["openai-community/gpt2"].gated is None


def test_the_origin_of_a_config_is_told_in_words():
    assert ROWS["meta-llama/Llama-3.1-8B"].provenance == "the model's config.json, as copied into a public repository"


def test_a_published_count_that_differs_is_explained_by_the_match():
    for row in ROWS.values():
        if row.match == "exact":
            assert row.published
            assert all(count.value == row.params for count in row.published if not count.estimate), row.id


def test_configs_are_plain_json():
    for row in ROWS.values():
        assert json.loads(json.dumps(row.config)) == row.config


@pytest.mark.parametrize(
    ("typed", "model_id"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B"),
        ("Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B"),
        ("NousResearch/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"),
        ("unsloth/Meta-Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
    ],
)
def test_another_tuning_of_the_same_tensors_answers_as_its_twin(typed, model_id):
    assert model_catalog().find(typed).id == model_id
    assert search_models(typed)[0].id == model_id


def test_no_twin_has_a_row_of_its_own():
    assert not {twin.lower() for row in ROWS.values() for twin in row.twins} & {row_id.lower() for row_id in ROWS}

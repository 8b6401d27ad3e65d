"""The generated census, checked without torch against counts that were made independently of it."""

import json

import pytest

from planner.catalog.generated import CENSUS_FOLDER, census_file, generated_census, read_group, write_group
from planner.catalog.model_rows import model_catalog
from planner.errors import CatalogError
from planner.tensors.inventory import TensorGroup, total_params

ROWS = model_catalog().rows


@pytest.mark.parametrize("model_id", list(ROWS))
def test_the_tensors_add_up_to_the_exact_count(model_id):
    assert total_params(generated_census(model_id)) == ROWS[model_id].params


def test_the_files_hold_the_catalogue_and_nothing_else():
    held = [model for file in CENSUS_FOLDER.iterdir() for model in json.loads(file.read_text())["models"]]
    assert sorted(held) == sorted(ROWS)


def test_each_file_says_what_made_it():
    for file in CENSUS_FOLDER.iterdir():
        document = json.loads(file.read_text())
        assert document["generated_by"] == "python -m planner.probe.recording.census"
        assert set(document["versions"]) == {"torch", "transformers"}


def test_embeddings_heads_norms_biases_routers_and_experts_stay_16_bit():
    for model_id in ROWS:
        for group in generated_census(model_id):
            if group.quantizable:
                assert group.role == "linear", f"{model_id} {group.name}"
                assert len(group.shape) == 2


def test_mixtral_is_hardly_quantized_at_all():
    census = generated_census("mistralai/Mixtral-8x7B-v0.1")
    quantized = sum(group.params for group in census if group.quantizable)
    assert quantized / total_params(census) < 0.03


def test_a_tied_head_is_listed_once():
    names = [group.name for group in generated_census("google/gemma-3-1b-it")]
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names


def test_a_model_without_a_census_says_how_to_get_one():
    with pytest.raises(CatalogError, match=r"acme.json: no census of acme/anvil; run python -m planner\.probe\."):
        generated_census("acme/anvil")


def test_a_group_survives_the_file():
    group = TensorGroup(name="a.*.w", role="linear", shape=(2, 3), count=4, quantizable=True, keeps_float32=True)
    assert read_group(write_group(group)) == group
    assert group.params == 24


def test_a_publisher_has_one_file():
    assert census_file("acme/anvil").name == "acme.json"

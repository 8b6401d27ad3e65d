"""The tool that writes the catalogue's census, held to what is committed."""

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, OlmoConfig, OlmoForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from planner.catalog.generated import census_file, generated_census
from planner.catalog.model_rows import model_catalog
from planner.errors import CatalogError
from planner.families.unknown import DECODERS
from planner.probe.recording.census import build_on_meta, census_of, counted, main, write

ROWS = model_catalog().rows

# Tied and untied, biases, Conv1D, sandwich norms, fused qkv, experts, hybrid layers.
SAMPLE = (
    "openai-community/gpt2",
    "Qwen/Qwen2-0.5B",
    "google/gemma-2-2b",
    "microsoft/Phi-3-mini-4k-instruct",
    "EleutherAI/pythia-70m",
    "ibm-granite/granite-3.1-1b-a400m-instruct",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "google/gemma-4-26B-A4B-it",
)


@pytest.mark.parametrize("model_id", SAMPLE)
def test_a_model_built_again_gives_the_committed_census(model_id):
    assert counted(ROWS[model_id]) == generated_census(model_id)


def test_a_count_that_is_off_by_one_is_refused():
    row = ROWS["EleutherAI/pythia-70m"]
    with pytest.raises(CatalogError, match=r"pythia-70m: params says 70,426,625 but .* has 70,426,624; correct"):
        counted(row.model_copy(update={"params": row.params + 1}))


def test_writing_keeps_the_other_models_of_the_file(tmp_path):
    small = [ROWS["EleutherAI/pythia-70m"], ROWS["EleutherAI/pythia-14m"]]
    assert [model_id for model_id, _ in write(small, tmp_path)] == [row.id for row in small]
    written = census_file("EleutherAI/pythia-70m", tmp_path).read_text()
    assert written.index('"EleutherAI/pythia-14m"') < written.index('"EleutherAI/pythia-70m"')
    committed = census_file("EleutherAI/pythia-70m").read_text()
    assert set(written.splitlines()) <= {*committed.splitlines(), "]"}


def test_an_unknown_model_ends_the_tool_with_one_sentence(capsys):
    assert main(["no-such-model"]) == 2
    assert capsys.readouterr().err == "No model answers to 'no-such-model'.\n"


def test_of_a_tied_model_every_projection_is_quantized_as_the_loader_does(tmp_path):
    """The loader ties weights last, so that to the quantizer the last module is still the head."""
    config = OlmoConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, vocab_size=100,
        tie_word_embeddings=True, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    OlmoForCausalLM._from_config(config, dtype=torch.bfloat16).save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=BitsAndBytesConfig(load_in_4bit=True), device_map={"": "cpu"}
    )
    real = {name for name, module in loaded.named_modules() if isinstance(module, Linear4bit)}
    row = ROWS["allenai/OLMo-1B-hf"].model_copy(update={"config": config.to_dict()})
    groups = [group for group in census_of(build_on_meta(row)) if group.quantizable]
    assert sum(group.count for group in groups) == len(real) == 2 * 7


def test_the_decoders_that_the_dry_run_is_named_for_are_those_that_transformers_builds() -> None:
    assert set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) >= DECODERS

"""The published runs as Requests, and the program that turns rows into them."""

import json

import pytest

from planner.evidence.publications.convert_published import convert, converted, obstacle
from planner.evidence.publications.published import published_runs
from planner.request.recipe import Recipe
from planner.units import MIB


def row(**changes):
    """A row of the source file that can be expressed; each test spoils one thing."""
    return {
        "id": "somebody-0001", "source": "a repository", "source_url": "https://example.org", "date": "2026-01-01",
        "category": "qlora", "model": "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "quant": "nf4", "double_quant": True,
        "quant_scope": None, "lora_r": 16, "lora_targets": "q_proj v_proj", "lora_dropout": 0.1,
        "optimizer": "adamw_torch", "per_device_batch": 2, "grad_accum": None, "seq_len": 1024,
        "seq_len_kind": "packed_exact", "gradient_checkpointing": True, "attn_impl": "flash_attention_2",
        "base_dtype": "bfloat16", "compute_dtype": "bf16 autocast", "kernels": "stock", "framework": "HF Trainer",
        "versions": {"torch": "2.4.1"}, "gpu": "A100-80GB", "num_gpus": 1, "parallelism": "none",
        "metric": "torch.cuda.max_memory_allocated()", "measured_bytes": 5_000_000_000,
        "rounding_half_width_bytes": None, "other_metrics": {"peak_reserved_mib": 6000.0}, "outcome": "ok",
        "ambiguities": [], "grade": "A",
    } | changes  # fmt: skip


def test_every_run_is_a_valid_request_with_a_source():
    runs = published_runs()
    assert len(runs) == len({run.id for run in runs}) == 90
    assert all(run.source and run.bytes > 0 for run in runs)


def test_the_loops_of_fitcheck_run_without_autocast_and_keep_their_outputs():
    recipes = [Recipe.of(run.request) for run in published_runs() if run.family == "fitcheck"]
    assert len(recipes) == 49
    assert all(recipe.autocast is None and recipe.outputs_kept for recipe in recipes)


def test_a_row_becomes_the_request_that_its_words_say():
    document = converted(row())["request"]
    assert document["training"]["per_device_train_batch_size"] == 2
    assert document["quantization"]["bnb_4bit_use_double_quant"] is True
    assert document["stack"] == {"autocast": "bfloat16"}


def test_the_upcast_of_kbit_preparation_is_read_from_the_words():
    kernels = "stock prepare_model_for_kbit_training path via SFTTrainer"
    raised = row(kernels=kernels, base_dtype="float16", compute_dtype="fp16 autocast")
    assert obstacle(raised) is None
    assert converted(raised)["request"]["stack"]["kbit_preparation"] is True


def test_other_figures_of_the_same_run_stay_apart():
    assert converted(row())["also"] == {"peak_reserved": 6000 * MIB}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"category": "inference"}, "inference"),
        ({"num_gpus": 2}, "more than one GPU"),
        ({"measured_bytes": None}, "no byte figure"),
        ({"metric": "unspecified"}, "metric"),
        ({"quant": "gptq-int4"}, "bitsandbytes"),
        ({"kernels": "Unsloth Triton kernels"}, "kernels"),
        ({"framework": "litgpt"}, "model code"),
        ({"seq_len": None}, "length"),
        ({"optimizer": "bnb PagedAdamW"}, "setting"),
        ({"attn_impl": "xformers"}, "setting"),
        ({"kernels": "stock prepare_model_for_kbit_training path via SFTTrainer"}, "cast back"),
        ({"gpu": "16GB GPU (unnamed)"}, "card"),
        ({"model": "somebody/unknown"}, "catalogue"),
    ],
)
def test_a_row_that_cannot_be_expressed_says_why(changes, reason):
    assert obstacle(row()) is None
    assert reason in obstacle(row(**changes))


def test_the_program_prints_what_it_kept_and_counts_what_it_left_out(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps(each) for each in (row(), row(num_gpus=4), row(num_gpus=2))))
    assert convert(str(rows), obstacle, converted) == 0
    kept, report = capsys.readouterr()
    assert json.loads(kept)["id"] == "somebody-0001"
    assert [line.split(maxsplit=1) for line in report.splitlines()] == [["2", "more than one GPU"], ["1", "converted"]]

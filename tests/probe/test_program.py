"""The program itself, through its front door: a Request on stdin, progress on stderr, a Measurement last on stdout."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from planner.errors import InvalidRequestError
from planner.measurement import Measurement
from planner.probe.__main__ import main
from planner.probe.measure import measure
from planner.probe.notes import notes_of
from planner.probe.options import Options, parse_options
from planner.probe.progress import Progress
from planner.probe.training.configs import config_of
from planner.probe.training.load import model_class_of, quantization_config
from planner.request.recipe import Recipe
from planner.request.schema import Quantization
from tests.probe.tiny import on_card, peaks, request, watch

STEP = ["forward", "loss", "backward", "optimizer"]


def run(text: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "planner.probe", *arguments],
        input=text, capture_output=True, text=True, check=False,
        env=os.environ | {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def test_a_real_4_bit_run_on_the_cpu_trains_saves_and_leaves_nothing_behind(tmp_path: Path) -> None:
    asked = request(training={"optim": "paged_adamw_8bit"})
    ran = run(asked.model_dump_json(), "--on", "cpu", "--seed", "7", folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    measurement = Measurement.model_validate_json(ran.stdout.splitlines()[-1])
    assert measurement.outcome == "ok"
    assert measurement.weights == "synthetic"
    assert (measurement.seed, measurement.steps, measurement.tokens_per_micro_batch) == (7, 3, 128)
    assert measurement.request == asked.model_dump(mode="json")
    assert {"torch", "transformers", "peft", "bitsandbytes"} <= measurement.versions.keys()
    names = [phase.name for phase in measurement.phases]
    assert names == ["load", "prepare", *(f"first_{name}" for name in STEP), *STEP, "save"]
    progress = [json.loads(line) for line in ran.stderr.splitlines()]
    stages = [line["stage"] for line in progress if "stage" in line]
    assert stages == ["import", "load", "prepare", "step", "step", "step", "save"]
    told = {line["phase"]: line["peak_allocated_bytes"] for line in progress if "phase" in line}
    assert told == {phase.name: phase.peak_allocated_bytes for phase in measurement.phases}
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_is_the_same_program_on_a_virtual_card(tmp_path: Path) -> None:
    asked = request()
    ran = run(asked.model_dump_json(), folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    measurement = Measurement.model_validate_json(ran.stdout.splitlines()[-1])
    assert (measurement.instrument, measurement.outcome) == ("dry-run", "ok")
    assert (measurement.device.name, measurement.device.compute_capability) == ("a 24 GB card", "8.9")
    progress = [json.loads(line) for line in ran.stderr.splitlines()]
    stages = [line["stage"] for line in progress if "stage" in line]
    assert stages == ["import", "load", "prepare", "step", "step", "step", "save"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "no JSON"),
        ('{"model": "llama", "gpu": "rtx-4090", "lora_rank": 8}', "lora_rank"),
        ('{"model": {"model_type": "no-such-model"}, "gpu": "rtx-4090"}', "model"),
        ('{"model": {"model_type": "vit"}, "gpu": "rtx-4090"}', "causal language model"),
    ],
)
def test_a_bad_request_is_one_sentence_that_names_the_field(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "request.json"
    file.write_text(text)
    assert main(["--request", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err.splitlines()[-1]
    assert "Traceback" not in err


def test_dora_on_8_bit_weights_is_refused_on_a_cpu_where_peft_loses_their_scales(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "request.json"
    asked = request(quantization={"load_in_8bit": True, "load_in_4bit": False}, lora={"r": 8, "use_dora": True})
    file.write_text(asked.model_dump_json())
    assert main(["--request", str(file), "--on", "cpu"]) == 2
    assert "lora.use_dora: on a CPU peft loses the row scales" in capsys.readouterr().err
    assert on_card(asked).outcome == "ok"


@pytest.mark.parametrize(
    "arguments",
    [["--steps", "2"], ["--layers", "4"], ["--routing", "odd"], ["--memory-limit", "lots"], ["--deadline", "-1"]],
)
def test_an_option_that_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        parse_options(arguments)
    assert refusal.value.code == 2


def test_no_card_is_said_plainly(tmp_path: Path) -> None:
    ran = run(request().model_dump_json(), "--on", "cuda", folder=tmp_path)
    assert ran.returncode == 2
    assert "No CUDA device" in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("parts", "options", "fields"),
    [
        ({"training": {"loss": "liger"}}, {"instrument": "cpu"}, {"training.loss"}),
        (
            {"training": {"attn_implementation": "flash_attention_2"}},
            {"instrument": "cpu", "find_smallest": True},
            {"training.attn_implementation", "--find-smallest"},
        ),
        ({"training": {"attn_implementation": "flash_attention_2"}}, {}, {"training.attn_implementation"}),
        ({}, {"instrument": "cpu", "routing": "skewed", "weights": "hub"}, {"--routing", "--weights"}),
        ({}, {"instrument": "cpu", "snapshot": Path("here")}, {"--snapshot"}),
    ],
)
def test_what_an_instrument_cannot_do_is_refused_before_anything_loads(
    parts: dict[str, Any], options: dict[str, Any], fields: set[str]
) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        measure(request(**parts), Options(**options), Progress())
    assert {problem.field for problem in refusal.value.problems} == fields


def test_trls_head_on_a_model_where_it_finds_no_decoder_is_refused_by_name() -> None:
    config = {"model_type": "llama4_text", "hidden_size": 64, "intermediate_size": 64, "intermediate_size_mlp": 64,
              "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
              "vocab_size": 512, "num_local_experts": 2}  # fmt: skip
    with pytest.raises(InvalidRequestError) as refusal:
        on_card(request(config=config, stack="trl"))
    assert "Llama4ForCausalLM" in refusal.value.problems[0].message


def test_a_measurement_says_what_it_rests_on() -> None:
    experts = request("mixtral", training={"optim": "paged_adamw_8bit"})
    recipe = Recipe.of(experts)
    notes = " ".join(notes_of(recipe, config_of(experts, recipe), Options()))
    assert "made up, even" in notes
    assert "managed memory" in notes
    assert "by chance" in " ".join(notes_of(recipe, config_of(experts, recipe), Options(instrument="cuda")))
    assert notes_of(Recipe.of(request()), config_of(request(), recipe), Options()) == ()


def test_real_weights_from_a_folder_read_what_made_up_ones_do(tmp_path: Path) -> None:
    asked = request()
    config = config_of(asked, Recipe.of(asked))
    model_class_of(config)(config).to(torch.bfloat16).save_pretrained(tmp_path)
    assert peaks(watch(asked, weights=str(tmp_path))) == peaks(watch(asked))


def test_named_weights_are_read_as_safetensors_and_never_as_a_pickle(tmp_path: Path) -> None:
    asked = request()
    config = config_of(asked, Recipe.of(asked))
    config.save_pretrained(tmp_path)
    torch.save(model_class_of(config)(config).to(torch.bfloat16).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        watch(asked, weights=str(tmp_path))


def test_an_empty_list_of_skipped_modules_is_not_the_automatic_one() -> None:
    empty = Quantization(load_in_4bit=True, llm_int8_skip_modules=())
    assert quantization_config(empty).llm_int8_skip_modules == []
    assert quantization_config(Quantization(load_in_4bit=True)).llm_int8_skip_modules is None

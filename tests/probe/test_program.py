"""The program itself, through its front door: a Request on stdin, progress on stderr, a Measurement last on stdout."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from planner.errors import InvalidRequestError
from planner.measurement import Measurement
from planner.probe.__main__ import main
from planner.probe.configs import config_of
from planner.probe.load import model_class_of
from planner.probe.measure import measure
from planner.probe.notes import notes_of
from planner.probe.options import Options, parse_options
from planner.probe.progress import Progress
from planner.recipe import Recipe
from tests.probe.tiny import peaks, request, watch

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


def test_a_dry_run_under_a_limit_answers_that_memory_ran_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = tmp_path / "request.json"
    asked.write_text(request().model_dump_json())
    assert main(["--request", str(asked), "--memory-limit", "2GiB", "--find-smallest"]) == 0
    fits = Measurement.model_validate_json(capsys.readouterr().out.splitlines()[-1])
    assert fits.outcome == "ok"
    assert fits.device.name == "a 24 GB card"
    assert fits.peak_reserved_bytes is not None
    assert fits.peak_reserved_bytes >= fits.peak_allocated_bytes
    assert fits.context_bytes is not None
    assert fits.smallest_capacity_bytes is not None
    tight = fits.context_bytes + fits.smallest_capacity_bytes - (4 << 20)
    assert main(["--request", str(asked), "--memory-limit", str(tight)]) == 0
    fails = Measurement.model_validate_json(capsys.readouterr().out.splitlines()[-1])
    assert fails.outcome == "out_of_memory"
    assert fails.failed_phase in {"first_forward", "first_backward"}
    assert fails.short_bytes is not None
    assert fails.short_bytes > 0


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
    eight_bit = {"load_in_8bit": True, "load_in_4bit": False}
    file.write_text(request(quantization=eight_bit, lora={"r": 8, "use_dora": True}).model_dump_json())
    assert main(["--request", str(file), "--on", "cpu"]) == 2
    assert "lora.use_dora: on a CPU peft loses the row scales" in capsys.readouterr().err
    assert main(["--request", str(file), "--on", "dry-run"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [["--steps", "2"], ["--layers", "4"], ["--as", "4090"], ["--memory-limit", "lots"], ["--deadline", "-1"]],
)
def test_an_option_that_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        parse_options(arguments)
    assert refusal.value.code == 2


def test_no_card_is_said_plainly(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(request().model_dump_json())
    assert main(["--on", "cuda", "--request", str(file)]) != 0
    assert "No CUDA device" in capsys.readouterr().err
    assert not list(Path(tempfile.gettempdir()).glob(f"fitproof-probe-{os.getpid()}-*"))


@pytest.mark.parametrize(
    ("parts", "options", "fields"),
    [
        ({"training": {"loss": "liger"}}, {"instrument": "cpu"}, {"training.loss"}),
        (
            {"training": {"attn_implementation": "flash_attention_2"}},
            {"follow": "cpu", "find_smallest": True},
            {"training.attn_implementation", "--find-smallest"},
        ),
        ({}, {"instrument": "cpu", "follow": "sm_89", "weights": "hub"}, {"--as", "--weights"}),
        ({}, {"snapshot": Path("here"), "weights": "folder"}, {"--snapshot", "--weights"}),
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
        watch(request(config=config, stack="trl"))
    assert "Llama4ForCausalLM" in refusal.value.problems[0].message


def test_a_measurement_says_what_it_rests_on() -> None:
    experts = request("mixtral", stack="trl", training={"optim": "paged_adamw_8bit"})
    recipe = Recipe.of(experts)
    notes = " ".join(notes_of(recipe, config_of(experts, recipe), Options()))
    assert "by chance" in notes
    assert "Triton" in notes
    assert "managed memory" in notes
    assert notes_of(Recipe.of(request()), config_of(request(), recipe), Options()) == ()


def test_a_card_where_torch_prefers_cudnns_attention_is_said_to_be_followed_by_kernels_that_keep_the_same() -> None:
    recipe, config = Recipe.of(request()), config_of(request(), Recipe.of(request()))
    assert "prefers cuDNN" in " ".join(notes_of(recipe, config, Options(), "9.0"))
    assert notes_of(recipe, config, Options(), "8.9") == ()
    assert notes_of(recipe, config, Options(instrument="cuda"), "9.0") == ()


def test_real_weights_from_a_folder_read_what_made_up_ones_do(tmp_path: Path) -> None:
    asked = request()
    config = config_of(asked, Recipe.of(asked))
    model_class_of(config)(config).to(torch.bfloat16).save_pretrained(tmp_path)
    assert peaks(watch(asked, instrument="cpu", weights=str(tmp_path))) == peaks(watch(asked, instrument="cpu"))

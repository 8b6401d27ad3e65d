import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli import app
from app.cli.flags import FLAGS
from app.examples import PLAN_REQUESTS
from app.forms.fields import FIELDS
from planner.answer.plan import plan
from planner.request.schema import Request
from tests.app.hub_server import CONFIG, running_hub

# `quantization` has --quant-type.
WITHOUT_A_FLAG = {
    "quantization", "quantization.bnb_4bit_quant_storage", "quantization.group_size",
    "quantization.llm_int8_skip_modules", "stack.adapter_dtype", "stack.autocast", "stack.kbit_preparation",
    "stack.model_dtype", "stack.outputs_kept", "training.max_grad_norm", "training.sdpa_kernel",
    "training.use_reentrant",
}  # fmt: skip
RUN = ("meta-llama/Llama-2-7b-hf", "rtx-4090")


def run(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=stdin)


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(PLAN_REQUESTS["Llama 2 7B on an RTX 4090"]))
    return file


# plan -----------------------------------------------------------------------------------------------------------------


def test_the_verdict_comes_first() -> None:
    result = run("plan", *RUN)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "Fits: meta-llama/Llama-2-7b-hf on NVIDIA GeForce RTX 4090"
    assert "to spare" in lines[1]


def bar_of(result: Result) -> str:
    return next(line for line in result.stdout.splitlines() if line.startswith("["))


def test_the_bar_shows_where_the_card_ends() -> None:
    assert bar_of(run("plan", *RUN)).endswith(".|]")
    assert bar_of(run("plan", *RUN, "--batch", "64", "--no-checkpointing")).endswith("R]")


def test_json_is_the_document_of_the_api() -> None:
    result = run("plan", *RUN, "--json")
    assert json.loads(result.stdout) == plan(Request.parse({"model": RUN[0], "gpu": RUN[1]})).to_dict()


def test_every_line_is_shown_on_demand() -> None:
    short, long = run("plan", *RUN).stdout, run("plan", *RUN, "--all").stdout
    assert "--all shows them" in short
    assert "(not at the peak)" in long
    assert "formula" in long


@pytest.mark.parametrize(
    ("flags", "document"),
    [
        (["--batch", "2", "--length", "512"], {"training": {"per_device_train_batch_size": 2, "max_length": 512}}),
        (["--rank", "8", "--targets", "q_proj, v_proj"], {"lora": {"r": 8, "target_modules": ["q_proj", "v_proj"]}}),
        (["--targets", "all-linear", "--dora"], {"lora": {"target_modules": "all-linear", "use_dora": True}}),
        (["--no-checkpointing"], {"training": {"gradient_checkpointing": False}}),
        (["--no-double-quant"], {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bf16"}),
        (["--quant-type", "int8"], {"load_in_8bit": True}),
        (["--quant-type", "int4"], {"quant_method": "hqq"}),
        (["--method", "lora", "--stack", "loop"], {"method": "lora", "stack": "loop"}),
        (
            ["--objective", "dpo", "--precompute-ref"],
            {"training": {"objective": "dpo", "precompute_ref_log_probs": True}},
        ),
        (
            ["--objective", "grpo", "--generations", "4", "--steps-per-generation", "4", "--iterations", "2"],
            {"training": {"objective": "grpo", "num_generations": 4, "steps_per_generation": 4, "num_iterations": 2}},
        ),
        (["--expandable-segments"], {"training": {"expandable_segments": True}}),
        (["--optim", "adamw_torch", "--loss", "chunked"], {"training": {"optim": "adamw_torch", "loss": "chunked"}}),
    ],
)
def test_flags_spell_the_request(flags: list[str], document: dict[str, object]) -> None:
    result = run("plan", *RUN, *flags, "--json")
    expected = Request.parse({"model": RUN[0], "gpu": RUN[1], **document})
    assert json.loads(result.stdout)["request"] == expected.model_dump(mode="json")


def test_every_control_of_the_site_has_a_flag_but_what_only_a_request_spells_out() -> None:
    """The others are set in a file (--request): they name tensors of one model, or take a stack apart."""
    flags = {flag.path for flag in FLAGS} | {"model", "gpu", "also"}
    without = {".".join(field.path) for field in FIELDS} - flags
    assert without == WITHOUT_A_FLAG


def test_a_card_can_be_given_by_its_memory() -> None:
    answer = json.loads(run("plan", RUN[0], "--memory", "24GiB", "--capability", "8.9", "--json").stdout)
    assert answer["usable_bytes"] == 24 << 30


def test_a_request_is_read_from_a_file_and_flags_win(request_file: Path) -> None:
    answer = json.loads(run("plan", "--request", str(request_file), "--length", "777", "--json").stdout)
    assert answer["request"]["training"]["max_length"] == 777
    assert answer["request"]["lora"]["r"] == 16


def test_a_storage_that_is_asked_for_wins_over_the_files(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    for stored in ({"load_in_8bit": True}, {"quant_method": "hqq"}):
        file.write_text(json.dumps({"model": RUN[0], "gpu": RUN[1], "quantization": stored}))
        found = json.loads(run("plan", "--request", str(file), "--quant-type", "fp4", "--json").stdout)
        kept = found["request"]["quantization"]
        assert (kept["load_in_4bit"], kept["load_in_8bit"], kept["bnb_4bit_quant_type"]) == (True, False, "fp4")


def test_a_request_is_read_from_stdin(request_file: Path) -> None:
    result = run("plan", "--request", "-", "--json", stdin=request_file.read_text())
    assert json.loads(result.stdout)["verdict"] == "fits"


def test_a_folder_with_a_config_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    result = run("plan", str(tmp_path), "4090", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"]["model_type"] == "llama"


AXOLOTL = """\
base_model: meta-llama/Llama-2-7b-hf  # the model
adapter: qlora
load_in_4bit: true
sequence_len: 4096
micro_batch_size: 8  # as large as it goes
lora_r: 32
lora_alpha: 16
lora_target_linear: true
flash_attention: false
wandb_project: mine
"""


@pytest.fixture
def axolotl_file(tmp_path: Path) -> Path:
    file = tmp_path / "axolotl.yml"
    file.write_text(AXOLOTL)
    return file


def test_a_trainers_own_file_is_a_run(axolotl_file: Path) -> None:
    result = run("plan", str(axolotl_file), "4090", "--rank", "8", "--json")
    assert "Read as Axolotl" in result.stderr
    assert "wandb_project: left out" in result.stderr
    request = json.loads(result.stdout)["request"]
    assert request["training"]["max_length"] == 4096
    assert request["training"]["per_device_train_batch_size"] == 8
    assert request["lora"]["r"] == 8
    assert request["gpu"] == "4090"


def test_the_trainers_file_comes_back_with_the_advice_made(axolotl_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "smaller.yml"
    result = run("plan", str(axolotl_file), "3060", "--advised", str(target))
    assert result.exit_code == 1
    assert "expandable_segments:True" in result.stderr
    advised = target.read_text()
    assert advised != AXOLOTL
    assert "# the model" in advised
    assert run("plan", str(target), "3060").exit_code in {0, 1, 3}


def test_advice_needs_a_file_to_be_written_into() -> None:
    result = run("plan", *RUN, "--advised", "-")
    assert result.exit_code == 2
    assert "--advised" in result.stderr


def test_a_model_of_the_hub_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_hub() as hub:
        hub.publish("acme/tiny")
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        result = run("plan", "acme/tiny", "4090", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"]["id"] == "acme/tiny"


def test_every_bad_field_is_named_and_nothing_is_printed_to_stdout() -> None:
    result = run("plan", "no such model!", "rtx-9999-zz", "--length", "-1", "--optim", "adam", "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    for field in ("model:", "gpu:", "training.max_length: must be at least 1; got -1", "training.optim:"):
        assert field in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan"], "model: is required"),
        (["plan", RUN[0], "--memory", "lots"], "write 24GiB"),
        (["plan", *RUN, "--memory", "10GiB"], "keep it, or --memory and --capability"),
        (["plan", "--request", "/nowhere/run.json"], "No such file"),
        (["plan", *RUN, "--length", "many"], "--length"),
        (["plan", *RUN, "--colour", "red"], "--colour"),
        (["nonsense"], "nonsense"),
    ],
)
def test_bad_input_is_status_two(words: list[str], said: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_count_of_cards_is_no_problem_of_a_request_that_is_wrong_elsewhere() -> None:
    result = run("plan", RUN[0], "2x4090", "--fsdp", "fll_shard")
    assert (result.exit_code, "fsdp: fll_shard is no option" in result.stderr) == (2, True)
    assert "gpu:" not in result.stderr


def test_a_run_that_keeps_its_state_on_the_host_says_how_much_on_one_card_too() -> None:
    result = run("plan", "llama 3.1 8b", "4090", "--method", "full", "--deepspeed", "zero3-offload")
    assert "checkpointing, ZeRO 3, on the host," in result.stdout
    assert "GiB of host memory for each process" in result.stdout
    assert "host memory" not in run("plan", *RUN).stdout


def test_a_file_that_is_not_json_says_where_it_breaks(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"model": }')
    result = run("plan", "--request", str(tmp_path / "run.json"))
    assert result.exit_code == 2
    assert "line 1, column 11" in result.stderr


# catalogues and limits ------------------------------------------------------------------------------------------------


def test_cards_are_listed_with_what_torch_gets() -> None:
    result = run("gpus", "4090")
    assert result.exit_code == 0
    assert "23.52 GiB" in result.stdout


def test_models_are_found_by_words() -> None:
    assert "meta-llama/Meta-Llama-3-8B" in run("models", "llama", "3", "8b").stdout


def test_a_long_list_says_how_to_see_the_rest() -> None:
    assert "more; say --limit" in run("models", "--limit", "5").stdout


def test_nothing_found_says_so() -> None:
    assert "Nothing matches" in run("gpus", "abacus").stdout


@pytest.mark.parametrize(("command", "least"), [("models", 200), ("gpus", 80)])
def test_lists_are_documents_on_demand(command: str, least: int) -> None:
    document = json.loads(run(command, "--json", "--limit", "1000").stdout)
    assert len(document["items"]) == document["total"] >= least


def test_max_answers_how_far_a_run_can_be_stretched() -> None:
    found = json.loads(run("max", *RUN, "--json").stdout)
    length = found["max_length"]["fits"]
    assert run("plan", *RUN, "--length", str(length)).exit_code == 0
    assert run("plan", *RUN, "--length", str(length + 1)).exit_code != 0
    assert f"{length:,}" in run("max", *RUN).stdout


def test_a_price_per_hour_of_one_card_says_what_the_hours_of_all_cost() -> None:
    long = ("plan", "llama 3.1 8b", "a100-80gb", "--batch", "8", "--tokens", "100000000")
    hours = float(re.search(r"about ([\d,.]+) hours", run(*long).stdout)[1])  # type: ignore[index]
    cost = float(re.search(r"at 2\.00 an hour: about ([\d,.]+)", run(*long, "--price-per-hour", "2").stdout)[1])  # type: ignore[index]
    assert cost == pytest.approx(2 * hours, abs=0.15)


def test_a_price_without_a_number_of_tokens_is_refused_with_the_fix() -> None:
    found = run("plan", "llama 3.1 8b", "a100-80gb", "--price-per-hour", "2")
    assert found.exit_code == 2
    assert "--tokens N" in found.output

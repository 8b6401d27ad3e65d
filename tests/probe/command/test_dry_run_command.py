"""`fitproof dry-run -- PROGRAM`: programs that know nothing of Fitproof, on virtual cards, through the terminal."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.probe.command.terminal import program, report_of, run, torchrun

Looped = tuple[subprocess.CompletedProcess[str], str]


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> Looped:
    """A loop that would run a thousand steps, and the page about it."""
    folder = tmp_path_factory.mktemp("loop")
    done = run(sys.executable, program("loop"), "512", cwd=folder, options=("--json", "--html", "report.html"))
    assert done.returncode == 0, done.stderr
    return done, (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two ranks of FSDP2 tell."""
    options = ("--gpus", "2", "--json")
    done = run(*torchrun(2), program("fsdp2"), cwd=tmp_path_factory.mktemp("fsdp2"), options=options)
    assert done.returncode == 0, done.stderr
    processes: list[dict[str, Any]] = report_of(done)["processes"]
    return processes


def test_a_loop_of_a_thousand_steps_ends_when_the_peak_repeats_and_says_what_it_took(looped: Looped) -> None:
    done, page = looped
    assert "trained 0" in done.stdout
    report = report_of(done)
    (process,) = report["processes"]
    assert report["verdict"] == "fits"
    assert report["program_exit_status"] == 0
    assert 2 <= len(process["steps"]) <= 4
    assert process["steps"][-1] == process["steps"][-2]
    card = process["card"]
    assert card["peak_used_bytes"] == process["peak_reserved_bytes"] + card["context_bytes"]
    assert "LlamaMLP" in page
    assert not re.search(r"(src|href)=\"http", page)


def test_the_peak_is_made_of_weights_optimizer_and_activations_that_have_a_line(looped: Looped) -> None:
    peak = report_of(looped[0])["processes"][0]["peak"]
    kinds = {row["name"]: row["bytes"] for row in peak["by_kind"]}
    parameters = 1024 * 256 * 2 + 2 * (4 * 256 * 256 + 3 * 256 * 512 + 2 * 256) + 256
    assert kinds["trained weights"] == parameters * 2
    # AdamW keeps two tensors of the weight's dtype (torch/optim/adamw.py, `exp_avg`, `exp_avg_sq`).
    assert kinds["optimizer"] == parameters * 4
    assert kinds["activations"] > 0
    assert sum(kinds.values()) == sum(row["bytes"] for row in peak["by_module"])
    assert any("loop.py" in row["name"] for row in peak["by_line"])


def test_out_of_memory_is_an_answer_in_torchs_own_words_with_the_line_that_asked(tmp_path: Path) -> None:
    done = run(sys.executable, program("loop"), "65536", cwd=tmp_path, options=("--memory-limit", "1GiB"))
    assert done.returncode == 1, done.stderr
    assert "Does not fit: out of memory on rank 0" in done.stdout
    assert "CUDA out of memory. Tried to allocate" in done.stdout
    assert "modeling_llama.py" in done.stdout or "loss_utils.py" in done.stdout


def test_two_ranks_of_fsdp2_each_have_a_card_and_half_of_the_optimizer(sharded: list[dict[str, Any]]) -> None:
    assert [(process["rank"], process["device"], process["world_size"]) for process in sharded] == [
        (0, 0, 2),
        (1, 1, 2),
    ]
    first, second = ({row["name"]: row["bytes"] for row in process["peak"]["by_kind"]} for process in sharded)
    assert first["optimizer"] == pytest.approx(second["optimizer"], rel=0.01)


def test_ranks_have_nccls_buffers_as_a_modelled_range_with_its_sources(sharded: list[dict[str, Any]]) -> None:
    for process in sharded:
        (line,) = [line for line in process["lines"] if line["name"] == "NCCL's buffers"]
        assert line["evidence"] == "modelled"
        assert (line["low"], line["high"]) == (24 << 20, 1_600_000_000)
        assert "github.com/NVIDIA/nccl/issues/1685" in line["source"]


def test_a_trl_script_with_4_bit_weights_and_a_paged_optimizer_runs_unchanged(tmp_path: Path) -> None:
    done = run(sys.executable, program("trl_sft"), "model", "output", cwd=tmp_path, options=("--json",))
    assert done.returncode == 0, done.stderr
    (process,) = report_of(done)["processes"]
    kinds = {row["name"]: row["bytes"] for row in process["peak"]["by_kind"]}
    linear = 2 * (4 * 256 * 256 + 3 * 256 * 512)
    embeddings_and_norms = 2 * 52 * 256 + 5 * 256
    assert kinds["weights"] == linear // 2 + embeddings_and_norms * 2
    assert "quantization constants" in kinds
    assert "trained weights" in kinds

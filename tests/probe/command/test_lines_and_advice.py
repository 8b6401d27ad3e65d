"""What stands on the card beside torch's allocator, what others hold of it, and what would make a program fit."""

import sys
from pathlib import Path

from planner.catalog import find_gpu
from tests.probe.command.terminal import program, report_of, run, torchrun

MIB = 1 << 20


def test_a_desktop_on_the_card_is_a_line_and_its_memory_is_gone(tmp_path: Path) -> None:
    words = (sys.executable, program("loop"), "8192")
    done = run(*words, cwd=tmp_path, options=("--taken", "23GiB", "--json"))
    assert done.returncode == 1, done.stdout
    report = report_of(done)
    (process,) = report["processes"]
    lines = {line["name"]: line for line in process["lines"]}
    assert lines["display and other programs"]["likely"] == 23 << 30
    assert "23.00 GiB memory in use" in process["message"]


def test_a_program_that_lacks_memory_is_told_what_saves_how_much_and_which_card_is_enough(tmp_path: Path) -> None:
    words = (sys.executable, program("loop"), "8192")
    done = run(*words, cwd=tmp_path, options=("--memory-limit", "700MiB", "--find-smallest", "--json"))
    assert done.returncode == 1, done.stdout
    (process,) = report_of(done)["processes"]
    advice = {row["change"]: row for row in process["advice"]}
    checkpointing = advice["turn gradient checkpointing on"]
    activations = sum(row["bytes"] for row in process["peak"]["by_kind"] if "activations" in row["name"])
    assert (checkpointing["saves_bytes"], checkpointing["exact"]) == (activations, False)
    larger = [change.removeprefix("a larger card: ") for change in advice if change.startswith("a larger card: ")]
    assert larger
    assert all(find_gpu(name).usable_bytes > process["smallest"]["bytes"] > 700 * MIB for name in larger)


def test_ranks_have_nccls_buffers_as_a_modelled_range_with_its_sources(tmp_path: Path) -> None:
    done = run(*torchrun(2), program("fsdp2"), cwd=tmp_path, options=("--gpus", "2", "--json"))
    assert done.returncode == 0, done.stderr
    for process in report_of(done)["processes"]:
        (line,) = [line for line in process["lines"] if line["name"] == "NCCL's buffers"]
        assert line["evidence"] == "modelled"
        assert (line["low"], line["high"]) == (24 * MIB, 1_600_000_000)
        assert "github.com/NVIDIA/nccl/issues/1685" in line["source"]

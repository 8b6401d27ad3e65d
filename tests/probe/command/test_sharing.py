"""Processes on one card, forks, and worlds of which only some ranks run."""

import sys
from pathlib import Path

from tests.probe.command.terminal import program, report_of, run, torchrun


def test_processes_on_one_card_see_each_others_memory(tmp_path: Path) -> None:
    fits = run(sys.executable, program("shares_a_card"), "5", cwd=tmp_path)
    assert fits.returncode == 0, fits.stderr
    full = run(sys.executable, program("shares_a_card"), "8", cwd=tmp_path)
    assert full.returncode == 1, full.stderr
    assert "Tried to allocate 8.00 GiB" in full.stdout
    assert "has 16." in full.stdout  # torch names the process beside it


def test_a_fork_holds_nothing_of_the_card_that_its_parent_took(tmp_path: Path) -> None:
    # Its two workers are forks: counted again, their 15 GiB each would leave no room on this card.
    done = run(sys.executable, program("workers"), cwd=tmp_path, options=("--json",))
    assert done.returncode == 0, done.stderr
    (process,) = report_of(done)["processes"]
    assert process["peak_reserved_bytes"] > 20 << 30


def test_one_rank_of_a_world_of_64_runs_in_groups_of_the_right_shape(tmp_path: Path) -> None:
    done = run(*torchrun(64), program("hybrid"), "8", cwd=tmp_path, options=("--gpus", "64", "--ranks", "1", "--json"))
    assert done.returncode == 0, done.stderr
    assert "said 64 shard (512, 4096)" in done.stdout
    (process,) = report_of(done)["processes"]
    assert (process["rank"], process["world_size"]) == (0, 64)
    kinds = {row["name"]: row["bytes"] for row in process["peak"]["by_kind"]}
    # Two moments of 4 bytes for an eighth of each weight.
    assert kinds["optimizer"] == 4 * 4096 * 4096 // 8 * 8


def test_of_a_world_of_four_the_first_two_ranks_run_and_the_answer_says_so(tmp_path: Path) -> None:
    done = run(*torchrun(4), program("hybrid"), "2", cwd=tmp_path, options=("--gpus", "4", "--json"))
    assert done.returncode == 0, done.stderr
    report = report_of(done)
    assert [process["rank"] for process in report["processes"]] == [0, 1]
    (note,) = [note for note in report["notes"] if "ranks ran" in note]
    assert note.startswith("The first 2 of 4 ranks ran")


def test_ranks_that_a_program_spawns_itself_are_told_apart(tmp_path: Path) -> None:
    options = ("--gpus", "2", "--steps", "3", "--json")
    done = run(sys.executable, program("spawned_ranks"), str(tmp_path), cwd=tmp_path, options=options)
    assert done.returncode == 0, done.stderr
    processes = [process for process in report_of(done)["processes"] if process["card"]]
    places = [(process["rank"], process["device"], process["world_size"]) for process in processes]
    assert places == [(0, 0, 2), (1, 1, 2)]
    assert done.stderr.count("fitproof: step 3") == 1

"""The matrix over a stand-in probe: one process for each setting, records as they come, and going on after a stop."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from planner.errors import InvalidRequestError
from planner.probe.recording.matrix import in_a_program, in_forks, main, recorded_ids, run_matrix, settings
from planner.request.recipe import Recipe
from planner.request.schema import Request
from tests.probe import helper
from tests.probe.tiny import request

FAKE_PROBE = """
import json, os, sys
request = json.load(sys.stdin)
if request["model"] == "breaks":
    print("The probe failed: no reason.", file=sys.stderr)
    sys.exit(1)
print("chatter")
print(json.dumps({"outcome": "ok", "peak_allocated_bytes": os.getpid(), "options": sys.argv[1:]}))
"""


@pytest.fixture
def matrix(tmp_path):
    """Three settings, the second of which breaks."""
    path = tmp_path / "matrix.jsonl"
    rows = [
        {
            "id": "one",
            "why": "first",
            "request": {"model": "works", "gpu": "t4"},
            "options": ["--memory-limit", "8GiB"],
        },
        {"id": "two", "why": "second", "request": {"model": "breaks", "gpu": "t4"}},
        {"id": "three", "why": "third", "request": {"model": "works", "gpu": "t4"}},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture
def command(tmp_path):
    probe = tmp_path / "probe.py"
    probe.write_text(FAKE_PROBE)
    return [sys.executable, str(probe)]


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_setting_runs_in_a_process_of_its_own_with_its_options(matrix, command, tmp_path):
    records = tmp_path / "records.jsonl"
    failures = run_matrix(settings(matrix), records, in_a_program(command, "cuda"), lambda _: None)
    one, two, three = rows_of(records)
    assert failures == 1
    assert one["measurement"]["options"][:4] == ["--on", "cuda", "--memory-limit", "8GiB"]
    assert one["measurement"]["peak_allocated_bytes"] != three["measurement"]["peak_allocated_bytes"]
    assert (two["measurement"], two["error"]) == (None, "The probe failed: no reason.")


def test_a_second_run_tries_only_what_has_no_measurement(matrix, command, tmp_path):
    records, said = tmp_path / "records.jsonl", []
    run_matrix(settings(matrix), records, in_a_program(command, "cuda"), lambda _: None)
    run_matrix(settings(matrix), records, in_a_program(command, "cuda"), said.append)
    assert recorded_ids(records) == {"one", "three"}
    assert [line.split()[0] for line in said] == ["two"]


def run_in_forks(path, records):
    return run_matrix(settings(path), records, in_forks(), lambda _: None)


def test_a_dry_run_forks_this_process_and_its_failure_is_that_settings_alone(tmp_path):
    path, records = tmp_path / "matrix.jsonl", tmp_path / "records.jsonl"
    bad = request(training={"attn_implementation": "flash_attention_2"})
    rows = [("good", request()), ("bad", bad), ("also good", request("gpt2"))]
    path.write_text("\n".join(json.dumps({"id": i, "why": "", "request": r.model_dump(mode="json")}) for i, r in rows))
    assert helper.call(run_in_forks, path, records) == 1
    assert [row["measurement"] and row["measurement"]["outcome"] for row in rows_of(records)] == ["ok", None, "ok"]


def test_the_deadline_stops_the_matrix_and_keeps_what_was_measured(tmp_path):
    records, matrix = tmp_path / "records.jsonl", tmp_path / "matrix.jsonl"
    takes_seconds = {"model": "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "gpu": "t4"}
    matrix.write_text(json.dumps({"id": "one", "why": "it takes seconds", "request": takes_seconds}))
    program = "import sys, planner.probe.recording.matrix as m; sys.exit(m.main(sys.argv[1:]))"
    arguments = ["--on", "dry-run", "--settings", str(matrix), "--records", str(records), "--deadline", "0.5"]
    finished = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert finished.returncode == 0
    assert "deadline" in finished.stderr
    assert not records.exists()


def test_two_settings_of_one_name_are_refused(matrix):
    matrix.write_text(matrix.read_text().replace('"three"', '"one"'))
    with pytest.raises(ValueError, match="one"):
        settings(matrix)


def test_a_wrong_request_in_the_matrix_is_refused_by_name(matrix):
    matrix.write_text(matrix.read_text().replace('"gpu"', '"card"'))
    with pytest.raises(InvalidRequestError):
        settings(matrix)


def test_nothing_to_do_is_no_failure(matrix, tmp_path):
    assert main(["--on", "dry-run", "--settings", str(matrix), "--only", "none", "--records", str(tmp_path / "r")]) == 0


def test_the_committed_matrix_covers_what_the_evidence_must_show():
    chosen = settings()
    recipes = [Recipe.of(Request.parse(setting.request)) for setting in chosen]
    limits = {setting.options[1] for setting in chosen if setting.options[:1] == ("--memory-limit",)}
    assert len(chosen) >= 60
    assert len({setting.request["model"].split("/")[-1].split("-")[0] for setting in chosen}) >= 8
    assert {recipe.stack_name for recipe in recipes} == {"trainer", "trl", "kbit", "loop"}
    assert {recipe.length for recipe in recipes} >= {512, 1024, 2048, 4096, 8192}
    assert {recipe.training.gradient_checkpointing for recipe in recipes} == {True, False}
    assert {recipe.training.padded for recipe in recipes} == {True, False}
    assert len({recipe.training.optim for recipe in recipes}) >= 6
    assert limits == {"8GiB", "12GiB", "16GiB", "24GiB", "48GiB"}
    assert any("70B" in setting.request["model"] for setting in chosen)


def test_the_committed_dry_run_records_are_of_settings_in_the_matrix():
    records = Path(main.__globals__["EVIDENCE"]) / "measured-dry-run.jsonl"
    assert recorded_ids(records) <= {setting.id for setting in settings()}

"""The GitHub Action of the repository, without GitHub: what it plans, what it would write under a pull request."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.site.imports.configs import AXOLOTL

FOLDER = Path(__file__).parents[3] / ".github" / "actions" / "fit"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a trainer's file, a request, and this fitproof on its PATH."""
    program = tmp_path / "bin" / "fitproof"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m app.cli "$@"\n')
    program.chmod(0o755)
    (tmp_path / "axolotl.yml").write_text(AXOLOTL)
    (tmp_path / "plan.json").write_text(json.dumps({"model": "meta-llama/Llama-3.1-8B", "gpu": "rtx-4090"}))
    return tmp_path


def planned(checkout: Path, *arguments: str) -> tuple[int, str, str]:
    """The script's exit status, the comment and the outputs."""
    outputs = checkout / "outputs"
    path = os.pathsep.join([str(checkout / "bin"), os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = os.environ | {
        "PATH": path, "GITHUB_OUTPUT": str(outputs), "PYTHONPATH": str(FOLDER.parents[2]), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    ran = subprocess.run(["bash", str(FOLDER / "plan.sh"), *arguments], cwd=checkout, env=environment, check=False)
    comment = checkout / "fitproof.md"
    told = comment.read_text() if comment.exists() else ""
    return ran.returncode, told, outputs.read_text() if outputs.exists() else ""


def test_a_request_becomes_a_comment_and_an_output(checkout: Path) -> None:
    status, comment, outputs = planned(checkout, "plan.json", "")
    assert status == 0
    assert comment.startswith("### Fitproof: plan.json")
    assert "Fits" in comment
    assert outputs == "verdict=fits\n"


def test_a_trainers_file_is_planned_for_the_card_named(checkout: Path) -> None:
    status, comment, outputs = planned(checkout, "axolotl.yml", "rtx-3060-12gb")
    assert status == 0
    assert "3060" in comment
    assert outputs in {"verdict=does_not_fit\n", "verdict=tight\n"}


def test_what_cannot_be_read_fails_without_a_comment(checkout: Path) -> None:
    (checkout / "broken.yml").write_text("nothing: here\n")
    status, comment, _ = planned(checkout, "broken.yml", "rtx-4090")
    assert status == 2
    assert not comment


def test_the_action_runs_the_script_beside_it() -> None:
    steps = YAML(typ="safe").load((FOLDER / "action.yml").read_text())["runs"]["steps"]
    assert any("plan.sh" in step.get("run", "") for step in steps)
    assert (FOLDER / ".." / ".." / ".." / "pyproject.toml").is_file()

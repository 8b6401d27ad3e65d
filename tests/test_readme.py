"""The README keeps its word: what it lists exists, what it shows runs, what can be set is said."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings, variable_of
from tests.service.forking import forked_template

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_setting_is_in_the_table() -> None:
    missing = [variable_of(name) for name in Settings.model_fields if f"| `{variable_of(name)}` |" not in README]
    assert not missing, f"add to the README's settings table: {missing}"


def test_the_table_lists_no_setting_that_is_gone() -> None:
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE))
    assert listed == {variable_of(name) for name in Settings.model_fields}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))))
def test_every_make_target_named_is_a_target(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_tree_names_only_what_exists() -> None:
    tree = README.split("```text\n")[1].split("```")[0]
    names = re.findall(r"(?:^|(?<=\s))(\w+/|\w+\.(?:py|yaml)|Dockerfile)(?=\s)", tree)
    parts = (
        "", "planner", "planner/answer", "planner/step", "planner/probe", "planner/families", "planner/evidence",
        "planner/request", "planner/parallel", "app", "app/imports", "tests",
    )  # fmt: skip
    rooms = [ROOT / part for part in parts]
    assert [name for name in names if not any((room / name).exists() for room in rooms)] == []


def test_the_tree_shows_every_package_of_the_house() -> None:
    tree = README.split("```text\n")[1].split("```")[0]
    packages = [path.parent for room in ("app", "planner") for path in (ROOT / room).glob("*/__init__.py")]
    assert [str(package.relative_to(ROOT)) for package in packages if f"{package.name}/" not in tree] == []


def test_the_api_example_answers(tmp_path: Path) -> None:
    (document,) = re.findall(r"/api/v1/plans .*? -d '(\{.*?\})'", README, re.DOTALL)
    with TestClient(create_app(Settings.load(data_dir=tmp_path), start_template=forked_template)) as client:
        answer = client.post("/api/v1/plans", json=json.loads(document))
    assert answer.status_code == 200
    assert answer.json()["verdict"] == "fits"


def test_every_address_named_leads_somewhere(tmp_path: Path) -> None:
    named = set(re.findall(r"`(?:GET )?(/(?:api|plan|docs|healthz|metrics|accuracy)[^`\s]*)`", README))
    assert named
    with TestClient(create_app(Settings.load(data_dir=tmp_path), start_template=forked_template)) as client:
        assert [address for address in named if client.get(address).status_code == 404] == []


def test_the_terminal_example_prints_what_is_shown() -> None:
    command, *shown = README.split("$ fitproof ")[1].split("\n```")[0].splitlines()
    words = [str(Path(sys.executable).with_name("fitproof")), *shlex.split(command)]
    finished = subprocess.run(words, capture_output=True, text=True, check=True)  # our own program
    assert finished.stdout.splitlines()[: len(shown)] == shown

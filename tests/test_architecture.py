"""The laws of the house. The import contracts stand in pyproject.toml under [tool.importlinter]."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[1]
HOUSE = {"app", "planner", "templates", "static", "tests", "Dockerfile", "pyproject.toml", "README.md"}
BESIDE = {"Makefile", "compose.yaml", "CHANGELOG.md", "constraints.txt"}
HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "trl")


def tracked() -> list[str]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listing.stdout.splitlines()


def test_every_import_contract_is_kept() -> None:
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == EXIT_STATUS_SUCCESS


def test_the_top_level_holds_only_what_the_house_allows() -> None:
    top = {name.split("/")[0] for name in tracked()}
    assert {name for name in top if not name.startswith(".")} <= HOUSE | BESIDE


def test_planning_and_serving_import_no_training_library() -> None:
    program = (
        "import sys, planner, app.main, app.cli\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_no_file_is_about_too_many_things() -> None:
    too_long = {
        name: lines
        for name in tracked()
        if name.endswith((".py", ".js", ".html")) and (lines := len((ROOT / name).read_text().splitlines())) > 300
    }
    assert not too_long


def test_no_folder_holds_more_files_than_one_reads_at_a_glance() -> None:
    read = (name for name in tracked() if name.endswith((".py", ".js", ".html", ".jsonl")))
    files = Counter(str(Path(name).parent) for name in read if not name.endswith("__init__.py"))
    assert not {folder: count for folder, count in files.items() if count > 20}

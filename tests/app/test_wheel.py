"""What `pip install .` brings: everything that planning and serving need, from any folder, without torch."""

import ast
import html
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.app.serving import reading_stderr

ROOT = Path(__file__).parents[2]

# Imports a light install must not make, at all or by way of anything it imports.
HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "trl")
BLOCK_HEAVY = f"import sys; sys.modules.update(dict.fromkeys({HEAVY}))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = folder.glob("fitproof-*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked, as pip would; its dependencies come from the running environment."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def tracked(*folders: str) -> set[str]:
    listing = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listing.stdout.splitlines())


def test_the_wheel_carries_every_file_of_the_house_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        carried = {name for name in archive.namelist() if ".dist-info/" not in name}
    moved = {f"app/{name}" for name in tracked("templates", "static")}
    assert tracked("app", "planner") | moved <= carried
    assert {name.split("/")[0] for name in carried} == {"app", "planner"}
    assert not [name for name in carried if "__pycache__" in name or name.endswith((".sqlite3", ".log"))]


def test_the_wheel_installs_the_command(installed: Path) -> None:
    (folder,) = installed.glob("*.dist-info")
    assert "fitproof = app.cli:main" in (folder / "entry_points.txt").read_text()


def test_planning_works_from_any_folder_without_torch(installed: Path, tmp_path: Path) -> None:
    words = ["plan", "meta-llama/Llama-2-7b-hf", "4090"]
    code = f"{BLOCK_HEAVY}; sys.argv[1:] = {words}\nfrom app.cli import main; main()"
    planned = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.startswith("Fits")


def test_serving_works_from_any_folder_without_torch(installed: Path, tmp_path: Path) -> None:
    code = f"{BLOCK_HEAVY}; sys.argv[1:] = ['serve', '--port', '0']\nfrom app.cli import main; main()"
    environment = os.environ | {"PYTHONPATH": str(installed), "FITPROOF_DATA_DIR": str(tmp_path / "data")}
    environment["FITPROOF_LOCAL_ACCESS"] = "yes"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            address = reading_stderr(server, r"http://127\.0\.0\.1:\d+")
            page = httpx.get(address, timeout=60)
            assert page.status_code == 200, page.text
            for asset in set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)):
                assert httpx.get(address + asset).status_code == 200, asset
            asked = {"model": "meta-llama/Llama-2-7b-hf", "gpu": "rtx-4090"}
            assert httpx.post(f"{address}/api/v1/plans", json=asked).json()["verdict"] == "fits"
            says_how_to_attach_a_worker(address, asked)
        finally:
            server.terminate()
        server.communicate(timeout=20)
    assert server.returncode in {0, -15}


def says_how_to_attach_a_worker(address: str, asked: dict[str, str]) -> None:
    ways = ("pip install 'fitproof[probe]'", "FITPROOF_RAY_URL")
    listed = httpx.get(f"{address}/api/v1/workers").json()
    assert listed["items"] == []
    refused = httpx.post(f"{address}/api/v1/probes", json=asked)
    assert (refused.status_code, refused.json()["code"]) == (409, "no_worker")
    form = {"plan": "model=meta-llama/Llama-2-7b-hf&gpu=rtx-4090"}
    pressed = httpx.post(f"{address}/prove", data=form, headers={"accept": "text/html", "origin": address})
    assert pressed.status_code == 409
    pages = [html.unescape(page.text) for page in (pressed, httpx.get(f"{address}/probes"))]
    for said in (listed["hint"], refused.json()["errors"][0]["message"], *pages):
        assert all(way in said for way in ways), said


# What runs where the training stack is: the probe's own environment, or one made for a publication's releases.
ELSEWHERE = ("planner/probe/", "planner/evidence/published_dry_runs/harness/")


def test_every_import_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = {re.split(r"[\[<>=;! ]", line)[0].lower().replace("_", "-") for line in project["dependencies"]}
    provided_by = importlib.metadata.packages_distributions()
    undeclared = {
        name
        for file in tracked("app", "planner")
        if file.endswith(".py") and not file.startswith(ELSEWHERE)
        for name in imported(ROOT / file)
        if name not in sys.stdlib_module_names | {"app", "planner"}
        and not {name.lower().replace("_", "-") for name in provided_by.get(name, [name])} & needs
    }
    # Brought by declared ones and used by name: starlette by FastAPI, pydantic_core by pydantic, markupsafe by Jinja.
    assert undeclared <= {"starlette", "pydantic_core", "markupsafe", "psycopg", "pynvml", "ray"}


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names

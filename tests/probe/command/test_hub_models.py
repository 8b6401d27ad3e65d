"""Hub models in a dry run: weights come without their bytes, in each format, and everything else as it is."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from planner.catalog.model_rows import model_catalog
from tests.probe.command.hub import CONFIG, REPOSITORY, shapes, small_hub
from tests.probe.command.terminal import program, report_of, run

PICKLED = "someone/pickled-model"
SMALL = {**CONFIG, "hidden_size": 512, "intermediate_size": 1024, "vocab_size": 8192}


def trained_bytes(process: dict[str, Any]) -> int:
    return int({row["name"]: row["bytes"] for row in process["peak"]["by_kind"]}["trained weights"])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The person's hub cache, empty."""
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return cache


def test_safetensors_come_as_a_header_and_a_hole_and_leave_the_persons_cache_alone(tmp_path: Path, cache: Path) -> None:
    with small_hub() as (address, hub):
        words = (sys.executable, program("hub_model"), REPOSITORY)
        done = run(*words, cwd=tmp_path, options=("--json",), HF_ENDPOINT=address)
        sent_bytes = hub.sent_bytes
    assert done.returncode == 0, done.stderr
    (process,) = report_of(done)["processes"]
    parameters = sum(math.prod(shape) for shape in shapes().values())
    assert trained_bytes(process) == parameters * 2
    assert sent_bytes < 100_000 < parameters
    assert list(cache.iterdir()) == []


def pickled(tmp_path: Path, form: str) -> dict[str, bytes]:
    tensors = {name: torch.zeros(shape, dtype=torch.bfloat16) for name, shape in shapes(SMALL).items()}
    torch.save(tensors, tmp_path / "model.bin", _use_new_zipfile_serialization=form == "zip")
    return {
        f"{PICKLED}/config.json": json.dumps(SMALL).encode(),
        f"{PICKLED}/pytorch_model.bin": (tmp_path / "model.bin").read_bytes(),
    }


@pytest.mark.usefixtures("cache")
def test_pickled_weights_come_as_their_pickle_with_holes_for_the_tensors(tmp_path: Path) -> None:
    files = pickled(tmp_path, "zip")
    whole_bytes = len(files[f"{PICKLED}/pytorch_model.bin"])
    with small_hub(files) as (address, hub):
        words = (sys.executable, program("hub_model"), PICKLED)
        done = run(*words, cwd=tmp_path, options=("--json",), HF_ENDPOINT=address)
        sent_bytes = hub.sent_bytes
    assert done.returncode == 0, done.stderr
    (process,) = report_of(done)["processes"]
    assert trained_bytes(process) == pytest.approx(whole_bytes, rel=0.01)
    assert sent_bytes < whole_bytes / 20


@pytest.mark.usefixtures("cache")
def test_pickled_weights_of_an_old_torch_are_refused_with_the_fix(tmp_path: Path) -> None:
    with small_hub(pickled(tmp_path, "old")) as (address, _):
        done = run(sys.executable, program("hub_model"), PICKLED, cwd=tmp_path, HF_ENDPOINT=address)
    assert done.returncode == 2
    assert "written by a torch before 1.6" in done.stdout
    assert "use a repository with safetensors" in done.stdout


@pytest.mark.usefixtures("cache")
def test_offline_a_model_that_is_not_in_the_cache_comes_from_the_catalogue(tmp_path: Path) -> None:
    words = (sys.executable, program("hub_model"), "HuggingFaceTB/SmolLM2-135M")
    done = run(*words, cwd=tmp_path, options=("--offline", "--json"), HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    (process,) = report_of(done)["processes"]
    assert trained_bytes(process) == model_catalog().find("HuggingFaceTB/SmolLM2-135M").params * 2

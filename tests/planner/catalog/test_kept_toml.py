"""A catalogue that was parsed before is the one in its file."""

import tomllib
from pathlib import Path

import pytest

from planner.catalog.kept_toml import read_toml


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(folder: Path, text: str) -> Path:
    (folder / "rows.toml").write_text(text)
    return folder / "rows.toml"


def test_the_second_reading_is_the_first_one(tmp_path: Path, cache: Path) -> None:
    path = written(tmp_path, '[[row]]\nid = "a"\nchecked = 2026-11-23\n')
    first = read_toml(path)
    assert len(list(cache.rglob("*.pickle"))) == 1
    assert read_toml(path) == first == tomllib.loads(path.read_text())


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    read_toml(written(tmp_path, "a = 1\n"))
    assert read_toml(written(tmp_path, "a = 2\n")) == {"a": 2}


@pytest.mark.parametrize("damage", [b"", b"\x80", b"no pickle"])
def test_a_damaged_cache_is_no_trouble(tmp_path: Path, cache: Path, damage: bytes) -> None:
    path = written(tmp_path, "a = 1\n")
    read_toml(path)
    for kept in cache.rglob("*.pickle"):
        kept.write_bytes(damage)
    assert read_toml(path) == {"a": 1}


def test_a_file_that_is_no_toml_is_said_to_be_none_each_time(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(tomllib.TOMLDecodeError):
            read_toml(written(tmp_path, "a ="))


def test_a_cache_that_cannot_be_written_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert read_toml(written(tmp_path, "a = 1\n")) == {"a": 1}

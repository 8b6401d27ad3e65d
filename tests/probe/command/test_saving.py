"""What a program saves in a dry run goes to a scratch folder, unless it is asked to save in place."""

import sys
from pathlib import Path

from tests.probe.command.terminal import program, run


def theirs(tmp_path: Path) -> Path:
    """A folder where the person has a checkpoint from a real run."""
    checkpoint = tmp_path / "place" / "output" / "checkpoint-1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_text("a week of work")
    return tmp_path / "place"


def test_a_persons_checkpoints_stay_and_what_is_saved_lies_in_the_scratch_folder(tmp_path: Path) -> None:
    place, scratch = theirs(tmp_path), tmp_path / "scratch"
    done = run(sys.executable, program("saves"), cwd=place, options=("--scratch", str(scratch)))
    assert done.returncode == 0, done.stderr
    assert "read again {'before': 1}" in done.stdout
    assert sorted(path.name for path in place.iterdir()) == ["before.pt", "output"]
    assert [path.name for path in (place / "output").iterdir()] == ["checkpoint-1"]
    assert (place / "output" / "checkpoint-1" / "model.safetensors").read_text() == "a week of work"
    saved = scratch / place.relative_to("/")
    assert {"mine.pt", "mine.safetensors", "output"} <= {path.name for path in saved.iterdir()}


def test_in_place_a_program_saves_where_it_says(tmp_path: Path) -> None:
    done = run(sys.executable, program("saves"), cwd=tmp_path, options=("--in-place",))
    assert done.returncode == 0, done.stderr
    assert {"before.pt", "mine.pt", "mine.safetensors", "output"} <= {path.name for path in tmp_path.iterdir()}

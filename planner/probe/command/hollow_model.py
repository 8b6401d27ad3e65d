"""`python -m planner.probe.command.hollow_model REPOSITORY FOLDER`: a model of the catalogue, in a hub cache, hollow.

FOLDER is where huggingface_hub keeps the repository (`models--org--name`). Writes config.json and weights whose data is
a hole; a tokenizer the catalogue has none. Exits 2 with one sentence on stderr.
"""

import fcntl
import sys
from pathlib import Path

from planner.errors import FitproofError

# The commit that no hub has; huggingface_hub takes any name of 40 hexadecimal digits.
COMMIT = "f" * 40
# A request names a card; none of it is in a checkpoint.
_ANY_CARD = "rtx-4090"


def main() -> int:
    """Write the checkpoint."""
    repository, folder = sys.argv[1], Path(sys.argv[2])
    try:
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the ranks of a run all ask
            if not (folder / "snapshots").exists():
                _write(repository, folder)
    except ImportError as error:
        sys.stderr.write(f"is not in the cache; to make it up, install Fitproof with its probe extra ({error})\n")
        return 2
    except FitproofError as error:
        problems = [problem.message for problem in error.problems]
        sys.stderr.write(" ".join(["is not in the cache, and not in the catalogue:", error.title, *problems]) + "\n")
        return 2
    return 0


def _write(repository: str, folder: Path) -> None:
    """Import the stack only here: it needs the card, and may be missing."""
    from planner.probe.devices.virtual_card import insert_any_card

    insert_any_card()
    from planner.catalog.model_rows import model_catalog
    from planner.probe.checkpoint.hollow import write_made_up
    from planner.probe.checkpoint.source import made_up
    from planner.probe.training.configs import config_of
    from planner.probe.training.load import model_class_of
    from planner.request.recipe import Recipe
    from planner.request.schema import Request

    request = Request(model=model_catalog().find(repository).id, gpu=_ANY_CARD, method="lora")
    recipe = Recipe.of(request)
    config = config_of(request, recipe)
    # Written by save_pretrained; TRL takes the class that it names (trl/trainer/utils.py, create_model_from_path).
    config.architectures = [model_class_of(config).__name__]
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    write_made_up(snapshot, config, tuple(made_up(config, recipe, None)))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

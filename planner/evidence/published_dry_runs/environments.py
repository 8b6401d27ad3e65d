"""An environment with the releases of one publication: made once, kept in the user's cache folder."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

RELEASES = tomllib.loads(Path(__file__).with_name("releases.toml").read_text(encoding="utf-8"))


def releases_of(publication: str) -> dict[str, str]:
    """Every package of its environment and the release of each."""
    return {**RELEASES["common"], **RELEASES[publication]}


def environment_of(publication: str) -> Path:
    """The interpreter of its environment, which is made at the first call (about 1.5 GB, some minutes).

    Raises CalledProcessError, pip's own words on stderr, where a release cannot be had.
    """
    pins = releases_of(publication)
    digest = hashlib.sha256(json.dumps([sys.version_info[:2], sorted(pins.items())]).encode()).hexdigest()[:12]
    folder = cache_folder() / f"{publication}-{digest}"
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "environments.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes would make it over each other
        if not folder.exists():
            _make(folder, pins)
    return folder / "bin" / "python"


def site_packages(interpreter: Path) -> Path:
    """Where that interpreter's packages lie."""
    return interpreter.parents[1] / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def cache_folder() -> Path:
    """Where environments and hollow checkpoints are kept: they can be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fitproof" / "published"


def _make(folder: Path, pins: dict[str, str]) -> None:
    """Make it under another name first, so that an environment that is there is whole."""
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    venv.create(unfinished, with_pip=True)
    requirements = [f"{name}=={release}" for name, release in pins.items()]
    # --no-deps: see releases.toml. A venv's interpreter works where its folder is; the scripts beside it are not used.
    command = [str(unfinished / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", *requirements]
    subprocess.run(command, check=True)  # noqa: S603  # pip
    unfinished.rename(folder)

"""The data folder is its owner's alone: it holds tokens' hashes, requests, and this start's key."""

import os
import stat
from pathlib import Path

from app.db.database import FILE_NAME

_FILES = (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm")
_FOLDERS = ("probes", "hub")


def keep_private(folder: Path, *, with_database: bool) -> None:
    """Make `folder`, and the database in it, or close what earlier versions left open to others.

    A folder that holds other things than ours stays as it is: it may be a home, or shared; only what is ours is closed.

    Raises:
        OSError: it cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if all(_is_ours(entry.name) for entry in folder.iterdir()):
        _close(folder, 0o700)
    if with_database:
        # SQLite gives the files beside its own the same rights.
        os.close(os.open(folder / FILE_NAME, os.O_WRONLY | os.O_CREAT, 0o600))
    for name in _FILES:
        _close(folder / name, 0o600)
    for name in _FOLDERS:
        (folder / name).mkdir(exist_ok=True, mode=0o700)
        _close(folder / name, 0o700)


def _is_ours(name: str) -> bool:
    return name in (*_FILES, *_FOLDERS) or name.startswith("local-access.")


def _close(path: Path, mode: int) -> None:
    """Take others' rights away where there are any and the file is ours."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    ours = found.st_uid == os.geteuid() and not stat.S_ISLNK(found.st_mode)
    if ours and stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(mode)

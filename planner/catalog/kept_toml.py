"""TOML files as parsed before: the catalogue of models takes tomllib a tenth of a second, and never changes."""

import contextlib
import hashlib
import os
import pickle
import tomllib
from pathlib import Path
from typing import Any

from planner.compilers import built_folder


def read_toml(path: Path) -> dict[str, Any]:
    """What `path` holds; kept in the user's cache under the digest of its text, where that can be written.

    Raises:
        TOMLDecodeError: the file is no TOML.
    """
    text = path.read_bytes()
    kept = built_folder("catalog") / f"{hashlib.sha256(text).hexdigest()[:24]}.pickle"
    try:
        document = pickle.loads(kept.read_bytes())  # noqa: S301 (our own, in the user's own folder)
    except Exception:  # missing, or cut short: pickle names no errors that a damaged file is held to
        document = tomllib.loads(text.decode("utf-8"))
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            made = kept.with_suffix(f".{os.getpid()}")
            made.write_bytes(pickle.dumps(document))
            made.replace(kept)
    found: dict[str, Any] = document
    return found

"""Proof of being on this machine: a key that each start of a server writes where only its owner can read it.

That a request comes from a loopback address proves nothing: a proxy or a tunnel on this machine connects from there
for whoever reaches it, and need not say so.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from app.security.addresses import is_loopback

PATH = "/local"
_FILE = "local-access"
_ANYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104 (compared with, not listened on)


def new_key() -> str:
    """256 random bits, for one start of one server."""
    return secrets.token_urlsafe(32)


@contextmanager
def published(data_dir: Path, host: str, port: int, key: str) -> Iterator[str]:
    """Keep the link that opens the server at `host` and `port` in the data folder, for its owner alone; yields it."""
    name = "127.0.0.1" if host in _ANYWHERE else f"[{host}]" if ":" in host else host
    link = f"http://{name}:{port}{PATH}?key={key}"
    file = _file(data_dir, port)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(link + "\n")
    try:
        yield link
    finally:
        with contextlib.suppress(OSError):
            file.unlink()


def key_for(data_dir: Path, url: str) -> str | None:
    """Return the key of the server at `url`; None where that is not this machine or the key is not ours to read."""
    parts = urlsplit(url)
    if not is_loopback(parts.hostname):
        return None
    link = _read(_file(data_dir, parts.port or (443 if parts.scheme == "https" else 80)))
    return parse_qs(urlsplit(link).query).get("key", [None])[0] if link else None


def newest_link(data_dir: Path) -> str | None:
    """Return the link of the server that started last on this data folder; None where none runs."""
    files = sorted(data_dir.glob(f"{_FILE}.*"), key=lambda file: file.stat().st_mtime)
    return _read(files[-1]) if files else None


def _file(data_dir: Path, port: int) -> Path:
    return data_dir / f"{_FILE}.{port}"


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None

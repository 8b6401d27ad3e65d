"""config.json files kept on disk, one file each, written whole or not at all."""

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOG = logging.getLogger("fitproof.hub")

# A cached config weighs about 2 KiB. More files than this means that a crawler walks the hub, not that people plan.
_MOST_FILES = 4096


@dataclass(frozen=True, slots=True)
class CachedConfig:
    """What a hub said, and when."""

    config: Mapping[str, Any]
    etag: str | None
    fetched_at: float

    def is_fresh(self, seconds: float) -> bool:
        """Whether it may be used without asking again. A clock set back makes it stale, never fresh for ever."""
        return 0 <= time.time() - self.fetched_at < seconds


class ConfigCache:
    """A folder of configs by address. A cache that cannot be read or written is no reason to fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, url: str) -> CachedConfig | None:
        """What was kept for `url`; None for nothing, or nothing readable."""
        try:
            entry = json.loads(self._path(url).read_text(encoding="utf-8"))
            if entry["url"] == url and isinstance(entry["config"], dict):
                return CachedConfig(entry["config"], entry["etag"], float(entry["fetched_at"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _LOG.warning("cached config unreadable, asking the hub again: %s", error)
        return None

    def put(self, url: str, config: Mapping[str, Any], etag: str | None) -> None:
        """Keep `config`, replacing what was there in one step."""
        entry = {"url": url, "etag": etag, "fetched_at": time.time(), "config": config}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _replace(self._path(url), json.dumps(entry))
            self._drop_oldest()
        except OSError as error:
            _LOG.warning("config not cached: %s", error)

    def _path(self, url: str) -> Path:
        return self.folder / f"{hashlib.sha256(url.encode()).hexdigest()[:40]}.json"

    def _drop_oldest(self) -> None:
        files = list(self.folder.glob("*.json"))
        if len(files) > _MOST_FILES:
            for file in sorted(files, key=lambda path: path.stat().st_mtime)[: len(files) // 4]:
                file.unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise

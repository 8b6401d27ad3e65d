"""A hub cache for one run: what the person has is found there, what the run fetches goes with it."""

import os
from collections.abc import Mapping
from pathlib import Path

HUB_FOLDER = "hub"


def mirror_cache(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Lay the person's hub cache out anew in `folder`, its files as links; returns the variables that name it.

    huggingface_hub's environment variables: HF_HUB_CACHE, or `hub` in HF_HOME, which is ~/.cache/huggingface.
    """
    home = Path(environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    source = Path(environment.get("HF_HUB_CACHE") or home / "hub").expanduser()
    target = folder / HUB_FOLDER
    target.mkdir()
    for place, _, names in os.walk(source):
        made = target / Path(place).relative_to(source)
        made.mkdir(exist_ok=True)
        for name in names:
            # A link to a link would point nowhere from here: snapshots link to blobs by relative paths.
            (made / name).symlink_to((Path(place) / name).resolve())
    return {"HF_HUB_CACHE": str(target)}

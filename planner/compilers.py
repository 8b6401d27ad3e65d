"""The compilers that this machine has, and the folder that keeps what they built."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Literal

Language = Literal["c", "c++"]
# The variable that names one (make's), and the names that systems give theirs.
_NAMES: dict[Language, tuple[str, tuple[str, ...]]] = {
    "c": ("CC", ("cc", "gcc", "clang")),
    "c++": ("CXX", ("c++", "g++", "clang++")),
}


def system_compiler(language: Language) -> list[str] | None:
    """The command of the system's compiler; None where there is none."""
    variable, names = _NAMES[language]
    named = os.environ.get(variable)
    found = next(filter(None, map(shutil.which, [named] if named else names)), None)
    return [found] if found else None


def zig_compiler(language: Language) -> list[str] | None:
    """The command of zig's compiler, which comes as a wheel; None where it is not installed."""
    found = importlib.util.find_spec("ziglang")
    return [sys.executable, "-m", "ziglang", "cc" if language == "c" else "c++"] if found else None


def built_folder(name: str) -> Path:
    """Where the builds of that name lie in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fitproof" / name

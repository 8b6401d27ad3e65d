"""Where in a person's program an allocation was asked for: the line of theirs, and the class it stands in."""

import ast
import functools
import os
from typing import NamedTuple

# Frames of these packages say how torch did something, not who asked for it.
_MACHINERY = ("torch", "bitsandbytes", "triton", "fitproof_bootstrap", "fitproof_values", "accelerate")
_WORKSPACE = ("getCurrentCUDABlasHandle", "getCUDABlasLtWorkspace")


class Place(NamedTuple):
    """`line` is `file:line function`, `module` the class of that function; both say where Python stood."""

    line: str
    module: str
    workspace: bool


def place_of(frames, otherwise="inside torch"):
    """The innermost frame outside torch's own machinery, or `otherwise`. Frames come innermost first."""
    workspace = any(name in frame["name"] for frame in frames[:3] for name in _WORKSPACE)
    for frame in frames:
        if not _is_machinery(frame["filename"]):
            owner = _class_at(frame["filename"], frame["line"])
            line = f"{_short(frame['filename'])}:{frame['line']} {frame['name']}"
            return Place(line, owner or _short(frame["filename"]), workspace)
    return Place(otherwise, otherwise, workspace)


def _is_machinery(filename):
    if filename.startswith("<"):
        return True
    parts = filename.replace("\\", "/").split("/")
    packages = [parts[i + 1] for i, part in enumerate(parts[:-1]) if part in ("site-packages", "dist-packages")]
    ours = "fitproof_bootstrap" in parts or parts[-3:-1] == ["probe", "values"]
    return ours or (packages[-1] if packages else parts[0]) in _MACHINERY


def _short(filename):
    """From the package on; elsewhere relative to where the program runs."""
    for mark in ("site-packages/", "dist-packages/"):
        if mark in filename:
            return filename.split(mark)[-1]
    relative = os.path.relpath(filename)
    return filename if relative.startswith("..") else relative


def _class_at(filename, line):
    """The innermost class whose body holds `line`, as the source says."""
    found = None
    for start, end, name in _classes_of(filename):
        if start <= line <= end:
            found = name
    return found


@functools.cache
def _classes_of(filename):
    """(first line, last line, name) of each class, outer ones first."""
    try:
        with open(filename, encoding="utf-8") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, UnicodeDecodeError):
        return ()
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return tuple(sorted((node.lineno, node.end_lineno, node.name) for node in classes))

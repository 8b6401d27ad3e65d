"""Builds the C of planner/native, once for each set of sources, and opens it.

`python -m planner.native_library` builds it beside its sources, for an installation that all users share.
Otherwise the first plan builds it into the user's cache, where the system has a C compiler; that takes half a second.
Where nothing can be built, the same rules run in Python (planner/allocator/python_pools.py, planner/step/
engine/segment_peaks.py and tables.py).
"""

import ctypes
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from planner.compilers import built_folder, system_compiler, zig_compiler

_FOLDER = Path(__file__).parent / "native"
_FLAGS = ("-std=c11", "-O3", "-fno-semantic-interposition", "-fPIC", "-fvisibility=hidden", "-shared")
_BUILD_SECONDS = 120

_INT32, _INT64, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
_SIGNATURES = {
    "pools_new": (_POINTER, (_INT32, _INT32, _INT64)),
    "pools_copy": (_POINTER, (_POINTER,)),
    "pools_delete": (None, (_POINTER,)),
    "pools_allocate": (_INT32, (_POINTER, _INT64)),
    "pools_allocate_many": (_INT32, (_POINTER, _POINTER, _INT32, _POINTER)),
    "pools_cast_many": (_INT32, (_POINTER, _POINTER, _INT32, _POINTER)),
    "pools_free": (None, (_POINTER, _INT32)),
    "pools_free_many": (None, (_POINTER, _POINTER, _INT32)),
    "pools_free_slots": (None, (_POINTER, _POINTER, _INT32, _POINTER)),
    "pools_empty_cache": (None, (_POINTER,)),
    "pools_play": (_INT32, (_POINTER, _POINTER, _POINTER, _POINTER, _INT32, _INT32)),
    "bytes_of_keys": (_INT32, (_POINTER, _POINTER, _INT64, _POINTER)),
    "worst_of_phases": (_INT32, (_POINTER, _POINTER, _POINTER, _INT32, _POINTER)),
}


@cache
def native_library() -> ctypes.CDLL | None:
    """The library, built where it is missing; None where it can be neither found nor built."""
    if os.name != "posix":
        return None
    try:
        library = ctypes.CDLL(str(_found() or built(built_folder("planner"), system_compiler("c"))))
        for name, (returns, takes) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = returns, takes
    except (OSError, AttributeError, RuntimeError, subprocess.SubprocessError):
        return None
    return library


def _found() -> Path | None:
    places = (_FOLDER, built_folder("planner"))
    return next((place / _name() for place in places if (place / _name()).exists()), None)


def built(folder: Path, compiler: Sequence[str] | None) -> Path:
    """Build under another name first: a partly written library is never opened.

    Raises:
        RuntimeError: there is no compiler, or the last build of these sources failed.
        OSError, SubprocessError: the folder cannot be written, or this build failed.
    """
    target, failed = folder / _name(), folder / f"{_name()}.failed"
    if compiler is None or failed.exists():
        raise RuntimeError(failed.read_text() if compiler else "there is no C compiler")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="building-") as work:
        made = Path(work) / target.name
        command = [*compiler, *_FLAGS, *map(str, sorted(_FOLDER.glob("*.c"))), "-o", str(made)]
        try:
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=_BUILD_SECONDS)  # noqa: S603
        except subprocess.CalledProcessError as error:
            failed.write_text(f"{' '.join(command)}\n{error.stderr}")
            raise
        made.rename(target)
    return target


@cache
def _name() -> str:
    """Changes with the sources and with the kind of machine, as homes are shared between machines."""
    digest = hashlib.sha256(f"{sys.platform} {platform.machine()} {platform.libc_ver()[0]} {_FLAGS}".encode())
    for source in sorted(_FOLDER.glob("*.[ch]")):
        digest.update(source.read_bytes())
    return f"planner-{digest.hexdigest()[:16]}.so"


if __name__ == "__main__":
    print(_found() or built(_FOLDER, system_compiler("c") or zig_compiler("c")))  # noqa: T201 (its answer)

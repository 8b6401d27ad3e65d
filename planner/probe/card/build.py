"""Builds the stand-ins for NVIDIA's libraries, once for each set of sources and binaries.

Needs a C++ compiler and nothing of NVIDIA's: the sources declare the few layouts they share with their callers.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from planner.compilers import built_folder, system_compiler, zig_compiler
from planner.probe.card.elf import read_defined
from planner.probe.card.refusal import VirtualCardError
from planner.probe.card.stubs import LIBRARIES, Library, refused, write_stubs
from planner.probe.card.symbols import Stack, WantedLibrary, find_stack, read_wanted

_HERE = Path(__file__).parent
SOURCES = _HERE / "src"
STATE = "libfitproof_card.so"
STATE_SOURCES = ("card.cpp", "peers.cpp", "space.cpp", "work.cpp")
_FLAGS = ("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra")


@dataclass(frozen=True, slots=True)
class BuiltCard:
    """A folder of stand-ins: `libraries` in the order to load them, and the calls that refuse, by library."""

    folder: Path
    libraries: tuple[Path, ...]
    refusing: dict[str, list[str]]


def build_card(site: Path | None = None, cache: Path | None = None) -> BuiltCard:
    """The stand-ins for the torch of a site-packages folder; built where the cache has none of this kind.

    Raises:
        VirtualCardError: no CUDA build of torch, no compiler, or a cache folder that cannot be written.
    """
    stack = find_stack(site or Path(sysconfig.get_path("purelib")))
    folder = (cache or built_folder("card")) / _key(stack)
    if not (folder / "card.json").exists():
        with _alone(folder):
            if not (folder / "card.json").exists():
                _build(stack, folder)
    described = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return BuiltCard(folder, tuple(folder / name for name in described["libraries"]), described["refusing"])


def compiler() -> list[str]:
    """The system's C++ compiler, or zig's where there is none.

    Raises:
        VirtualCardError: neither is there.
    """
    if found := system_compiler("c++") or zig_compiler("c++"):
        return found
    raise VirtualCardError("The virtual card needs a C++ compiler: install g++ or clang++, or pip install ziglang.")


def _key(stack: Stack) -> str:
    """Changes with the sources and with the installed binaries; size and date stand for the half gigabyte of torch."""
    digest = hashlib.sha256(repr((stack.torch, stack.cuda, stack.dnn_version, stack.nccl_version)).encode())
    for source in sorted([*SOURCES.iterdir(), *_HERE.glob("*.py")]):
        digest.update(source.read_bytes())
    for binary in (*stack.binaries, *stack.texts):
        state = binary.stat()
        digest.update(f"{binary.name} {state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()[:24]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process builds, others wait for it. The lock goes with the process, however it ends.

    Its holder deletes what a killed builder left.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = (folder.parent / "build.lock").open("w")
    except OSError as error:
        raise VirtualCardError(
            f"The virtual card cannot be kept in {folder.parent} ({error.strerror}): set XDG_CACHE_HOME to a folder "
            "that can be written."
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.parent.glob("building-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _build(stack: Stack, folder: Path) -> None:
    """Build beside the folder, and give it its name when whole: an incomplete card is never seen."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as name:
        work = Path(name) / "card"
        work.mkdir()
        workshop = _Workshop(work, (*compiler(), *_FLAGS, *_defines(stack)))
        objects = workshop.compile_all(sorted(SOURCES.glob("*.cpp")))
        state = WantedLibrary(STATE, "", frozenset(("card_*", "space_*", "work_*")))
        workshop.link(state, [objects[name] for name in STATE_SOURCES], state.names)
        wanted = sorted(read_wanted(stack), key=lambda library: library.family != "libcudart")
        refusing = {library.soname: _stand_in(workshop, library, objects) for library in wanted}
        for item in work.glob("*.o"):
            item.unlink()
        names = [STATE, *(library.soname for library in wanted)]
        (work / "card.json").write_text(json.dumps({"libraries": names, "refusing": refusing}), encoding="utf-8")
        work.rename(folder)


def _defines(stack: Stack) -> list[str]:
    return [
        f"-DCUDA_MAJOR={stack.cuda[0]}",
        f"-DCUDA_VERSION={stack.cuda_version}",
        f"-DBLAS_VERSION={stack.cuda[0] * 10000 + stack.cuda[1] * 100}",
        f"-DDNN_VERSION={stack.dnn_version}",
        f"-DNCCL_VERSION={stack.nccl_version}",
    ]


def _stand_in(workshop: "_Workshop", wanted: WantedLibrary, objects: dict[str, Path]) -> list[str]:
    """Make one library; return what it refuses."""
    library = LIBRARIES.get(wanted.family, Library())
    own = [objects[source] for source in library.sources]
    defined = frozenset[str]().union(*(read_defined(item) for item in own))
    # The driver's entry points are looked up under their plain names and found under their second version.
    missing = frozenset(name for name in wanted.names - defined if f"{name}_v2" not in defined)
    stubs = workshop.folder / f"{wanted.soname}.stubs.cpp"
    stubs.write_text(write_stubs(library, missing), encoding="utf-8")
    objects_here = [*own, *workshop.compile_all([stubs]).values()]
    stubs.unlink()
    own_names = (name for name in defined if name.startswith(("cu", "__cuda", "nv", "nccl")))
    workshop.link(wanted, objects_here, missing.union(own_names))
    return refused(library, missing)


@dataclass(frozen=True, slots=True)
class _Workshop:
    """A folder to build in, and the compiler with its flags."""

    folder: Path
    command: tuple[str, ...]

    def compile_all(self, sources: Sequence[Path]) -> dict[str, Path]:
        """Every source to its object, a few at a time."""

        def one(source: Path) -> Path:
            target = self.folder / f"{source.name}.o"
            _run([*self.command, "-c", str(source), "-o", str(target)])
            return target

        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            return dict(zip((source.name for source in sources), pool.map(one, sources), strict=True))

    def link(self, library: WantedLibrary, objects: Sequence[Path], exported: Iterable[str]) -> None:
        """Callers ask for symbols of a version, so the library must define it; all else stays its own.

        Every library stands on those made before it that others call: the state, and the runtime.
        """
        script = self.folder / f"{library.soname}.map"
        names = " ".join(f"{name};" for name in sorted(exported))
        shown = f"global: {names}" if names else ""
        script.write_text(f"{library.version} {{ {shown} local: *; }};\n", encoding="utf-8")
        flags = [f"-Wl,-soname,{library.soname}", f"-Wl,--version-script={script}", "-Wl,-rpath,$ORIGIN"]
        made = [STATE, *(item.name for item in self.folder.glob("libcudart.so.*") if item.suffix[1:].isdigit())]
        beside = [self.folder / name for name in made if (self.folder / name).exists() and name != library.soname]
        inputs = map(str, [*objects, *beside])
        _run([*self.command, "-shared", "-o", str(self.folder / library.soname), *flags, *inputs, "-ldl", "-lpthread"])
        script.unlink()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own command
    if done.returncode:
        said = " ".join(done.stderr.split())[:600]
        raise VirtualCardError(f"The C++ compiler {command[0]} could not build the virtual card: {said}")

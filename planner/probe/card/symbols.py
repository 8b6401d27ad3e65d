"""Which of NVIDIA's libraries the installed binaries want, under which names, and of which versions."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from planner.probe.card.elf import read_wants
from planner.probe.card.refusal import VirtualCardError

_NVIDIA = re.compile(r"lib(cu|nv|nccl)")
# Where no version ties a symbol to a library, its name does.
_OF_NAME = {
    re.compile(r"cuFile[A-Z]"): "libcufile",
    re.compile(r"cu[A-Z]"): "libcuda",
    re.compile(r"nccl[A-Z]"): "libnccl",
    re.compile(r"nvml[A-Z]"): "libnvidia-ml",
    re.compile(r"cusparseLt[A-Z]"): "libcusparseLt",
    re.compile(r"nvshmem"): "libnvshmem_host",
    re.compile(r"nvtx[A-Z]"): "libnvToolsExt",
}
# Opened by name while a program runs, so nothing is linked to them.
_OPENED = {"libcuda": "libcuda.so.1", "libnvidia-ml": "libnvidia-ml.so.1"}
# This one looks functions of those up by name, all of them before it does anything: c10/cuda/driver_api.cpp.
_OPENER = "libc10_cuda.so"


@dataclass(frozen=True, slots=True)
class Stack:
    """An installed torch, and the releases of NVIDIA's libraries that it was made for.

    `cuda` is (13, 0). cuDNN and NCCL are written as their own version calls write them. `texts` are sources that are
    compiled and linked to the driver while a program runs: Triton's.
    """

    torch: str
    cuda: tuple[int, int]
    dnn_version: int
    nccl_version: int
    binaries: tuple[Path, ...]
    texts: tuple[Path, ...]

    @property
    def cuda_version(self) -> int:
        """13000 for CUDA 13.0: cudaRuntimeGetVersion."""
        return self.cuda[0] * 1000 + self.cuda[1] * 10


@dataclass(frozen=True, slots=True)
class WantedLibrary:
    """One library by its soname: the version its symbols carry ("" for none), and their names."""

    soname: str
    version: str
    names: frozenset[str]

    @property
    def family(self) -> str:
        """`libcudart` for `libcudart.so.13`."""
        return self.soname.partition(".so")[0]


def find_stack(site: Path) -> Stack:
    """Read off a site-packages folder what its torch is, without importing it.

    Raises:
        VirtualCardError: no torch there, or one that was not built for CUDA.
    """
    version_file = site / "torch" / "version.py"
    if not version_file.exists():
        raise VirtualCardError(f"No torch in {site}: the virtual card runs torch's CUDA build, so install it there.")
    text = version_file.read_text(encoding="utf-8")
    torch, cuda = _quoted("__version__", text), _quoted("cuda", text)
    if not torch or not cuda:
        raise VirtualCardError(
            f"torch {torch} was not built for CUDA: the virtual card needs the CUDA build, which runs on any Linux "
            "machine; elsewhere use a container or a worker."
        )
    major, minor = (int(part) for part in cuda.split(".")[:2])
    needs = _requirements(site, torch)
    return Stack(
        torch=torch,
        cuda=(major, minor),
        dnn_version=_joined(needs.get("nvidia-cudnn", "9.0.0"), (10000, 100, 1)),
        nccl_version=_joined(needs.get("nvidia-nccl", "2.0.0"), (10000, 100, 1)),
        binaries=tuple(_binaries(site, major)),
        texts=tuple(sorted((site / "triton" / "backends" / "nvidia").glob("driver.*"))),
    )


def read_wanted(stack: Stack) -> list[WantedLibrary]:
    """Every library that the binaries are linked to or open, with the symbols they want of it."""
    sonames = dict(_OPENED)
    versions: dict[str, str] = {}
    names: defaultdict[str, set[str]] = defaultdict(set)
    for binary in stack.binaries:
        wants = read_wants(binary)
        sonames |= {soname.partition(".so")[0]: soname for soname in wants.sonames if _NVIDIA.match(soname)}
        for symbol in wants.symbols:
            family = symbol.soname.partition(".so")[0] if _NVIDIA.match(symbol.soname) else ""
            if not symbol.soname:
                family = next((home for pattern, home in _OF_NAME.items() if pattern.match(symbol.name)), "")
            if family:
                names[family].add(symbol.name)
                if symbol.version:
                    versions[family] = symbol.version
        if binary.name == _OPENER:
            for name in _opened_names(binary):
                names["libnvidia-ml" if name.startswith("nvml") else "libcuda"].add(name)
    for text in stack.texts:
        names["libcuda"].update(re.findall(r"\b(cu[A-Z]\w+)\(", text.read_text(encoding="utf-8")))
    return [
        WantedLibrary(soname, versions.get(family, ""), frozenset(names[family]))
        for family, soname in sorted(sonames.items())
    ]


def _binaries(site: Path, cuda_major: int) -> Iterable[Path]:
    yield from sorted((site / "torch" / "lib").glob("*.so"))
    yield from sorted((site / "bitsandbytes").glob(f"libbitsandbytes_cuda{cuda_major}*.so"))
    yield from sorted((site / "triton" / "_C").glob("*.so"))


def _opened_names(binary: Path) -> set[str]:
    """The functions of the driver and of NVML that a binary names in its texts."""
    found = re.findall(rb"\0((?:cu|nvml)[A-Z][A-Za-z0-9]+(?:_v\d)?)(?=\0)", binary.read_bytes())
    return {name.decode() for name in found}


def _quoted(name: str, text: str) -> str:
    found = re.search(rf"^{name}\b[^=]*= '([^']+)'", text, re.MULTILINE)
    return found[1] if found else ""


def _requirements(site: Path, torch: str) -> dict[str, str]:
    """Exact releases by name, without the suffix of the CUDA they are for."""
    folders = [*site.glob(f"torch-{torch}.dist-info"), *site.glob(f"torch-{torch.partition('+')[0]}.dist-info")]
    if not folders:
        return {}
    text = (folders[0] / "METADATA").read_text(encoding="utf-8")
    found = re.findall(r"^Requires-Dist: ([a-z-]+?)(?:-cu\d+)?==([\d.]+)", text, re.MULTILINE)
    return dict(found)


def _joined(release: str, weights: tuple[int, int, int]) -> int:
    parts = [*map(int, release.split(".")), 0, 0, 0]
    return sum(part * weight for part, weight in zip(parts, weights, strict=False))

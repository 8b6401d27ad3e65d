"""What the card answers to a symbol that its sources do not define.

A call that would only fill card memory succeeds and does nothing. Any other refuses with its name: a number made up
in silence, a workspace size say, would make a run that no card repeats.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Library:
    """One of NVIDIA's libraries: the sources that stand in for it, and the status that says "not supported" in it.

    `does_nothing` matches the calls whose only effect is on card memory, or on settings that are not read back; of
    those, `launches` matches what is given to the stream of its first argument, a handle whose first field that is.
    """

    sources: tuple[str, ...] = ()
    unsupported: int = 1
    does_nothing: re.Pattern[str] = re.compile(r"(?!)")
    launches: re.Pattern[str] = re.compile(r"(?!)")


def _matching(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


LIBRARIES = {
    "libcuda": Library(("driver.cpp", "driver_memory.cpp"), 801),
    "libcudart": Library(
        ("runtime_devices.cpp", "runtime_memory.cpp", "runtime_streams.cpp", "runtime_kernels.cpp"), 801
    ),
    "libnvidia-ml": Library(("nvml.cpp",), 3),
    "libnvrtc": Library(("nvrtc.cpp",), 11),
    # Settings, level 1 to 3, and everything batched or extended. Not I*amax, whose answer is an index, and not
    # Get/SetMatrix, which copy.
    "libcublas": Library(
        ("blas.cpp",),
        15,
        _matching(r"cublas(Set(Workspace|MathMode|PointerMode|SmCountTarget|AtomicsMode)|[SDCZH][a-z]|Gemm|\w+Ex$)"),
        _matching(r"cublas([SDCZH](?!et)[a-z]|Gemm|\w+Ex$)"),
    ),
    "libcublasLt": Library(("blaslt.cpp",), 15, _matching(r"cublasLt\w+SetAttribute$")),
    "libcudnn": Library(("dnn.cpp", "dnn_graph.cpp", "dnn_batch_norm.cpp"), 3000),
    "libcusparse": Library(("sparse.cpp",), 10, _matching(r"cusparseSet")),
    "libnccl": Library(("nccl.cpp",), 3),
    # The profiler: nothing runs, so there is nothing to record.
    "libcupti": Library(
        (), 27, _matching(r"cupti(Activity(Enable|Disable|Register|Flush|Set|Push|Pop)|Enable|Finalize)")
    ),
    "libnvToolsExt": Library((), 0, _matching(r"nvtx")),
    "libcusolver": Library((), 9),
    "libcusparseLt": Library((), 10),
    "libcufft": Library((), 16),
    "libcufile": Library((), 5001),
}

# Calls that return a text, which tells what was refused.
_TEXT = re.compile(
    r"(cublas|cublasLt|cusparse|cusparseLt|cudnn|nvrtc|nccl|nvml)(Get)?\w*(ErrorString|ErrorName|Status(String|Name))"
)


def write_stubs(library: Library, names: Iterable[str]) -> str:
    """C++ for every name: success where nothing needs to happen, a refusal with the name elsewhere."""
    lines = [
        'extern "C" int card_refuse(const char* name, int code);',
        'extern "C" const char* card_refusal();',
        'extern "C" void work_give(void* stream);',
        '#define STUB extern "C" __attribute__((visibility("default")))',
    ]
    for name in sorted(names):
        if _TEXT.fullmatch(name):
            lines.append(f"STUB const char* {name}() {{ return card_refusal(); }}")
        elif library.launches.match(name):
            lines.append(f"STUB long {name}(void** handle) {{ return work_give(*handle), 0; }}")
        else:
            answer = "0" if library.does_nothing.match(name) else f'card_refuse("{name}", {library.unsupported})'
            lines.append(f"STUB long {name}() {{ return {answer}; }}")
    return "\n".join(lines) + "\n"


def refused(library: Library, names: Iterable[str]) -> list[str]:
    """The names that refuse when called."""
    return sorted(name for name in names if not (library.does_nothing.match(name) or _TEXT.fullmatch(name)))

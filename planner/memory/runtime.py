"""What CUDA and torch's allocator take for themselves: workspaces, slack of its blocks, the context outside it."""

from planner.ledger import PHASES, Line
from planner.units import MIB

# at::cuda parseChosenWorkspaceSize in the torch 2.13 wheel: 0x820000 bytes, 32 MiB where the major version is 9, 10
# or 12.
WORKSPACE_BYTES = 0x820000
LARGE_WORKSPACE_BYTES = 32 * MIB
LARGE_WORKSPACE_MAJORS = (9, 10, 12)
# One per thread that multiplies matrices: the main thread and autograd's.
WORKSPACES = 2

SLACK = "allocator block slack"

ALIVE_IN = ("forward", "loss", "backward", "optimizer")


def workspace_bytes(compute_capability: tuple[int, int] | None) -> int:
    """One cuBLAS workspace. A card that does not say its capability is taken for one with the small workspace."""
    large = compute_capability is not None and compute_capability[0] in LARGE_WORKSPACE_MAJORS
    return LARGE_WORKSPACE_BYTES if large else WORKSPACE_BYTES


def runtime_lines(compute_capability: tuple[int, int] | None, *, context_bytes: int, context_source: str) -> list[Line]:
    """Workspaces, and the context as an allowance: it lives outside the allocator, so it is alive in no phase of it."""
    each_bytes = workspace_bytes(compute_capability)
    return [
        Line(
            name="cuBLAS workspaces",
            bytes=WORKSPACES * each_bytes,
            cause="runtime",
            alive_in=ALIVE_IN,
            formula="threads × workspace (32 MiB on compute capability 9, 10, 12; 8.125 MiB elsewhere)",
            working=f"{WORKSPACES} × {each_bytes:,}",
            source="torch 2.13, aten/src/ATen/cuda/CublasHandlePool.cpp parseChosenWorkspaceSize",
        ),
        Line(
            name="CUDA context and libraries, outside torch",
            bytes=context_bytes,
            cause="runtime",
            alive_in=(),
            formula="median reading for this card's generation",
            working=f"{context_bytes:,}",
            evidence="allowance",
            source=context_source,
        ),
    ]


def slack_lines(loaded_bytes: int, prepared_bytes: int) -> list[Line]:
    """Blocks larger than the tensors in them: after loading, and after the upcast that moves some of them."""
    spans: list[tuple[tuple[str, ...], int]] = [(PHASES[:1], loaded_bytes), (PHASES[1:], prepared_bytes)]
    if loaded_bytes == prepared_bytes:
        spans = [(PHASES, loaded_bytes)]
    return [
        Line(
            name=SLACK,
            bytes=size_bytes,
            cause="runtime",
            alive_in=phases,
            formula="Σ (block - tensor) over blocks that were not worth cutting (1 MiB or less left over)",
            working=f"{size_bytes:,}",
            evidence="modelled",
            source="c10/cuda/CUDACachingAllocator.cpp should_split, loader played by planner/allocator/load_phase.py",
        )
        for phases, size_bytes in spans
    ]

"""Whose kernels a run follows: the CPU's, or those of one CUDA card."""

from dataclasses import dataclass

from planner.catalog import find_gpu
from planner.errors import FieldProblem, InvalidRequestError
from planner.memory.fused import multiprocessors
from planner.request import CustomGpu, Request


@dataclass(frozen=True, slots=True)
class Target:
    """`capability` is None for the CPU."""

    capability: tuple[int, int] | None
    total_memory_bytes: int | None = None
    name: str = "cpu"

    @property
    def is_cuda(self) -> bool:
        """Whether CUDA kernels are followed."""
        return self.capability is not None

    @property
    def multiprocessors(self) -> int:
        """How many streaming multiprocessors such a card has."""
        return multiprocessors(self.capability)


CPU = Target(None)


def target_of(request: Request, follow: str | None) -> Target:
    """The card to follow: the one said, or the request's own.

    Raises:
        InvalidRequestError: the card's compute capability is unknown, so its kernel choices are too.
    """
    if follow == "cpu":
        return CPU
    name, capability, total_bytes = _card(request)
    if follow is not None:
        digits = follow.removeprefix("sm_")
        return Target((int(digits[:-1]), int(digits[-1])), total_bytes, name)
    if capability is None:
        problem = FieldProblem("gpu", "compute capability unknown; say whose kernels to follow with --as sm_89")
        raise InvalidRequestError("The dry run cannot follow this card.", [problem])
    return Target(capability, total_bytes, name)


def _card(request: Request) -> tuple[str, tuple[int, int] | None, int]:
    if isinstance(request.gpu, CustomGpu):
        major, minor = request.gpu.compute_capability.split(".")
        return request.gpu.name, (int(major), int(minor)), request.gpu.total_memory_bytes
    gpu = find_gpu(request.gpu)
    return gpu.name, gpu.compute_capability, gpu.usable_bytes

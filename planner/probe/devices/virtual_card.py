"""A dry run's world: the virtual card that stands in for the request's own, and true values for what decides memory.

The stack can be imported once and the card chosen later, even in each of several forks, as long as nothing wakes CUDA
before. bitsandbytes asks for the card's capability while it is imported, which would; so it is answered for the card.
"""

import gc
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes.util import find_library
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.errors import FieldProblem, InvalidRequestError
from planner.probe.card.preload import insert_cards
from planner.probe.card.readings import modelled, read_card
from planner.probe.card.spec import CardSpec, card_of
from planner.probe.devices.compiler import leave_compiler_at_home
from planner.probe.devices.memory_limit import MemoryLimit
from planner.probe.options import Routing
from planner.probe.training.patching import Patch, patched
from planner.request.schema import Request
from planner.units import GIB, format_gib

if TYPE_CHECKING:
    from planner.probe.report import Outcome
    from planner.probe.training.phases import Job

_ANY_CARD = "h100-sxm-80gb"
# bitsandbytes/cextension.py has one library for all of 7.5 and newer, and torch's build for CUDA 13 no older kernels.
_OLDEST = (7, 5)
_STACK = "planner.probe.measure"
_UNWANTED = (
    "is_hqq_available", "is_torch_distributed_available", "is_torch_flex_attn_available", "is_torchao_available",
)  # fmt: skip
_LOSSES = ("trl.trainer.utils", "liger_kernel.transformers")
# transformers leaves 1.2 GiB of a card free while it warms the cache up, and fails on a card that has less
# (modeling_utils.py, caching_allocator_warmup).
_SMALLEST_BYTES = 2 * GIB


def insert_card(request: Request, memory_limit_bytes: int | None = None) -> None:
    """Give this process the request's card, or as much of it as the limit says, and import the stack.

    Ranks have a card each; a model that is spread over several by `device_map` has them all in one process.

    A limit that is less than any card has is left to torch's allocator (`ondevice`).

    Raises:
        FitproofError: there can be no such card here, or the limit does not fit it.
    """
    card = card_of(request.gpu)
    _refuse_what_no_card_can(card, memory_limit_bytes)
    spread = [card_of(name) for name in request.cards or ()] or [card] * request.gpus
    cards = spread if request.device_map else [card]
    _insert(cards, memory_limit_bytes if (memory_limit_bytes or 0) >= _SMALLEST_BYTES else None)
    if "count" in _asked:
        import torch  # noqa: PLC0415  # is there already

        torch._C._cuda_getDeviceCount = _asked.pop("count")  # the card answers now


def insert_any_card() -> None:
    """Import the stack, all its losses included, with CUDA left asleep: forks of this process choose their cards.

    Raises:
        VirtualCardError: there can be no card here.
    """
    _insert([card_of(_ANY_CARD)], names=(_STACK, *_LOSSES))
    conversions = importlib.import_module("transformers.conversion_mapping")
    # Builds a table of 900 regular expressions, which every fork would build anew at its first load.
    conversions.get_checkpoint_conversion_mapping("")


def insert_no_card() -> None:
    """Let torch's CUDA build be imported where neither a card nor NVIDIA's libraries are."""
    built_for_cuda = _installed("torch", "lib/libtorch_cuda.so")
    if built_for_cuda and not _installed("nvidia", "**/libcudnn.so*") and find_library("cuda") is None:
        _insert([card_of(_ANY_CARD)])


def _installed(package: str, pattern: str) -> bool:
    found = importlib.util.find_spec(package)
    places = found.submodule_search_locations if found else None
    return any(any(Path(place).glob(pattern)) for place in places or ())


def _insert(cards: Sequence[CardSpec], memory_limit_bytes: int | None = None, names: Sequence[str] = (_STACK,)) -> None:
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # it is said of real cards
    insert_cards(cards, memory_limit_bytes)
    if _STACK not in sys.modules:
        with _no_collections():
            _import_stack(names)


@contextmanager
def _no_collections() -> Iterator[None]:
    """What is imported stays: walks over it are a tenth of the import's time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _import_stack(names: Sequence[str]) -> None:
    """Import what runs need. Code that asks for cards meanwhile is answered one, later none, and initializes nothing.

    transformers would import hqq for a cache that no training run has, torch.distributed.tensor for shards that a run
    on one card has not, sympy for an attention that no request can name, and torchao, which wakes CUDA.
    """
    import torch  # noqa: PLC0415  # comes after its card

    _asked["count"] = torch._C._cuda_getDeviceCount
    asleep = [
        Patch(torch._C, "_cuda_getDeviceCount", lambda: 1),
        Patch(torch.cuda, "get_device_capability", lambda *_: _OLDEST),
    ]
    with patched(asleep):
        import transformers.utils.import_utils as imports  # noqa: PLC0415  # the same

        leave_compiler_at_home()
        unwanted = [
            Patch(owner, name, lambda: False)
            for owner in (imports, sys.modules["transformers.utils"])
            for name in _UNWANTED
        ]
        with patched(unwanted):
            for name in names:
                importlib.import_module(name)
    # peft would ask of every layer whether it is a shard.
    vars(sys.modules["peft.tuners.tuners_utils"])["_torch_supports_distributed"] = False
    torch._C._cuda_getDeviceCount = lambda: 0


_asked: dict[str, Any] = {}


def virtual_outcome(job: "Job") -> "Outcome":
    """Run on the virtual card of this process."""
    from planner.probe.devices.cuda import device_outcome  # noqa: PLC0415  # torch comes after its card

    make_values_true(job.options.seed, job.options.routing)
    outcome = device_outcome(job)
    taken = read_card()
    return replace(
        outcome,
        managed_bytes=taken.managed.peak_bytes,
        pinned_bytes=taken.pinned.peak_bytes,
        notes=(*outcome.notes, *modelled()),
    )


def make_values_true(seed: int, routing: Routing) -> None:
    """Whole numbers and booleans, for the rest of this process. One thread: nothing here computes anything large."""
    import torch  # noqa: PLC0415  # comes after its card

    from planner.probe.values import install  # noqa: PLC0415  # imports torch

    torch.set_num_threads(1)
    install(seed, routing)


def _refuse_what_no_card_can(card: CardSpec, memory_limit_bytes: int | None) -> None:
    if card.compute_capability < _OLDEST:
        fix = "torch's build for CUDA 13 has kernels for compute capability 7.5 and newer; choose another card"
        raise InvalidRequestError("This card cannot be played.", [FieldProblem("gpu", fix)])
    if memory_limit_bytes is None:
        return
    if memory_limit_bytes > card.total_bytes:
        fix = f"name at most {format_gib(card.total_bytes)}, which is what this card has"
        raise InvalidRequestError("This card cannot play a larger one.", [FieldProblem("--memory-limit", fix)])
    _ = MemoryLimit(memory_limit_bytes, card.context_bytes).allocator_bytes  # refuses what is less than a context

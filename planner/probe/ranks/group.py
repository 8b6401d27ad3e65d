"""The group of a rank whose other ranks are not here: it forms at once, and its collectives return.

On a virtual card NCCL's calls return by themselves (planner/probe/card/src/nccl.cpp); gloo's groups have torch's own
pretend group in their place (planner/probe/command/bootstrap/fitproof_bootstrap/ranks.py).
"""

import os
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from planner.probe.command.bootstrap.fitproof_bootstrap import ranks

# ncclUniqueId, which the first rank would have written for the others (nccl.h, NCCL_UNIQUE_ID_BYTES).
_UNIQUE_ID = bytes(128)


class _LoneStore(dist.Store):  # type: ignore[misc, name-defined]  # torch has no types for it
    """Where ranks would meet: an unwritten key is answered with an NCCL id, so that no rank waits for another."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, bytes] = {}

    def set(self, key: str, value: bytes | str) -> None:
        self._kept[key] = value.encode() if isinstance(value, str) else bytes(value)

    def get(self, key: str) -> bytes:
        return self._kept.get(key, _UNIQUE_ID)

    def add(self, key: str, amount: int) -> int:
        total = int(self._kept.get(key, b"0")) + amount
        self._kept[key] = str(total).encode()
        return total

    def check(self, keys: list[str]) -> bool:
        return all(key in self._kept for key in keys)

    def wait(self, *_: Any) -> None:
        """No other rank comes."""


# torch's C++ side finds what a store in Python does only as long as Python holds it.
_held: list[_LoneStore] = []


def join_world(rank: int, world: int) -> None:
    """Be rank `rank` of `world` for the rest of this process."""
    # torchrun's variables, each rank on a node of its own, as its process sees one card, which DeepSpeed takes by its
    # number there; NCCL's watchdog would ask the store for the others' health.
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": "1",
        "TORCH_NCCL_ENABLE_MONITORING": "0",
    }  # fmt: skip
    ranks.let_groups_form(distributed_c10d, {"ranks": world}, "")  # type: ignore[no-untyped-call]  # for Python 3.9
    torch.cuda.set_device(0)  # a rank's process sees its own card alone
    _held.append(store := _LoneStore())
    dist.init_process_group("cpu:gloo,cuda:nccl", store=store, rank=rank, world_size=world)


def let_go_of_collectives() -> None:
    """Between two steps, where there is a group; see the bootstrap's function of that name."""
    ranks.let_go_of_collectives(torch)  # type: ignore[no-untyped-call]  # for Python 3.9

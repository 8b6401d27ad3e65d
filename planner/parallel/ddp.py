"""Distributed data parallelism: every card holds everything, and gradients twice: as `.grad` and in buckets.

torch/csrc/distributed/c10d/reducer.cpp: initialize_buckets makes one flat tensor for each bucket of at most
`bucket_cap_mb` MiB (the first of 1 MiB), which live as long as the model; with `gradient_as_bucket_view` the gradients
are views of them. A tensor larger than the cap is a bucket of its own.
"""

from collections.abc import Sequence
from functools import partial

from planner.ledger import PHASES, Line
from planner.request.parallel import Ddp
from planner.tensors.trainable import Trainable, reached
from planner.units import MIB, allocated

FIRST_BUCKET_BYTES = MIB
# torch/nn/parallel/distributed.py: self.broadcast_bucket_size; two are on their way at a time (comm.cpp max_in_flight).
BROADCAST_BUCKET_BYTES = 250 * MIB
BROADCASTS_IN_FLIGHT = 2
BUCKETS = "DDP gradient buckets"
SOURCE = "torch/csrc/distributed/c10d/reducer.cpp Reducer::initialize_buckets"


def bucket_bytes(tensors: Sequence[Trainable], cap_bytes: int) -> list[int]:
    """Bytes of each bucket, filled in reverse order of the parameters (compute_bucket_assignment_by_size)."""
    buckets: list[int] = []
    open_bytes: dict[int, int] = {}
    limits: dict[int, int] = {}
    for tensor in reversed(reached(tensors)):
        each, size_bytes = tensor.itemsize_bytes, tensor.elements * tensor.itemsize_bytes
        for _ in range(tensor.count):
            filled = open_bytes.get(each, 0) + size_bytes
            if filled >= limits.get(each, FIRST_BUCKET_BYTES):
                buckets.append(filled)
                filled, limits[each] = 0, cap_bytes
            open_bytes[each] = filled
    return buckets + [size for size in open_bytes.values() if size]


def ddp_lines(tensors: Sequence[Trainable], options: Ddp, weights_bytes: int) -> list[Line]:
    """What DDP adds to a card: the buckets, the map of used parameters, and the broadcast that starts it.

    `weights_bytes`: parameters and buffers, which rank 0 sends to the others in flat buckets.
    """
    buckets = bucket_bytes(tensors, options.bucket_cap_mb * MIB)
    count = sum(tensor.count for tensor in reached(tensors))
    in_flight_bytes = min(weights_bytes, BROADCASTS_IN_FLIGHT * BROADCAST_BUCKET_BYTES)

    line = partial(Line, cause="gradients", evidence="modelled")
    return [
        line(
            name=BUCKETS, bytes=sum(map(allocated, buckets)), alive_in=PHASES[1:], source=SOURCE,
            formula="Σ e × trained parameters, by bucket",
            working=f"{sum(buckets):,} in {len(buckets)} buckets of at most {options.bucket_cap_mb} MiB",
        ),
        line(
            name="DDP map of used parameters", bytes=allocated(4 * count), alive_in=PHASES[1:],
            formula="4 × trained tensors", working=f"4 × {count:,}",
            source="torch/csrc/distributed/c10d/reducer.cpp Reducer::initialize_local_used_map",
        ),
        line(
            name="DDP broadcast buckets", bytes=in_flight_bytes, alive_in=PHASES[1:2],
            formula="min(model, 2 × 250 MiB)", working=f"{in_flight_bytes:,}",
            source="torch/csrc/distributed/c10d/comm.cpp broadcast_coalesced",
        ),
    ]  # fmt: skip

"""NCCL's own buffers: outside torch's allocator, one set for each channel and each card that sends to this one.

NCCL 2.29 src/init.cc computeBuffSizes: DEFAULT_LL_BUFFSIZE, DEFAULT_LL128_BUFFSIZE and DEFAULT_BUFFSIZE, from
src/include/device.h. How many channels it opens depends on the links between the cards, which a request does not say:
2 on PCI Express at least, 32 on NVLink at most (src/graph/search.cc; NCCL_MIN_NCHANNELS, NCCL_MAX_NCHANNELS).
"""

from planner.ledger import Line
from planner.overheads.table import Band
from planner.request.layout import Layout
from planner.units import MIB

STEPS = 8
LL_BYTES = 8 * 512 * STEPS * 16  # lines per thread, threads, steps, bytes of a line
LL128_BYTES = 120 * 640 * STEPS * 8  # elements per thread, threads, steps, bytes of an element
SIMPLE_BYTES = 4 * MIB
CONNECTION_BYTES = LL_BYTES + LL128_BYTES + SIMPLE_BYTES

FEWEST_CHANNELS, LIKELY_CHANNELS, MOST_CHANNELS = 2, 8, 32


def nccl_bytes(channels: int, world: int, *, trees: bool) -> int:
    """Receive buffers: of a ring one card sends, of a tree up to two children and the parent."""
    senders = 1 + (min(3, world - 1) if trees else 0)
    return channels * senders * CONNECTION_BYTES


def nccl_line(world: int, *, trees: bool) -> Line:
    """The likely size as a line of its own. `trees`: all-reduce, which DDP uses, may go by trees beside the ring."""
    likely_bytes = nccl_bytes(LIKELY_CHANNELS, world, trees=trees)
    return Line(
        name="NCCL buffers, outside torch",
        bytes=likely_bytes,
        cause="runtime",
        alive_in=(),
        formula="channels × senders × (LL 0.5 MiB + LL128 4.7 MiB + simple 4 MiB); 2 to 32 channels",
        working=f"{LIKELY_CHANNELS} × {likely_bytes // LIKELY_CHANNELS // CONNECTION_BYTES} × {CONNECTION_BYTES:,}",
        evidence="modelled",
        source="NCCL src/init.cc computeBuffSizes, src/include/device.h; no figure here was read on cards",
    )


def communication_band(layout: Layout) -> Band:
    """Bytes that the cards take to talk to each other, from the fewest channels to the most."""
    if not _talks(layout):
        return Band(0, 0, 0, "", 0)
    low, likely, high = (
        nccl_bytes(channels, layout.world, trees=layout.strategy == "ddp")
        for channels in (FEWEST_CHANNELS, LIKELY_CHANNELS, MOST_CHANNELS)
    )
    return Band(low, likely, high, "NCCL's buffers, 2 to 32 channels", 0)


def _talks(layout: Layout) -> bool:
    """`device_map` runs in one process, and sends by copies."""
    return layout.world > 1 and layout.strategy != "device_map"


def communication_lines(layout: Layout) -> list[Line]:
    """The likely size of it, if any."""
    return [nccl_line(layout.world, trees=layout.strategy == "ddp")] if _talks(layout) else []

"""Why a run on the virtual card differs from the real one, by the tensor or block that makes it. No torch."""

from planner.evidence.published_dry_runs.compared import Compared
from planner.model.model import resolve_model
from planner.units import MIB

# c10/cuda/CUDACachingAllocator.cpp, kSmallBuffer.
SMALL_SEGMENT_BYTES = 2 * MIB


def explanation(row: Compared) -> str | None:
    """The reason of what differs, or None where nothing does."""
    parts = [text for text in (_added(row), _allocated(row), _reserved(row)) if text]
    return "; ".join(parts) or None


def _added(row: Compared) -> str:
    """A raced run whose step counted other blocks than in any of the schedules."""
    if not row.setting.is_raced or row.added_is_equal:
        return ""
    return (
        "added: the step got free blocks larger than what it asked for by other amounts than in these schedules (a "
        "rest below 1 MiB is not split off and counts)"
    )


def _allocated(row: Compared) -> str:
    """The peak less the resident model is what the step asked for; what it counts depends on the blocks it got."""
    if not row.distance("peak_allocated"):
        return ""
    if row.setting.is_raced:
        return (
            "allocated: the loader's threads left the model in larger or smaller blocks than in any of these schedules "
            "(of a free block, a rest below 1 MiB is not split off and counts)"
        )
    return (
        "allocated: blocks of which less than 1 MiB would remain are not split and count whole; the step got other "
        "free blocks than on the real card"
    )


def _reserved(row: Compared) -> str:
    if not row.distance("peak_reserved"):
        return ""
    off = _bytes_off(row)
    score = score_matrix_bytes(row)
    count = round(abs(off) / score) if row.setting.document["attention"] == "eager" else 0
    if count and abs(abs(off) - count * score) <= 3 * SMALL_SEGMENT_BYTES:
        side = "virtual" if off > 0 else "real"
        return (
            f"reserved: the {side} card took a segment more for {count} of the score matrices of eager attention "
            "(batch × heads × length² in float16), the other found a free block for it"
        )
    if abs(off) <= SMALL_SEGMENT_BYTES + row.setting.rounding_bytes:
        return "reserved: one segment of the pool of small blocks (2 MiB)"
    return "reserved: free blocks that loading left were of other sizes, so the step took other segments"


def _bytes_off(row: Compared) -> int:
    """How far the nearest schedule lies above what was measured; negative below."""
    measured = row.setting.measured["peak_reserved"]
    return min((value - measured for value in row.record.bytes["peak_reserved"]), key=abs)


def score_matrix_bytes(row: Compared) -> int:
    """One layer's attention scores in float16."""
    document = row.setting.document
    heads = int(resolve_model(str(document["model"]).replace("-Coder", "")).config["num_attention_heads"])
    return int(document["batch"]) * heads * int(document["length"]) ** 2 * 2

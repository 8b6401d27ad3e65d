"""The ranges that hold for one card: the general evidence, drawn in by what runs on that card showed.

Of n + 1 runs whose order tells nothing, each is as likely as any other to be the one beyond all the rest at one end.
The next run therefore goes beyond the n seen on a card with a chance of 1 / (n + 1), and beyond a general range of N
runs with 1 / (N + 1) (S. S. Wilks, Determination of sample sizes for setting tolerance limits, 1941). A run that does
go beyond the card's own is taken to end anywhere between them and the general end. The end with the general range's
chance then lies (N - n) / (N + 1) of the way from the card's own end to the general one: each run draws the band in by
one part of N + 1, and N runs of different settings speak for themselves. What was seen on the card is always inside.
"""

from dataclasses import replace

from planner.gpu import Gpu, Seen
from planner.overheads import table
from planner.overheads.table import Band, context_band, fragmentation_band


def formula_band(gpu: Gpu, method: str) -> Band:
    """Fraction by which the allocated peak may differ from the formula's."""
    return narrowed(table.formula_band(method), gpu.record.allocated if gpu.record else None, gpu)


def parallel_band(gpu: Gpu, method: str) -> Band:
    """The same where several cards share a run: what dry runs of several showed, and no less than `formula_band`."""
    one, several = formula_band(gpu, method), table.parallel_band()
    return Band(min(one.low, several.low), one.likely, max(one.high, several.high), several.source, several.runs)


def reserved_band(gpu: Gpu) -> Band:
    """Fraction by which a run may reserve less or more than its replay."""
    return narrowed(table.reserved_band(), gpu.record.reserved if gpu.record else None, gpu)


def lost_band(gpu: Gpu, varying_lengths: bool, expandable_segments: bool, large_pieces: bool) -> Band:
    """Fraction of the allocated peak that is lost to pieces of the wrong size."""
    use = (varying_lengths, expandable_segments, large_pieces)
    return narrowed(fragmentation_band(*use), dict(gpu.record.lost).get(use) if gpu.record else None, gpu)


def card_context_band(gpu: Gpu) -> Band:
    """Bytes outside the allocator. What was read on this very card is the likeliest."""
    seen = gpu.record.context_bytes if gpu.record else None
    own_bytes = gpu.context_bytes
    if own_bytes is None:
        return narrowed(context_band(gpu.compute_capability), seen, gpu)
    if seen is None:
        return Band(own_bytes, own_bytes, own_bytes, f"read on {gpu.name}", 1)
    band = narrowed(context_band(gpu.compute_capability), seen, gpu)
    return replace(band, likely=own_bytes, low=min(band.low, own_bytes), high=max(band.high, own_bytes))


def narrowed(general: Band, seen: Seen | None, gpu: Gpu) -> Band:
    """Draw `general` in by what was seen on this card; see the module's docstring."""
    if seen is None:
        return general
    kept = max(0, general.runs - seen.runs) / (general.runs + 1)
    rest = f" ({kept:.0%} of the range still {general.source})" if kept else ""
    return Band(
        low=seen.low + kept * min(0.0, general.low - seen.low),
        likely=seen.likely + kept * (general.likely - seen.likely),
        high=seen.high + kept * max(0.0, general.high - seen.high),
        source=f"{seen.runs} {'setting' if seen.runs == 1 else 'settings'} measured on {gpu.name}{rest}",
        runs=general.runs,
    )

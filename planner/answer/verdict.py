"""From allocated and reserved bytes to a verdict.

With room to spare, the allocator keeps what it once took: the process grows to the reserved bytes. Short of room, it
gives unused segments back before it fails, down to the smallest capacity that survives. So on a given card a process
takes the reserved bytes where they fit, all there is where only the smallest capacity fits, and else it fails.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from planner.gpu import Gpu
from planner.overheads.ranges import card_context_band, formula_band, lost_band, parallel_band, reserved_band
from planner.overheads.table import Band, jump

NOTHING_OUTSIDE = Band(0, 0, 0, "", 0)
Verdict = Literal["fits", "tight", "does_not_fit"]


@dataclass(frozen=True, slots=True)
class Required:
    """Memory the process takes on this card, `low` to `high`, and what the range was read off."""

    low: int
    likely: int
    high: int
    provenance: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Everything a verdict rests on. `reserved_bytes` plays a step, so it is asked for by `required` alone.

    `perhaps_less_bytes`: what the peak counts at most, and a run may not hold: a tower that is quantized, too.
    `large_pieces`: some tensor is large beside the peak, and so are the holes it leaves. `outside` is what the cards
    take to talk to each other, `several_cards` whether the formula is one for several. `spills`: some layers would go
    to the host, where nothing is trained. `frees_across_streams`: some memory returns to its stream's pool only
    when another stream is done with it, which releasing cached segments does not hasten: such a run fits only if all
    that it reserves does.
    """

    peak_allocated_bytes: int
    reserved_bytes: Callable[[], int]
    gpu: Gpu
    varying_lengths: bool = False
    expandable_segments: bool = False
    large_pieces: bool = False
    perhaps_less_bytes: int = 0
    method: str = "qlora"
    outside: Band = NOTHING_OUTSIDE
    several_cards: bool = False
    spills: bool = False
    frees_across_streams: bool = False

    @property
    def lowest_bytes(self) -> int:
        """What is alive at once, less the formula's error, and the leanest context: no card survives with less."""
        error = self._formula
        held_bytes = self.peak_allocated_bytes - self.perhaps_less_bytes
        return round(held_bytes * (1 + error.low) + self._context.low)

    @property
    def smallest_bytes(self) -> int:
        """The smallest capacity likely to survive."""
        return self._smallest("likely")

    @property
    def enough_bytes(self) -> int:
        """A capacity that survives with the worst error, the largest holes and the largest context seen."""
        return self._smallest("high")

    def verdict(self) -> Verdict:
        """Fits only when even the high estimate fits, does not only when even the low one is beyond the card."""
        if self.spills or self.lowest_bytes > self.gpu.usable_bytes:
            return "does_not_fit"
        if self.enough_bytes > self.gpu.usable_bytes:
            return "tight"
        return "tight" if self.frees_across_streams and self._plenty("high") > self.gpu.usable_bytes else "fits"

    def required(self) -> Required:
        """The range on this card. Nothing in it depends on the card's size but where the allocator gives back."""
        return Required(
            low=self.lowest_bytes,
            likely=self._likely_bytes(),
            high=self._high_bytes(),
            provenance=(
                f"formula: {self._formula.source}",
                f"reserved: {reserved_band(self.gpu).source}; {jump(self.method).source}",
                f"fragmentation: {self._lost.source}",
                f"context: {self._context.source}",
            ),
        )

    def _likely_bytes(self) -> int:
        plenty_bytes, smallest_bytes = self._plenty("likely"), self.smallest_bytes
        if plenty_bytes <= self.gpu.usable_bytes:
            return plenty_bytes
        fits = smallest_bytes <= self.gpu.usable_bytes
        return self.gpu.usable_bytes if fits else min(plenty_bytes, smallest_bytes)

    def _high_bytes(self) -> int:
        """Where the worst holes seen leave room, the process is bounded by the card; else by those holes."""
        fits = self.enough_bytes <= self.gpu.usable_bytes
        return min(self._plenty("high"), self.gpu.usable_bytes) if fits else self.enough_bytes

    def _plenty(self, end: Literal["likely", "high"]) -> int:
        reserved = reserved_band(self.gpu)
        off: float = getattr(reserved, end)
        if end == "high":
            # A run a little smaller may reserve more, and likely did say so: more never costs less than what was said.
            off = max(off, (1 + reserved.likely) * (1 + jump(self.method).fraction) - 1)
        error: float = getattr(self._formula, end)
        context: float = getattr(self._context, end)
        # The allocator cannot hold less than is alive, whatever runs on a card reserved beside their replays.
        return round(max(self.reserved_bytes() * (1 + off), self.peak_allocated_bytes * (1 + error)) + context)

    def _smallest(self, end: Literal["likely", "high"]) -> int:
        error: float = getattr(self._formula, end)
        lost: float = getattr(self._lost, end)
        context: float = getattr(self._context, end)
        return round(self.peak_allocated_bytes * (1 + error) * (1 + lost) + context)

    @property
    def _lost(self) -> Band:
        return lost_band(self.gpu, self.varying_lengths, self.expandable_segments, self.large_pieces)

    @property
    def _formula(self) -> Band:
        of = parallel_band if self.several_cards else formula_band
        return of(self.gpu, self.method)

    @property
    def _context(self) -> Band:
        context, outside = card_context_band(self.gpu), self.outside
        if not outside.high:
            return context
        return Band(
            context.low + outside.low, context.likely + outside.likely, context.high + outside.high,
            f"{context.source}; {outside.source}", context.runs,
        )  # fmt: skip

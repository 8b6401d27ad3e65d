"""Gradients under ZeRO: from autograd through a bucket into the card's part.

deepspeed/runtime/zero/stage_1_and_2.py. All trained parameters are one flat tensor in the order in which they are
defined, of which each card has an equal part. Gradients come in the opposite order. One that fits goes into a bucket of
`reduce_bucket_size` elements, and autograd's own is let go of; one that does not waits as it is, alone in the bucket
(reduce_independent_p_g_buckets_and_remove_grads). Where the next does not fit any more, the bucket is reduced: what of
it belongs to several cards is copied once more (average_tensor, allreduce_bucket), and what belongs to this card goes
into one tensor for all parameters that its part touches (copy_grads_in_partition), or, part by part, to the host.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from planner.units import allocated, ceil_div

HALF_BYTES = 2
DOUBLE_BYTES = 8
# stage3.py _constant_buffered_norm2: buffer_size.
NORM_ELEMENTS = 250_000_000
# Start and end of a parameter in the flat tensor.
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Parts:
    """The flat tensor of all trained parameters and its equal parts, one a card."""

    spans: tuple[Span, ...]
    share: int
    cards: int

    @classmethod
    def of(cls, elements: Sequence[int], cards: int) -> "Parts":
        """Parts of parameters of so many elements each."""
        ends = list(accumulate(elements))
        total = ends[-1] if ends else 0
        return cls(tuple(zip([0, *ends[:-1]], ends, strict=False)), max(1, ceil_div(total, cards)), cards)

    def touched(self, rank: int) -> Sequence[Span]:
        """The parameters of which the rank's part has something."""
        begin, end = rank * self.share, (rank + 1) * self.share
        first = bisect_left(self.spans, begin + 1, key=lambda span: span[1])
        return self.spans[first : bisect_left(self.spans, end, key=lambda span: span[0])]

    def kept_bytes(self, rank: int) -> int:
        """The tensor that gradients of the rank's part are copied into: whole parameters (grads_in_partition)."""
        return allocated(HALF_BYTES * sum(end - start for start, end in self.touched(rank)))

    def largest_piece(self, rank: int, spans: Sequence[Span] | None = None) -> int:
        """Elements of the largest piece of one parameter in the rank's part; 0 where it has none."""
        chosen = self.touched(rank) if spans is None else spans
        return max((max(0, self._piece(rank, span)) for span in chosen), default=0)

    def touches(self, rank: int, spans: Sequence[Span]) -> bool:
        """Whether any of these parameters is of the rank's part."""
        return any(self._piece(rank, span) > 0 for span in spans)

    def is_of_several(self, spans: Sequence[Span]) -> bool:
        """Whether neighbours in the flat tensor belong to more than one card."""
        if not spans:
            return False
        begin, end = min(start for start, _ in spans), max(end for _, end in spans)
        return begin // self.share != (end - 1) // self.share

    def ranks(self) -> list[int]:
        """The ranks that can hold most: the first, the last that has anything, and that of the largest tensor."""
        last = (self.spans[-1][1] - 1) // self.share if self.spans else 0
        most = max(range(last + 1), key=self.kept_bytes)
        return sorted({0, most, last})

    def _piece(self, rank: int, span: Span) -> int:
        return min(span[1], (rank + 1) * self.share) - max(span[0], rank * self.share)


@dataclass(slots=True)
class Bucket:
    """One rank's gradients on their way. Bytes are beside what autograd itself makes.

    `size`: elements that fit in; `on_host`: the card's part goes to the host. Stage 1 leaves what is of other cards, as
    far as no bucket took it, stage 2 lets go of it, and stage 3 has each card's part of every parameter in a tensor
    that is always there.
    """

    parts: Parts
    rank: int
    size: int
    stage: int
    on_host: bool
    kept_bytes: int = 0
    waiting_bytes: int = 0
    left_bytes: int = 0
    _filled: int = 0
    _spans: list[Span] = field(default_factory=list)

    @property
    def now_bytes(self) -> int:
        """The card's part, what waits for the bucket, and what was reduced and is of other cards."""
        return self.kept_bytes + self.waiting_bytes + self.left_bytes

    def take(self, span: Span) -> int:
        """Put one gradient in; the most that is there meanwhile, the gradient among it."""
        elements = span[1] - span[0]
        own_bytes = HALF_BYTES * elements
        most_bytes = self.now_bytes + own_bytes
        if self._filled + elements > self.size:
            most_bytes = max(most_bytes, self.reduce() + own_bytes)
        if elements > self.size:
            self.waiting_bytes = own_bytes
        self._spans.append(span)
        self._filled += elements
        return most_bytes

    def reduce(self) -> int:
        """Empty the bucket; the most that is there meanwhile."""
        most_bytes = self.now_bytes
        if self._is_copied:
            most_bytes += allocated(HALF_BYTES * self._filled)
        if self.stage == 3 or self.parts.touches(self.rank, self._spans):
            if self.on_host:
                most_bytes = max(most_bytes, self.now_bytes + allocated(DOUBLE_BYTES * self._largest_piece))
            elif self.stage < 3:
                self.kept_bytes = self.parts.kept_bytes(self.rank)
                most_bytes = max(most_bytes, self.now_bytes)
        elif self.stage == 1:
            self.left_bytes += self.waiting_bytes
        self.waiting_bytes = self._filled = 0
        self._spans.clear()
        return most_bytes

    @property
    def _is_copied(self) -> bool:
        """Whether it is reduced as a copy: several parameters in parts of each (comm/coalesced_collectives.py
        reduce_scatter_coalesced), or what is of several cards.
        """
        return len(self._spans) > 1 if self.stage == 3 else self.parts.is_of_several(self._spans)

    @property
    def _largest_piece(self) -> int:
        """Elements of the largest piece that goes to the host; the norm of each is worked out in float64
        (set_norm_for_param_grad_in_gpu; stage3.py _constant_buffered_norm2).
        """
        if self.stage < 3:
            return self.parts.largest_piece(self.rank, self._spans)
        largest = max((end - start for start, end in self._spans), default=0)
        return min(NORM_ELEMENTS, ceil_div(largest, self.parts.cards))


def reduced_on_the_way(
    parts: Parts, counts: Sequence[int], size: int, *, stage: int, on_host: bool
) -> list[tuple[int, int]]:
    """Of each unit, as its gradients come, the most bytes while it is worked on and what is left at its end.

    `counts` has how many trained parameters each unit has, in the order in which their gradients come. The last one's
    end has the bucket reduced.
    """
    found: list[tuple[int, int]] = []
    buckets = [Bucket(parts, rank, size, stage, on_host) for rank in parts.ranks()]
    position = len(parts.spans)
    for count in counts:
        spans = parts.spans[position - count : position][::-1]
        position -= count
        most_bytes = max(max([bucket.now_bytes, *map(bucket.take, spans)]) for bucket in buckets)
        at_end_bytes = max(bucket.now_bytes if position else bucket.reduce() for bucket in buckets)
        found.append((most_bytes, at_end_bytes))
    return found


def reduced_at_the_end(parts: Parts, size: int, *, on_host: bool) -> int:
    """Stage 1's reduction, when all gradients are there: the most bytes beside them.

    In the order in which parameters are defined (reduce_gradients). Gradients that went into the bucket are gone.
    """
    total_bytes = HALF_BYTES * (parts.spans[-1][1] if parts.spans else 0)
    most_bytes = 0
    for rank in parts.ranks():
        bucket, whole_bytes = Bucket(parts, rank, size, stage=1, on_host=on_host), total_bytes
        for span in parts.spans:
            beside_bytes = bucket.take(span)
            most_bytes = max(most_bytes, beside_bytes + whole_bytes - HALF_BYTES * (span[1] - span[0]) - total_bytes)
            whole_bytes -= HALF_BYTES * (span[1] - span[0])
        most_bytes = max(most_bytes, bucket.reduce() - total_bytes)
    return most_bytes


def at_the_step_bytes(parts: Parts) -> int:
    """The most that is there while gradients become the float32 ones that the optimizer reads.

    The norm is worked out in float64 of one gradient at a time (get_grad_norm_direct); then the part is one flat tensor
    and is turned to float32 (step, flat_grad_partition).
    """
    most_bytes = 0
    for rank in parts.ranks():
        kept_bytes = parts.kept_bytes(rank)
        norm_bytes = kept_bytes + allocated(DOUBLE_BYTES * parts.largest_piece(rank))
        flat_bytes = kept_bytes + allocated(HALF_BYTES * parts.share) + allocated(2 * HALF_BYTES * parts.share)
        most_bytes = max(most_bytes, norm_bytes, flat_bytes)
    return most_bytes

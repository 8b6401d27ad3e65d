"""How long a run of so many tokens takes and what it costs, from the range of its tokens per second."""

from dataclasses import dataclass

from planner.throughput.rate import Throughput

_HOUR_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class ValueRange:
    """`low` at the fastest rate, `high` at the slowest; None where no published run is near."""

    low: float
    likely: float
    high: float | None

    def times(self, factor: float) -> "ValueRange":
        """Every end times `factor`."""
        return ValueRange(self.low * factor, self.likely * factor, None if self.high is None else self.high * factor)


def hours_of(tokens: int | None, found: Throughput) -> ValueRange | None:
    """Hours of all cards for `tokens`; None where they or the rate are not known."""
    if not tokens or found.likely is None or found.high is None:
        return None
    slowest = tokens / found.low / _HOUR_SECONDS if found.low else None
    return ValueRange(tokens / found.high / _HOUR_SECONDS, tokens / found.likely / _HOUR_SECONDS, slowest)


def cost_of(hours: ValueRange | None, price_per_hour: float | None, cards: int) -> ValueRange | None:
    """In the currency of `price_per_hour`, which is of one card."""
    return hours.times(price_per_hour * cards) if hours and price_per_hour else None

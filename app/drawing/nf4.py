"""NF4's sixteen levels under the normal curve they were made for."""

from dataclasses import dataclass
from math import exp
from statistics import NormalDist

# Quantiles start here and not at 1, whose quantile is infinite: half a step of each side's 16 and 15 intervals, QLoRA
# paper (arXiv:2305.14314), section 3; bitsandbytes functional.py, create_normal_map, has it as 0.9677083.
OFFSET = 1 - (1 / 32 + 1 / 30) / 2
_NORMAL = NormalDist()
_CURVE_POINTS = 81


@dataclass(frozen=True, slots=True)
class Level:
    """One of the sixteen values: percentages from the left and of the curve's height there."""

    code: int
    value: float
    x: float
    height: float


@dataclass(frozen=True, slots=True)
class Nf4Picture:
    """The levels, and the curve as an SVG path over a box of 100 by 100."""

    levels: tuple[Level, ...]
    curve: str


def nf4_levels() -> tuple[float, ...]:
    """Eight quantiles above zero, seven below, zero itself, scaled to end at 1: bitsandbytes' create_normal_map."""
    above = _quantiles(8)
    below = [-value for value in _quantiles(7)]
    largest = max(above)
    return tuple(sorted(value / largest for value in (*below, 0.0, *above)))


def draw_nf4() -> Nf4Picture:
    """Place the levels from -1 to 1, where 1 is the largest weight of a block."""
    levels = tuple(
        Level(code, value, _across(value), round(100 * _density(value), 2)) for code, value in enumerate(nf4_levels())
    )
    spots = (2 * n / (_CURVE_POINTS - 1) - 1 for n in range(_CURVE_POINTS))
    line = " ".join(f"L{_across(spot):g} {100 - 100 * _density(spot):.2f}" for spot in spots)
    return Nf4Picture(levels, f"M0 100 {line} L100 100 Z")


def _quantiles(count: int) -> list[float]:
    """`count` normal quantiles at equal steps of probability, from `OFFSET` down, one half left out."""
    step = (OFFSET - 0.5) / count
    return [_NORMAL.inv_cdf(OFFSET - n * step) for n in range(count)]


def _across(value: float) -> float:
    return round(50 + 50 * value, 3)


def _density(value: float) -> float:
    """The normal curve, 1 at its top; the scale's 1 stands for the outermost quantile."""
    return exp(-((value * _NORMAL.inv_cdf(OFFSET)) ** 2) / 2)

"""What could not be computed stays noise, and is said once for each operator."""

import warnings
from collections import Counter

_counts: Counter[str] = Counter()


def count_as_noise(operator: object, error: Exception) -> None:
    """Count a whole number left as noise; the first of each operator is a warning."""
    name = str(operator)
    if not _counts[name]:
        warnings.warn(f"virtual card: {name} left its whole numbers as noise: {error}", RuntimeWarning, stacklevel=3)
    _counts[name] += 1


def left_as_noise() -> dict[str, int]:
    """Operators whose whole numbers could not be computed on the host, with how often."""
    return dict(_counts)

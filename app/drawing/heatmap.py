"""Shades of the map: how full the card would be, in steps that a class name can carry."""

# Ten shades: enough to see the slope, few enough to name in the stylesheet.
SHADES = 10


def shade(required_bytes: int, usable_bytes: int) -> int:
    """0 (empty) to 9 (full or beyond): the tenth of the card that the run reaches."""
    return min(int(SHADES * required_bytes / usable_bytes), SHADES - 1)


def powers_of_two(first: int, last: int) -> tuple[int, ...]:
    """`first`, twice that, and so on up to `last`."""
    values = [first]
    while values[-1] * 2 <= last:
        values.append(values[-1] * 2)
    return tuple(values)


def with_own(values: tuple[int, ...], own: int) -> tuple[int, ...]:
    """The axis with the plan's own value among the round ones."""
    return tuple(sorted({*values, own}))

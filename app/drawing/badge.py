"""A verdict as a badge: two boxes of text, as wide as their words."""

from dataclasses import dataclass

# DejaVu Sans and Verdana at 11 px take 6.5 px for a letter on average; 6 px of air on each side.
_LETTER_PX, _AIR_PX = 6.5, 6


@dataclass(frozen=True, slots=True)
class Badge:
    """What is asked on the left, the answer on the right; widths in px."""

    asked: str
    answer: str
    verdict: str

    @property
    def asked_px(self) -> int:
        """Width of the left box."""
        return _width(self.asked)

    @property
    def answer_px(self) -> int:
        """Width of the right box."""
        return _width(self.answer)


def _width(text: str) -> int:
    return round(len(text) * _LETTER_PX + 2 * _AIR_PX)

"""Which characters text may hold. Control characters have no place in a name, and PostgreSQL stores no NUL."""

import re

# C0, DEL and C1 (Unicode's category Cc), and surrogates, which are no characters.
_IN_A_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Text may have lines and tabs.
_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class LoneSurrogateError(ValueError):
    """Half of a character: no text at all."""


def checked_name(text: str) -> str:
    """Return `text`, one line of characters that can be shown.

    Raises:
        ValueError: it holds something else; says what.
    """
    return _without(_IN_A_NAME, text)


def checked_text(text: str) -> str:
    """Return `text`, lines of characters that can be shown.

    Raises:
        ValueError: it holds something else; says what.
    """
    return _without(_IN_TEXT, text)


def storable(text: str) -> str:
    """Return `text` with U+FFFD for what no database takes; for text that is ours to keep, whatever it holds."""
    return _IN_TEXT.sub("\ufffd", text)


def _without(unwanted: re.Pattern[str], text: str) -> str:
    # Nearly all text is ASCII that prints, and is asked for every string of a document.
    if text.isascii() and text.isprintable():
        return text
    found = unwanted.search(text)
    if found is None:
        return text
    code = ord(found.group())
    if 0xD800 <= code <= 0xDFFF:
        msg = "holds a lone surrogate; write valid Unicode"
        raise LoneSurrogateError(msg)
    msg = f"holds the control character U+{code:04X}; remove it"
    raise ValueError(msg)

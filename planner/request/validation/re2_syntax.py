"""Python's regular expressions in RE2's syntax, so that a match takes time linear in the text, whatever the pattern.

Translated from `re`'s own parse tree, so that each construct means what it means to PEFT and transformers; what RE2 has
no equal of (look-around, references, possessive repeats) is not translated.
"""

import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import re2

# The parse tree of `re` itself; private, but in place since Python 3.11 and guarded by a test.
PARSER: Any = import_module("re._parser")

# RE2 takes what a pattern needs, and refuses what `{1000}` within `{1000}` would unfold to. A list of 512 module names
# takes some 2 MiB.
_MOST_MEMORY_BYTES = 8 << 20
_REPEATS = {"MAX_REPEAT": "", "MIN_REPEAT": "?"}
_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d", "CATEGORY_NOT_DIGIT": r"\D", "CATEGORY_SPACE": r"\s", "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w", "CATEGORY_NOT_WORD": r"\W",
}  # fmt: skip
# `$` of re would also match before a final newline, which no module name has.
_PLACES = {"AT_BEGINNING": r"\A", "AT_BEGINNING_STRING": r"\A", "AT_END": r"\z", "AT_END_STRING": r"\z"}
_TRANSLATED_FLAGS = re.IGNORECASE | re.DOTALL
_READ_FLAGS = _TRANSLATED_FLAGS | re.UNICODE | re.ASCII | re.VERBOSE


class NoEqualError(Exception):
    """RE2 has nothing that means the same."""


def linear_text(text: str) -> str:
    """Write `text`, which `re` takes, for RE2. Module names are ASCII, so that both read classes alike.

    Raises:
        NoEqualError: it holds what RE2 has no equal of.
    """
    tree = PARSER.parse(text)
    if tree.state.flags & ~_READ_FLAGS:
        raise NoEqualError
    flags = ("i" if tree.state.flags & re.IGNORECASE else "") + ("s" if tree.state.flags & re.DOTALL else "")
    return f"(?{flags}:{_written(tree)})"


def compiled(texts: Iterable[str]) -> Any:
    """Compile alternatives that `linear_text` wrote; `fullmatch` of the result takes time linear in the name.

    Raises:
        NoEqualError: they unfold to more than memory allows.
    """
    options = re2.Options()
    options.log_errors, options.max_mem = False, _MOST_MEMORY_BYTES
    try:
        return re2.compile("|".join(texts), options)
    except re2.error:
        raise NoEqualError from None


def _written(tree: Any) -> str:
    return "".join(_item(str(operation), argument) for operation, argument in tree)


def _item(operation: str, argument: Any) -> str:
    if operation in _REPEATS:
        least, most, inner = argument
        ends = "" if most is PARSER.MAXREPEAT else str(most)
        return f"(?:{_written(inner)}){{{least},{ends}}}{_REPEATS[operation]}"
    if operation == "SUBPATTERN":
        _, added, removed, inner = argument
        if added or removed:
            raise NoEqualError
        return f"(?:{_written(inner)})"
    if operation == "BRANCH":
        return f"(?:{'|'.join(map(_written, argument[1]))})"
    if operation == "ANY":
        return "."
    if operation == "AT" and str(argument) in _PLACES:
        return _PLACES[str(argument)]
    if operation in {"LITERAL", "NOT_LITERAL", "IN"}:
        return _class(operation, argument)
    raise NoEqualError


def _class(operation: str, argument: Any) -> str:
    if operation == "LITERAL":
        return _letter(argument)
    if operation == "NOT_LITERAL":
        return f"[^{_letter(argument)}]"
    inner = "".join(_member(str(kind), value) for kind, value in argument)
    return f"[{inner}]"


def _member(kind: str, value: Any) -> str:
    if kind == "NEGATE":
        return "^"
    if kind == "RANGE":
        return f"{_letter(value[0])}-{_letter(value[1])}"
    return _CATEGORIES[str(value)] if kind == "CATEGORY" else _letter(value)


def _letter(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:
        raise NoEqualError
    return f"\\x{{{code:x}}}"

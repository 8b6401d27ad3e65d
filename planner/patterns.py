"""Regular expressions that a stranger may hand to a server: valid, and never slow.

PEFT and transformers match module names with Python's `re`, which backtracks: `(.*)*x` takes longer than the universe
on a name of fifty characters. What can blow up is refused before anything is matched.
"""

import re
from importlib import import_module
from typing import Any

# The parse tree of `re` itself; private, but in place since Python 3.11 and guarded by a test.
_PARSER: Any = import_module("re._parser")

# `.*` four times over a name of forty characters is some 100,000 steps at worst, which is about 2 to the 17th; an
# option doubles the steps. So four repeats, or twelve options, or some of each.
MOST_CHOICES = 12
CHOICES_OF_A_REPEAT = 3

_REPEATS = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}


def checked_pattern(text: str) -> str:
    """Return `text` if it is a regular expression that always answers quickly.

    Raises:
        ValueError: it is none, or it could take for ever; says how to write it instead.
    """
    try:
        tree = _PARSER.parse(text)
    except (re.error, RecursionError, OverflowError) as error:
        msg = f"{text[:60]!r} is no regular expression ({error}); write a pattern, or a list of module names"
        raise ValueError(msg) from None
    repeats, options = _cost(tree)
    if CHOICES_OF_A_REPEAT * repeats + options > MOST_CHOICES:
        raise ValueError(_too_slow("has too many * + ? {} or overlapping alternatives"))
    return text


def _too_slow(why: str) -> str:
    return f"the pattern {why}, so that matching it could take for ever; write a list of module names"


def _cost(tree: Any) -> tuple[int, int]:
    """How many variable repeats, and how many options, one match may have to try in combination."""
    repeats = options = 0
    for operation, argument in tree:
        more, optional = _cost_of(str(operation), argument)
        repeats, options = repeats + more, options + optional
    return repeats, options


def _cost_of(operation: str, argument: Any) -> tuple[int, int]:
    if operation in _REPEATS:
        return _cost_of_repeat(*argument)
    if operation == "BRANCH":
        branches = [_cost(branch) for branch in argument[1]]
        doublings = (_overlapping(argument[1]) - 1).bit_length()
        return max(repeats for repeats, _ in branches), doublings + max(options for _, options in branches)
    if operation == "SUBPATTERN":
        return _cost(argument[3])
    if operation == "ATOMIC_GROUP":
        return _cost(argument)
    if operation in {"ASSERT", "ASSERT_NOT"}:
        return _cost(argument[1])
    if operation.startswith("GROUPREF"):
        raise ValueError(_too_slow("refers back to a group"))
    return 0, 0


def _cost_of_repeat(least: int, most: int, inner: Any) -> tuple[int, int]:
    repeats, options = _cost(inner)
    if int(most) <= 1:
        return repeats, options + 1
    if repeats or options or _branches(inner):
        raise ValueError(_too_slow("repeats what itself repeats or branches"))
    return (0 if least == most else 1), 0


def _overlapping(branches: list[Any]) -> int:
    """How many alternatives may match at one place, judged by the letters they begin with."""
    beginnings = [_beginning(branch) for branch in branches]
    return max(sum(one.startswith(other) or other.startswith(one) for other in beginnings) for one in beginnings)


def _beginning(tree: Any) -> str:
    letters = []
    for operation, argument in tree:
        if str(operation) != "LITERAL":
            break
        letters.append(chr(argument))
    return "".join(letters)


def _branches(tree: Any) -> bool:
    return any(
        str(operation) == "BRANCH" or (str(operation) == "SUBPATTERN" and _branches(argument[3]))
        for operation, argument in tree
    )

"""Regular expressions that a stranger may hand to a server: valid, never slow, matched in time linear in the name.

PEFT and transformers match module names with Python's `re`, which backtracks: `(.*)*x` takes longer than the universe
on a name of fifty characters. What would blow up there is refused before anything is matched; what is left is matched
with RE2 (planner/request/validation/re2_syntax.py), and what RE2 cannot say with `re`, under a tighter limit.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any

from planner.request.validation.re2_syntax import PARSER, NoEqualError, compiled, linear_text

# In `re`, `.*` four times over a name of forty characters is some 100,000 steps at worst, which is about 2 to the 17th;
# an option doubles the steps. So four repeats, or twelve options, or some of each.
MOST_CHOICES = 12
CHOICES_OF_A_REPEAT = 3
# Without RE2 these steps are ours: two repeats are some 800 on such a name, and a large model has ten thousand names.
MOST_CHOICES_BACKTRACKING = 6
# All patterns of one list together. Lists in the wild are long, of plain names: quantizers write one for each module
# they keep (the longest on the hub we met has some 200), and not one repeat in them.
MOST_CHOICES_OF_A_LIST = 8 * MOST_CHOICES
MOST_NAMES = 512

_REPEATS = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}
_LOOKS = {"AT", "ASSERT", "ASSERT_NOT"}
# transformers puts a pattern into this one (quantizers/quantizers_utils.py, should_convert_module).
_BOUNDARY = r"(?:(?<=\.)|(?=\.|$))"


class Matcher:
    """One pattern, compiled once. `text` has passed `checked_pattern`."""

    def __init__(self, text: str) -> None:
        self._pattern: Any = _linear(text) or re.compile(text)

    def matches(self, name: str) -> bool:
        """Whether the whole of `name` matches, as PEFT asks."""
        return self._pattern.fullmatch(name) is not None


class SkipList:
    """`llm_int8_skip_modules`, compiled once: a prefix or a regex up to a dot, or a suffix."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._suffixes = tuple(patterns)
        linear, backtracking = _sorted_out(patterns)
        self._linear: Any = compiled(linear) if linear else None
        self._backtracking = [re.compile(f"(?:{text}){_BOUNDARY}") for text in backtracking]
        self._starts: dict[str, bool] = {}

    def holds(self, name: str) -> bool:
        """Whether module `name` stays unquantized."""
        if name.endswith(self._suffixes):
            return True
        if self._linear is not None and any(map(self._names, _starts(name))):
            return True
        return any(pattern.match(name) for pattern in self._backtracking)

    def _names(self, start: str) -> bool:
        """Whether one of the patterns is a whole start of a name; the modules of a layer share theirs."""
        if start not in self._starts:
            self._starts[start] = self._linear.fullmatch(start) is not None
        return self._starts[start]


def checked_pattern(text: str) -> str:
    """Return `text` if it is a regular expression that always answers quickly.

    Raises:
        ValueError: it is none, or it could take for ever; says how to write it instead.
    """
    choices = _choices(text)
    most = MOST_CHOICES if choices <= MOST_CHOICES_BACKTRACKING or _linear(text) else MOST_CHOICES_BACKTRACKING
    if choices > most:
        raise ValueError(_too_slow("has too many * + ? {} or overlapping alternatives"))
    return text


def checked_list(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Return `patterns`, each checked by itself, if they are quick together and may stand where transformers puts them.

    Raises:
        ValueError: they are not; says how to write them instead.
    """
    if sum(map(_choices, patterns)) > MOST_CHOICES_OF_A_LIST:
        msg = "the patterns together have too many * + ? {}; write module names"
        raise ValueError(msg)
    for text in patterns:
        try:
            PARSER.parse(f"(?:{text}){_BOUNDARY}")
        except re.error as error:
            msg = f"{text[:60]!r} cannot stand within a larger pattern, where transformers puts it ({error.msg})"
            raise ValueError(msg) from None
    try:
        compiled(_sorted_out(patterns)[0])
    except NoEqualError:
        msg = "the patterns together repeat too much; write module names"
        raise ValueError(msg) from None
    return patterns


def suffixes_of(name: str) -> Iterable[str]:
    """`a.b.c`, `b.c` and `c`: what a list of targets may call a module."""
    while name:
        yield name
        name = name.partition(".")[2]


def _sorted_out(patterns: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those that RE2 can match on the starts of a name, written for it, and those that it cannot, as they are."""
    linear, backtracking = [], []
    for text in dict.fromkeys(patterns):
        try:
            if "$" in text or r"\Z" in text:  # depends on where the name ends, which a start does not show
                raise NoEqualError
            linear.append(linear_text(text))
        except NoEqualError:
            backtracking.append(text)
    return linear, backtracking


def _starts(name: str) -> Iterator[str]:
    """The name, and what of it comes before each dot, without the dot and with it."""
    yield name
    place = name.find(".")
    while place >= 0:
        yield name[:place]
        yield name[: place + 1]
        place = name.find(".", place + 1)


def _linear(text: str) -> Any:
    try:
        return compiled([linear_text(text)])
    except NoEqualError:
        return None


def _choices(text: str) -> int:
    try:
        repeats, options = _cost(PARSER.parse(text))
    except (re.error, RecursionError, OverflowError) as error:
        msg = f"{text[:60]!r} is no regular expression ({error}); write a pattern, or a list of module names"
        raise ValueError(msg) from None
    return CHOICES_OF_A_REPEAT * repeats + options


def _too_slow(why: str) -> str:
    return f"the pattern {why}, so that matching it could take for ever; write a list of module names"


def _cost(tree: Any) -> tuple[int, int]:
    """How many variable repeats, and how many options, one match may have to try in combination.

    What is looked at ahead of everything else is tried once: its cost comes beside the rest, not on top of it.
    """
    items = [(str(operation), argument) for operation, argument in tree]
    ahead = list(takewhile(lambda item: item[0] in _LOOKS, items))
    costs = [_cost_of(*item) for item in items]
    rest = costs[len(ahead) :]
    whole = (sum(repeats for repeats, _ in rest), sum(options for _, options in rest))
    return max([whole, *costs[: len(ahead)]], key=lambda cost: CHOICES_OF_A_REPEAT * cost[0] + cost[1])


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

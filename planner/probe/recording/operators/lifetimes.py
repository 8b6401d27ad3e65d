"""An operator's allocations and frees as one text, in which two releases, or torch and a card, can be compared.

    +f1 4·T·h -x | +g1 4·T·h +b1 2·T·h -b1 -g1

reads: forward allocates four bytes for each of T·h, and x goes; backward a gradient comes in, one is made, and both go.
Inputs have their own names, `f` is made forward, `g` comes in backward, `b` is made there. Of several that go between
two allocations no order is told: no allocator could tell afterwards.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement, zip_longest
from math import prod

# The part of the run, the number of a tensor, and the bytes it asks for: 0 where it goes.
Event = tuple[str, int, int]
_LETTERS = {"forward": "f", "gradients in": "g", "backward": "b"}
_MOST_DIMS = 3


def text_of(events: Sequence[Event], names: Sequence[str], dims: Mapping[str, int]) -> str:
    """The text. `names` are those of the inputs that the history has, in their order; `dims` those to tell sizes by."""
    known: dict[int, str] = {}
    counts: dict[str, int] = {}
    words: list[str] = []
    gone: list[str] = []
    for part, number, size_bytes in events:
        if not size_bytes:
            gone.append(known[number])
            continue
        words += [f"-{name}" for name in sorted(gone)]
        gone = []
        if part == "inputs":
            known[number] = names[len(known)]
            continue
        letter = _LETTERS[part]
        if letter == "g" and "|" not in words:
            words.append("|")
        counts[letter] = counts.get(letter, 0) + 1
        known[number] = f"{letter}{counts[letter]}"
        words.append(f"+{known[number]} {formula(size_bytes, dims)}")
    return " ".join([*words, *(f"-{name}" for name in sorted(gone))])


def formula(size_bytes: int, dims: Mapping[str, int]) -> str:
    """Bytes as `2·T·h` where few dimensions and a plain width give them, else as they are."""
    for count in range(_MOST_DIMS + 1):
        for names in combinations_with_replacement(dims, count):
            each, rest = divmod(size_bytes, prod(dims[name] for name in names))
            if not rest and each in {1, 2, 4, 8, 16}:
                return "·".join([str(each), *names])
    return f"{size_bytes:,}"


def first_difference(name: str, text: str, other_name: str, other_text: str) -> str:
    """Where two texts part: the event of each, and what both have before. Empty where they are equal."""
    one, other = (list(_steps(each)) for each in (text, other_text))
    for place, (step, other_step) in enumerate(zip_longest(one, other, fillvalue="nothing")):
        if step != other_step:
            return f"{name} has {step}, {other_name} {other_step}, after {' '.join(one[:place]) or 'no event'}"
    return ""


def _steps(text: str) -> Iterator[str]:
    words = text.split()
    for place, word in enumerate(words):
        if word[0] == "+":
            yield f"{word} {words[place + 1]}"
        elif word[0] in "-|":
            yield word

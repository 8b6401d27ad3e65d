"""Names as people type them: one normal form for look-ups, words for search, near misses for errors."""

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_SEPARATORS = re.compile(r"[^a-z0-9.]+")
# "qwen2.5" is "qwen 2.5" and "4080ti" is "4080 ti", but "h100", "v0.1" and "a3b" are words of their own.
_GLUED = re.compile(r"(?<=[a-z]{2})(?=\d)|(?<=\d)(?=(?:ti|super)\b)")
_MEMORY = re.compile(r"\b(\d+) (gi?b)\b")

# Below this a suggestion is noise: a third of the words, or two thirds of the letters.
_LEAST_LIKENESS = 0.66
# One letter wrong in four, and no more: "quen" is qwen, "nothing" is nothing.
_LEAST_LIKENESS_OF_WORDS = 0.7
# No name in the catalogues is longer; comparing more would only cost time.
_LONGEST_PHRASE = 80


def words(text: str) -> tuple[str, ...]:
    """Split a name as typed: `"Qwen2.5-7B"` into `("qwen", "2.5", "7b")`, `"24 GB"` into `("24gb",)`."""
    spaced = _GLUED.sub(" ", _SEPARATORS.sub(" ", text.lower()))
    return tuple(word.strip(".") for word in _MEMORY.sub(r"\1gb", spaced).split() if word.strip("."))


def normal_form(text: str) -> str:
    """The form under which a name is looked up: `"rtx4090"`, `"RTX 4090"` and `"rtx-4090"` are one."""
    return " ".join(words(text))


@dataclass(frozen=True, slots=True)
class Entry:
    """What search knows of one row: its names in normal form, every word it answers to, how much it is used."""

    id: str
    names: tuple[str, ...]
    words: frozenset[str]
    weight: int = 0


def entry(row_id: str, names: Iterable[str], more: Iterable[str] = (), weight: int = 0) -> Entry:
    """Build an entry from names as written, and from `more` text that is searched but is no name."""
    forms = tuple(dict.fromkeys(normal_form(name) for name in names))
    own = frozenset(word for text in (*forms, *more) for word in words(text))
    return Entry(row_id, forms, own, weight)


def search(query: str, entries: Iterable[Entry]) -> list[str]:
    """Ids of the entries that hold every word of `query`, best first; every id for an empty query.

    A query word may be the beginning of an entry's word. First come entries of that very name, then those whose
    name begins with it, then more whole words before fewer, then the greater weight.
    """
    wanted = words(query)
    phrase = " ".join(wanted)
    ranked = []
    for candidate in entries:
        hits = [_hit(word, candidate.words) for word in wanted]
        if all(hits):
            ranked.append((_distance(phrase, candidate.names), -sum(hits), -candidate.weight, candidate.id))
    return [rank[-1] for rank in sorted(ranked)]


def _hit(word: str, own: Collection[str]) -> int:
    """2 for the whole word, 1 for its beginning, 0 for neither."""
    if word in own:
        return 2
    return int(any(candidate.startswith(word) for candidate in own))


def _distance(phrase: str, names: Iterable[str]) -> int:
    """0 where a name is the phrase, 1 where one begins with its words, 2 elsewhere."""
    if phrase in names:
        return 0
    return 1 if any(name.startswith(f"{phrase} ") for name in names) else 2


def nearest(query: str, entries: Iterable[Entry], limit: int = 5) -> list[str]:
    """Ids a mistyped `query` may have meant: the share of words in common, then the likeness of the spelling."""
    phrase = normal_form(query)[:_LONGEST_PHRASE]
    wanted = frozenset(phrase.split())
    matcher = difflib.SequenceMatcher(b=phrase)
    scored = []
    for candidate in entries:
        likeness = max((_common_share(wanted, name), _spelling(matcher, name)) for name in candidate.names)
        if sum(likeness) >= _LEAST_LIKENESS:
            scored.append((likeness, candidate.weight, candidate.id))
    return [row_id for *_, row_id in sorted(scored, reverse=True)[:limit]]


def alike(query: str, entries: Collection[Entry]) -> list[str]:
    """Ids a mistyped `query` may have meant: what it finds once each strange word is mended, otherwise the nearest."""
    known = frozenset(word for candidate in entries for word in candidate.words)
    mended = " ".join(_mended(word, known) for word in words(query[:_LONGEST_PHRASE]))
    return search(mended, entries) or nearest(query, entries)


def _mended(word: str, known: Collection[str]) -> str:
    """The word itself where some known word begins with it, otherwise the known word that is spelt most like it."""
    if any(other.startswith(word) for other in known):
        return word
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=_LEAST_LIKENESS_OF_WORDS)), word)


def _common_share(wanted: frozenset[str], name: str) -> float:
    own = frozenset(name.split())
    return len(wanted & own) / max(1, len(wanted | own))


def _spelling(matcher: difflib.SequenceMatcher[str], name: str) -> float:
    matcher.set_seq1(name)
    return matcher.ratio()

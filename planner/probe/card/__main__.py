"""`python -m planner.probe.card [GPU…]`: build the stand-ins, and print what they are."""

import sys
from collections.abc import Iterator, Sequence

from planner.errors import FitproofError
from planner.probe.card.build import BuiltCard, build_card
from planner.probe.card.spec import CardSpec, cards_of


def main(arguments: Sequence[str]) -> int:
    """Print the cards, the libraries, and every call that refuses."""
    try:
        cards = cards_of(arguments or ["rtx-4090"])
        built = build_card()
    except FitproofError as error:
        print(error.title, file=sys.stderr)  # noqa: T201  # the one sentence
        return 2
    print("\n".join(_lines(cards, built)))  # noqa: T201  # the answer
    return 0


def _lines(cards: Sequence[CardSpec], built: BuiltCard) -> Iterator[str]:
    for card in cards:
        yield card.text.replace(";", "\n  ")
    yield str(built.folder)
    for library in built.libraries:
        names = built.refusing.get(library.name, [])
        yield f"  {library.name}" + (f"  refuses {len(names)}: {', '.join(names)}" if names else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m planner.probe.card.environment SITE GPU…`: the variables that put virtual cards under another environment.

SITE is the site-packages folder whose torch will run; a GPU is a name of the catalogue or a JSON object as a request
gives it. Prints one JSON object: set its variables for a program of that environment.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from planner.errors import FitproofError
from planner.probe.card.preload import card_environment
from planner.probe.card.spec import cards_of
from planner.request.schema import CustomGpu


def main(arguments: Sequence[str]) -> int:
    """Print the variables; a sentence on stderr and exit 2 where there can be no such card."""
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)  # noqa: T201
        return 2
    site, *gpus = arguments
    try:
        cards = cards_of([CustomGpu.model_validate_json(gpu) if gpu.startswith("{") else gpu for gpu in gpus])
        variables = card_environment(cards, site=Path(site))
    except FitproofError as error:
        print(error.title, file=sys.stderr)  # noqa: T201  # the one sentence
        return 2
    print(json.dumps(variables))  # noqa: T201  # the answer
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

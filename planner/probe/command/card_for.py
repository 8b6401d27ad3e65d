"""`python -m planner.probe.command.card_for SITE`: the virtual card for the torch of a site-packages folder.

The bootstrap in a person's program asks for it, from an environment that has nothing of ours. The last line on stdout
is JSON: `libraries` in the order to load them, and `environment` to set. Exits 2 with one sentence on stderr.
"""

import json
import sys
from pathlib import Path

from planner.errors import FitproofError
from planner.probe.card.build import STATE, build_card


def main() -> int:
    """Build, and say where it lies."""
    try:
        built = build_card(Path(sys.argv[1]))
    except FitproofError as error:
        sys.stderr.write(f"{error.title}\n")
        return 2
    answer = {
        "libraries": [str(library) for library in built.libraries],
        "state": str(built.folder / STATE),
        # Triton links its launchers to the driver in this folder.
        "environment": {"TRITON_LIBCUDA_PATH": str(built.folder)},
    }
    print(json.dumps(answer))  # noqa: T201  # the answer
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.gallery FOLDER [WORDS]`: run the programs, those whose name has WORDS, and write what they said.

Environments are made in FOLDER, and stay there. Exits 1 where a program has no answer.
"""

import sys
from pathlib import Path

from tests.gallery.results import keep, programs, results
from tests.gallery.running import tried


def main() -> int:
    """Run them one after another; each result is kept at once."""
    folder, word = Path(sys.argv[1]).absolute(), " ".join(sys.argv[2:])
    wanted = [program for program in programs() if word.lower() in program.name.lower()]
    failed = 0
    for program in wanted:
        result = tried(program, folder)
        print(f"{result.name}: {result.verdict or result.why}", flush=True)
        keep({**results(), program.name: result})
        failed += result.verdict is None
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

"""Where this process asks Fitproof's own Python, and how it ends where it cannot be part of the run."""

import os
import sys

# The exit status of such a process, for launchers that show it.
STATUS = 97


def refuse(run, sentence):
    """Say why and end at once. Not SystemExit: a program that catches what an import raises would go on without a card.

    On a full disk the file stays empty or away, and stderr has the sentence.
    """
    try:
        with open(run["refusal_file"], "w", encoding="utf-8") as file:
            file.write(sentence)
    except OSError:
        sys.stderr.write(sentence + "\n")
    os._exit(STATUS)


def fitproofs_environment(run):
    """PYTHONPATH and a preloaded library are the program's; Fitproof's own programs run without them."""
    clean = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "FITPROOF_DRY_RUN")}
    return {**clean, "PYTHONPATH": run["fitproof_path"]}

"""The end of a process that cannot be part of the run: one sentence for the parent, which tells it."""

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

"""`python -m tests.attack [REQUESTS [SECONDS]]`: print the figures; exit 1 where anything is wrong or slow."""

import sys
import tempfile
from pathlib import Path

from tests.attack.siege import besiege

requests, seconds = (int(text) for text in (*sys.argv[1:], *("100000", "1800")[len(sys.argv) - 1 :]))
with tempfile.TemporaryDirectory() as folder:
    report = besiege(Path(folder), requests, seconds)
print(*report.lines(), *report.wrong[:10], *report.slow, sep="\n")
sys.exit(bool(report.wrong or report.slow))

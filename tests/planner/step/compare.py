"""`... | python -m planner.probe.recording.agreement | python -m tests.planner.step.compare`: formula against dry run.

Prints every step that differs by more than three permille, the worst last, with its request; what differs by a byte
before the step; and the median.
"""

import json
import sys
from statistics import median

from tests.planner.step.recorded import Recorded, error_fraction, static_bytes

SHOWN_FRACTION = 0.003


def main() -> None:
    """Read what `planner.probe.recording.agreement` prints."""
    lines = [json.loads(line) for line in sys.stdin]
    refused = [line for line in lines if "error" in line]
    rows = [Recorded(**line) for line in lines if "name" in line and "error" not in line]
    errors = sorted(((error_fraction(row), row) for row in rows), key=lambda pair: abs(pair[0]))
    for error, row in errors:
        if abs(error) > SHOWN_FRACTION:
            shown = {key: value for key, value in row.request.items() if key != "model"}
            sys.stdout.write(f"{error:+.2%}  {row.name}  {json.dumps(shown)}\n")
    for _, row in errors:
        if beyond_bytes := static_bytes(row.request) - row.static_bytes:
            sys.stdout.write(f"{beyond_bytes:+,} bytes before the step  {row.name}\n")
    for line in refused:
        sys.stdout.write(f"no dry run  {line['name']}: {line['error']}\n")
    if errors:
        half = median(abs(error) for error, _ in errors)
        sys.stdout.write(f"{len(errors)} steps, median {half:.4%}, worst {errors[-1][0]:+.2%}\n")


if __name__ == "__main__":
    main()

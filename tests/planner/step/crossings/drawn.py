"""`python -m tests.planner.step.crossings.drawn`: the drawn settings that were kept, one JSON line each.

`make accuracy` records them anew. Their requests stand nowhere but in the table of their records, recorded/drawn.jsonl.
"""

from pathlib import Path

from tests.planner.step.recorded import recorded
from tests.planner.step.tables.settings import print_table

FILE = Path(__file__).parents[1] / "tables" / "recorded" / "drawn.jsonl"


if __name__ == "__main__":
    print_table([{"name": row.name, "request": row.request} for row in recorded(FILE)], [])

"""`python -m tests.planner.serving.record [WORD]`: let the settings generate on virtual cards, write recorded.jsonl.

Settings that have a record are left alone; WORD is a part of the names of those that are recorded anew.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.planner.serving.settings import SETTINGS

FILE = Path(__file__).with_name("recorded.jsonl")


def main(again: str | None) -> None:
    known = [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.exists() else []
    records: dict[str, dict[str, Any]] = {row["name"]: row for row in known if not again or again not in row["name"]}
    wanted = [setting for setting in SETTINGS if setting["name"] not in records]
    names = [setting["name"] for setting in wanted]
    questions = "".join(json.dumps({k: v for k, v in row.items() if k != "name"}) + "\n" for row in wanted)
    program = [sys.executable, "-m", "planner.probe.generation"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(questions)
        process.stdin.close()
        for name, line in zip(names, process.stdout, strict=False):
            row = {"name": name, **json.loads(line)}
            print(name, row.get("error") or row["peaks"], flush=True)
            if "peaks" in row:
                records[name] = row
            ordered = [records[one["name"]] for one in SETTINGS if one["name"] in records]
            FILE.write_text("".join(json.dumps(one) + "\n" for one in ordered), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)

"""A warm program without a stack: each job is a child of its own session that would sleep for a minute."""

import json
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL


def main() -> None:
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        Path(job["output"]).touch()
        child = subprocess.Popen(["sleep", "60"], stdin=DEVNULL, stdout=DEVNULL, start_new_session=True)
        print(json.dumps({"id": job["id"], "pid": child.pid}), flush=True)


if __name__ == "__main__":
    main()

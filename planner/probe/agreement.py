"""Record what dry runs read, for the formulas to be held to.

    python -m tests.planner.timeline.settings | python -m planner.probe.agreement > recorded.jsonl

One JSON line per setting on stdin (`name`, `request`); one line back with what was allocated when the steady step
began (`static_bytes`) and the worst instant of its phases, in live bytes rounded to 512, before the allocator replay.
A setting that the dry run refuses is recorded with its `error`.
"""

import json
import sys
import warnings
from typing import Any

import bitsandbytes
import peft
import torch
import transformers

from planner.probe.configs import config_of
from planner.probe.options import Options
from planner.probe.run import live_run
from planner.recipe import Recipe
from planner.request import Request

PHASES = ("forward", "loss", "backward", "optimizer")


def record(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """Dry-run one request for a first and two steady steps."""
    request = Request.parse(document)
    recipe = Recipe.of(request)
    meter, _ = live_run(request, recipe, config_of(request, recipe), Options(), lambda *_: None)
    readings = {reading.name: reading for reading in meter.readings()}
    return {
        "name": name,
        "request": document,
        "static_bytes": readings["first_optimizer"].resident_bytes,
        "phases": {phase: readings[phase].peak_allocated_bytes for phase in PHASES},
    }


def main() -> int:
    """Record every setting on stdin."""
    warnings.filterwarnings("ignore")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    modules = (torch, transformers, peft, bitsandbytes)
    print(json.dumps({"versions": {module.__name__: module.__version__ for module in modules}}))  # noqa: T201  a program
    for line in sys.stdin:
        setting = json.loads(line)
        try:
            result = record(setting["name"], setting["request"])
        except Exception as error:
            result = {**setting, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        print(json.dumps(result), flush=True)  # noqa: T201  a program
        sys.stderr.write(f"{setting['name']}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""One program of the gallery, in its environment and on its virtual cards."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.gallery.environments import environment, release
from tests.gallery.results import ROOT, Program, Result

SECONDS = 1500


def tried(program: Program, folder: Path, **variables: str) -> Result:
    """Install its environment and run it on virtual cards, with `variables` beside those of this process."""
    cards = f"{program.gpus} x {program.gpu}" if program.gpus > 1 else program.gpu
    try:
        place = environment(program.environment, folder)
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if line.startswith("ERROR")] or error.stderr.splitlines()
        return Result(name=program.name, release="", torch="", cards=cards, why=f"cannot be installed: {said[-1]}")
    known = {"release": f"{program.package} {release(program.package, place)}", "torch": release("torch", place)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    report, said = dry_run(program, place, variables)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    if report is None or report["sentence"]:
        return Result(name=program.name, cards=cards, why=report["sentence"] if report else said, **known)
    worst = next(one for one in report["processes"] if one["process_id"] == report["worst_process_id"])
    return Result(
        name=program.name,
        cards=cards,
        verdict=report["verdict"],
        why=worst["message"] or "",
        steps=len(worst["steps"]),
        peak_allocated_bytes=worst["peak_allocated_bytes"],
        peak_reserved_bytes=worst["peak_reserved_bytes"],
        total_bytes=worst["card"]["total_bytes"],
        phase=worst["peak"]["phase"],
        processor_seconds=seconds,
        notes=report["notes"],
        **known,
    )


def dry_run(program: Program, place: Path, beside: Mapping[str, str]) -> tuple[dict[str, Any] | None, str]:
    """The report, or the last line that was said where there is none."""
    options = ["--gpu", program.gpu, "--gpus", str(program.gpus), "--offline", "--json", "--deadline", str(SECONDS)]
    options += program.options
    command = [sys.executable, "-m", "app.cli", "dry-run", *options, "--", *program.words()]
    variables = {**os.environ, **beside, "PYTHONPATH": str(ROOT), "PATH": f"{place}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory(prefix="fitproof-gallery-") as empty:
        done = subprocess.run(command, cwd=empty, env=variables, capture_output=True, text=True, check=False)
    _, mark, document = done.stdout.partition('{\n  "version"')
    if not mark or json.loads(mark + document)["sentence"]:
        print(done.stderr[-3000:], file=sys.stderr)
    return (json.loads(mark + document), "") if mark else (None, (done.stderr.strip().splitlines() or ["nothing"])[-1])

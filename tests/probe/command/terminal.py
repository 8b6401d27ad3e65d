"""`fitproof dry-run` as a person types it, and the document that it prints."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
ENVIRONMENT = Path(__file__).parent / "environment"
ROOT = Path(__file__).parents[3]
FITPROOF = (sys.executable, "-m", "app.cli")


def run(
    *words: str, cwd: Path, options: tuple[str, ...] = (), gpu: str = "rtx-4090", **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [*FITPROOF, "dry-run", "--gpu", gpu, *options, "--", *words]
    variables = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ENVIRONMENT}", **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=variables, timeout=280, check=False)


def report_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The document is the last thing on stdout; what the program printed stands before it."""
    assert '{\n  "version"' in done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index('{\n  "version"') :])
    return found


def program(name: str) -> str:
    return str(PROGRAMS / f"{name}.py")


def torchrun(processes: int) -> tuple[str, ...]:
    """torchrun as a module, on a free port."""
    where = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0")
    return (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), *where)

"""How long a fresh process takes to answer."""

import subprocess
import sys

from tests.bench.server import ROOT
from tests.bench.timing import median_seconds, report


def run() -> None:
    """Print cold starts beside Python's own."""
    python = _seconds("pass")
    report("python starts", f"{1e3 * python:.0f} ms")
    for name, program in (("import planner", "import planner"), ("import app.main", "import app.main")):
        seconds = _seconds(program)
        report(name, f"{1e3 * seconds:.0f} ms", f"{seconds / python:.1f} x python")
    plan = [sys.executable, "-m", "app.cli", "plan", "meta-llama/Llama-3.1-8B", "rtx-4090", "--json"]
    seconds = median_seconds(lambda: subprocess.run(plan, cwd=ROOT, capture_output=True, check=False), 5, 1)
    report("fitproof plan, cold", f"{1e3 * seconds:.0f} ms", f"{seconds / python:.1f} x python")


def _seconds(program: str) -> float:
    command = [sys.executable, "-c", program]
    return median_seconds(lambda: subprocess.run(command, cwd=ROOT, check=True), 5, 1)

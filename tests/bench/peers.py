"""How long the peers on PyPI take beside our own program, cold, for one model, and what each answers."""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tests.bench.server import ROOT
from tests.bench.timing import median_seconds, report

MODEL, CARD = "meta-llama/Llama-2-7b-hf", "rtx-4090"
PEERS = {
    "fitcheck-llm": ["fitcheck", MODEL],
    "canifinetune": ["canifinetune", MODEL],
    "accelerate": ["accelerate", "estimate-memory", MODEL],
}


def run() -> None:
    """Print the seconds of each cold command and the last line of its answer."""
    _time("fitproof", [sys.executable, "-m", "app.cli", "plan", MODEL, CARD, "--json"])
    for package, command in PEERS.items():
        with tempfile.TemporaryDirectory() as folder:
            venv.create(folder, with_pip=True)
            programs = Path(folder) / "bin"
            install = [programs / "pip", "install", "-q", package]
            installed = subprocess.run(install, capture_output=True, text=True, check=False)
            if installed.returncode:
                report(package, "not installed", _last_line(installed.stderr))
            elif not (programs / command[0]).exists():
                report(package, "not run", f"it has no program {command[0]}")
            else:
                _time(package, [str(programs / command[0]), *command[1:]])


def _time(name: str, command: list[str]) -> None:
    def once() -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "NO_COLOR": "1"}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    answer = once()
    seconds = median_seconds(once, 3, 0)
    report(name, f"{1e3 * seconds:.0f} ms", f"exit {answer.returncode}: {_last_line(answer.stdout or answer.stderr)}")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:120] if lines else "nothing said"

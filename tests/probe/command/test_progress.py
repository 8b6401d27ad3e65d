"""What a person sees on a terminal while a program runs on virtual cards."""

import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.probe.command.terminal import FITPROOF, ROOT, program


def test_a_terminal_shows_the_phase_while_it_runs_and_each_steps_peak(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*FITPROOF, "dry-run", "--gpu", "rtx-4090", "--", sys.executable, program("slow_steps")]
    child = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # Linux says EIO where the other end is closed
        pass
    assert child.wait(60) == 0, shown
    text = shown.decode()
    assert "fitproof: load and first forward, step 1: 1.00 GiB allocated, 1.00 reserved" in text
    assert "fitproof: step 1: at most 1.0" in text

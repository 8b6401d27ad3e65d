"""A real probe, ended in the middle of a step: nothing of it stays, neither a process nor a file."""

import json
import os
import signal
import subprocess
import sys

import pytest

from planner.probe.processes.lifecycle import EXIT_STATUS
from tests.probe.tiny import request

ENDLESS = "1000000"


@pytest.fixture
def probe(tmp_path):
    """A CPU probe of a tiny model that would train for days, in its second step, with a temporary folder of its own."""
    command = [sys.executable, "-m", "planner.probe", "--on", "cpu", "--steps", ENDLESS]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env=os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    process.stdin.write(request().model_dump_json())
    process.stdin.close()
    for line in process.stderr:
        progress = json.loads(line)
        if progress.get("stage") == "step" and progress["index"] >= 2:
            break
    process.stdin = None
    yield process
    process.kill()
    process.wait()


def end(process, number):
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    return output, (errors.strip().splitlines() or [""])[-1]


def test_sigterm_mid_step_ends_it_with_one_sentence_and_nothing_left(probe, tmp_path):
    output, last_line = end(probe, signal.SIGTERM)
    assert probe.returncode == EXIT_STATUS["terminated"]
    assert last_line == "The probe was asked to stop."
    assert output == ""
    assert_nothing_is_left(probe, tmp_path)


def test_sigkill_mid_step_leaves_nothing_either(probe, tmp_path):
    end(probe, signal.SIGKILL)
    assert_nothing_is_left(probe, tmp_path)


def assert_nothing_is_left(process, folder):
    assert list(folder.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)

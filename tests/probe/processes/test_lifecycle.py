"""Real processes: each test starts one that would run for a minute, ends it, and looks at what is left."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from planner.probe.processes.lifecycle import (
    EXIT_STATUS,
    FOLDER_PREFIX,
    Stopped,
    bounded_life,
    sweep_orphans,
    temporary_folder,
)

SLEEPER = """
import sys, time
from planner.probe.processes.lifecycle import EXIT_STATUS, Stopped, bounded_life, temporary_folder
try:
    with bounded_life({deadline}, grace_seconds={grace}), temporary_folder() as folder:
        print(folder, flush=True)
        {work}
except Stopped as stopped:
    print(stopped, file=sys.stderr)
    sys.exit(EXIT_STATUS[stopped.reason])
"""
PATIENT = "time.sleep(60)"
DEAF = """
        while True:
            try: time.sleep(60)
            except BaseException: pass
"""
FINALIZER = """
        import gc
        class Loud:
            def __del__(self):
                end = time.monotonic() + 3
                while time.monotonic() < end: pass
        Loud()
        time.sleep(60)
"""


def start(work=PATIENT, deadline=None, grace=10.0):
    code = SLEEPER.format(work=work.strip(), deadline=deadline, grace=grace)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    folder = process.stdout.readline().strip()
    assert os.path.isdir(folder)
    return process, folder


def test_sigterm_ends_it_cleanly_and_removes_its_folder():
    process, folder = start()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == EXIT_STATUS["terminated"]
    assert errors.strip() == "The probe was asked to stop."
    assert not os.path.exists(folder)


def test_its_own_deadline_ends_it_with_one_clear_sentence():
    process, folder = start(deadline=0.3)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == EXIT_STATUS["deadline"]
    assert errors.strip() == "The probe was stopped at its deadline."
    assert not os.path.exists(folder)


def test_a_stop_that_falls_into_a_finalizer_is_not_lost():
    process, folder = start(work=FINALIZER)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == EXIT_STATUS["terminated"]
    assert not os.path.exists(folder)


def test_it_dies_with_its_parent():
    script = (
        "import subprocess, sys, os\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEPER.format(work=PATIENT, deadline=None, grace=10.0)!r}],"
        " stdout=subprocess.PIPE, text=True)\n"
        "print(child.pid, child.stdout.readline().strip(), flush=True)\n"
        "sys.stdin.readline()\n"
        "os._exit(0)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child_id, folder = parent.stdout.readline().split()
    parent.communicate("now\n", timeout=10)
    wait_until(lambda: not os.path.exists(f"/proc/{child_id}") or is_zombie(child_id))
    assert not os.path.exists(folder)


def test_it_outlives_the_thread_that_started_it():
    script = (
        "import subprocess, sys, threading, time\n"
        "box = []\n"
        "def begin():\n"
        f"    box.append(subprocess.Popen([sys.executable, '-c', "
        f"{SLEEPER.format(work='time.sleep(2)', deadline=None, grace=10.0)!r}], stdout=subprocess.PIPE))\n"
        "    box[0].stdout.readline()\n"
        "thread = threading.Thread(target=begin); thread.start(); thread.join()\n"
        "sys.exit(box[0].wait())\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=20, check=False).returncode == 0


def test_a_killed_probe_leaves_no_folder_either():
    process, folder = start()
    process.kill()
    process.communicate(timeout=10)
    wait_until(lambda: not os.path.exists(folder))


def test_a_folder_whose_owner_is_gone_is_removed_by_the_next_probe(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"{FOLDER_PREFIX}4194305-left"  # beyond the largest process id of Linux
    left.mkdir()
    sweep_orphans()
    assert not left.exists()


def test_the_folder_of_a_running_probe_is_left_alone():
    process, folder = start()
    sweep_orphans()
    assert os.path.exists(folder)
    process.terminate()
    process.communicate(timeout=10)


def test_without_trouble_nothing_is_raised_and_nothing_stays():
    with bounded_life(deadline_seconds=60), temporary_folder() as folder:
        assert folder.name.startswith(f"{FOLDER_PREFIX}{os.getpid()}-")
    assert not folder.exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_deadline_reaches_a_busy_main_thread():
    with pytest.raises(Stopped, match="deadline"), bounded_life(deadline_seconds=0.2):
        wait_until(lambda: False, seconds=30)


def test_a_main_thread_that_will_not_hear_is_ended_after_the_grace():
    process, folder = start(work=DEAF, grace=1.0)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == EXIT_STATUS["terminated"]
    assert not os.path.exists(folder)


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_zombie(process_id):
    with open(f"/proc/{process_id}/stat") as stat:
        return stat.read().split()[2] == "Z"

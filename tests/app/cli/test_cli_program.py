"""The real program in a process of its own: exit statuses, pipes, locales, and what it imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from planner.answer.plan import plan
from planner.request.schema import Request

ROOT = Path(__file__).parents[3]
RUN = ("meta-llama/Llama-2-7b-hf", "rtx-4090")


def program(*words: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *words], cwd=ROOT, env=os.environ | environment, input=stdin,
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip


def status_for_memory(size_bytes: int) -> int:
    document = {"model": RUN[0], "gpu": {"total_memory_bytes": size_bytes, "compute_capability": "8.9"}}
    return program("plan", "--request", "-", "--json", stdin=json.dumps(document).encode()).returncode


def test_the_exit_status_is_the_verdict() -> None:
    estimate = plan(Request.parse({"model": RUN[0], "gpu": RUN[1]})).estimate
    assert status_for_memory(estimate.enough_bytes) == 0
    assert status_for_memory(estimate.enough_bytes - 1) == 3
    assert status_for_memory(estimate.lowest_bytes - 1) == 1


def test_bad_input_ends_the_real_program_with_two_and_no_trace() -> None:
    ended = program("plan", *RUN, "--rank", "0")
    assert ended.returncode == 2
    assert ended.stdout == b""
    assert b"lora.r: must be at least 1; got 0" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_a_bad_setting_ends_the_server_with_two_and_names_it() -> None:
    ended = program("serve", FITPROOF_PORT="tcp://10.0.0.1:80", FITPROOF_LOG_LEVEL="loud")
    assert ended.returncode == 2
    assert b"FITPROOF_PORT: must be a whole number" in ended.stderr
    assert b"FITPROOF_LOG_LEVEL: must be debug" in ended.stderr


@pytest.mark.parametrize("form", [["--json"], []])
def test_a_reader_that_leaves_early_is_no_error_and_no_verdict(form: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "app.cli", "models", "--limit", "1000", *form], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 141


def test_a_terminal_without_the_signs_of_mathematics_is_no_error() -> None:
    shown = program("plan", *RUN, "--all", PYTHONIOENCODING="ascii")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(b"Fits")
    document = program("plan", *RUN, "--json", PYTHONIOENCODING="ascii")
    assert json.loads(document.stdout)["verdict"] == "fits"


@pytest.mark.parametrize("limit_gib", [1, 3])
def test_a_probe_without_address_space_says_so_first_whoever_ran_out_of_it(limit_gib: int, tmp_path: Path) -> None:
    """At 1 GiB torch's own libraries find none and abort, at 3 a checkpoint's file cannot be mapped."""
    command = [sys.executable, "-m", "app.cli", "probe", "Qwen/Qwen2.5-0.5B", "rtx-4090", "--on", "dry-run"]
    limited = ["bash", "-c", f'ulimit -v {limit_gib << 20}; exec "$@"', "bash", *command]
    ended = subprocess.run(
        limited, cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    said = " ".join(ended.stderr.split())
    assert ended.returncode == 70
    assert f"no more than {limit_gib}.00 GiB of address space" in said
    assert "ulimit -v unlimited" in said
    assert said.startswith("The probe failed: This process may have"), "before the words of whoever ran out of it"
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_cannot_start_says_why_in_a_line() -> None:
    ended = program("serve", "--port", "0", FITPROOF_DATABASE_URL="sqlite:////nowhere/fitproof.sqlite3")
    assert ended.returncode not in {0, 1, 2}
    assert b"the server cannot start: The database cannot be opened" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_planning_in_the_terminal_opens_neither_the_web_nor_torch() -> None:
    code = (
        "import sys; sys.argv = ['fitproof', 'plan', 'meta-llama/Llama-2-7b-hf', '4090', '--json']\n"
        "from app.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([n for n in ('torch', 'fastapi', 'httpx', 'uvicorn', 'sqlalchemy', 'jinja2') if n in sys.modules],"
        " file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stderr.strip() == "[]"

"""What cannot be answered is one sentence and exit status 2, and leaves no process and no file behind."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from tests.probe.command.terminal import FITPROOF, ROOT, program, run, torchrun

MARK = "# left behind"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a program runs; whatever it leaves in temporary folders or as a process fails the test."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)  # set by a test of this process that imported it
    yield tmp_path
    # torch's own wherever a program runs: the folder of torchrun's logs, and that of the compiler, which torch.optim
    # and FSDP2 import.
    ours = [left.name for left in temporary.iterdir() if not left.name.startswith(("torchelastic_", "torchinductor_"))]
    assert ours == []
    assert left_behind() == []


def left_behind() -> list[str]:
    """Command lines of processes that bear the mark, the command's own and its runner's left out."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word.endswith(MARK.encode()) for word in words) and b"dry-run" not in words and b"--" not in words:
                found.append(b" ".join(words).decode())
    return found


def test_another_system_than_linux_has_no_virtual_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.dry_run.running.SYSTEM", "darwin")
    done = CliRunner().invoke(app, ["dry-run", "--gpu", "rtx-4090", "--", "python", "train.py"])
    assert done.exit_code == 2
    assert "needs Linux" in done.output


@pytest.mark.parametrize(
    ("limit", "said"), [("48GiB", "RTX 4090 has 23.52 GiB; name at most that"), ("64MiB", "the CUDA context takes")]
)
def test_a_limit_that_the_card_cannot_play_is_refused_before_anything_runs(place: Path, limit: str, said: str) -> None:
    done = run(sys.executable, "-c", "print('ran')", cwd=place, options=("--memory-limit", limit))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_torch_without_cuda_is_named_with_what_to_install(place: Path) -> None:
    torch = place / "site" / "torch"
    torch.mkdir(parents=True)
    (torch / "__init__.py").touch()
    (torch / "version.py").write_text("__version__ = '2.13.0+cpu'\ncuda = None\n")
    script = f"import sys; sys.path.insert(0, {str(place / 'site')!r}); import torch"
    done = run(sys.executable, "-c", script, cwd=place)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "torch 2.13.0+cpu was not built for CUDA: the virtual card needs the CUDA build, which runs on any Linux "
        "machine; elsewhere use a container or a worker."
    ]


def test_a_hub_library_too_old_to_read_headers_from_is_named_with_what_to_install(place: Path) -> None:
    hub = place / "site" / "huggingface_hub"
    hub.mkdir(parents=True)
    (hub / "__init__.py").write_text("__version__ = '0.21.4'\n")
    (hub / "file_download.py").touch()
    script = f"import sys; sys.path.insert(0, {str(place / 'site')!r}); import huggingface_hub.file_download"
    done = run(sys.executable, "-c", script, cwd=place)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "huggingface_hub 0.21.4 is installed here, and the dry run fetches hub models through 0.23 or newer: install "
        "that for this run (`pip install -U huggingface_hub`)."
    ]


def test_an_environment_without_torch_is_the_programs_own_error(place: Path) -> None:
    done = run(sys.executable, "-S", "-c", "import torch", cwd=place)
    assert done.returncode == 2
    assert "The program ended with status 1" in done.stdout


def test_a_program_with_a_fault_of_its_own_is_one_sentence_and_no_verdict(place: Path) -> None:
    done = run(sys.executable, program("dies"), cwd=place)
    assert done.returncode == 2
    assert done.stdout.splitlines() == ["The program ended with status 1: ValueError: no such data set: corpus.jsonl."]
    assert not list((place / "temporary").iterdir()), "the report imported torch's compiler, seconds of a processor"


def test_what_the_card_cannot_pretend_is_refused_by_its_name(place: Path) -> None:
    """peft's PiSSA initialisation, and CorDA's, decompose weights on the card."""
    done = run(sys.executable, "-c", "import torch; torch.linalg.svd(torch.zeros(8, 8, device='cuda'))", cwd=place)
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        "The program ended with status 1: RuntimeError: the virtual card does not pretend cusolverDnCreateGesvdjInfo: "
        "this program needs a real card."
    ]


RECURRENT = """
import torch
{before}
network = torch.nn.GRU(64, 64, num_layers=2, dropout=0.1).cuda()
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
for _ in range(2):
    network(torch.ones(8, 4, 64, device="cuda"))[0].sum().backward()
    optimizer.step()
"""


def test_a_recurrent_network_of_cudnns_is_refused_with_a_way_out_that_works(place: Path) -> None:
    refused = run(sys.executable, "-c", RECURRENT.format(before=""), cwd=place)
    assert refused.returncode == 2
    assert "does not pretend cudnn" in refused.stdout
    way_out = "torch.backends.cudnn.enabled = False"
    assert way_out in refused.stdout
    done = run(sys.executable, "-c", RECURRENT.format(before=way_out), cwd=place, options=("--steps", "2"))
    assert (done.returncode, "Fits" in done.stdout) == (0, True), done.stdout


def test_a_fault_of_several_lines_is_one_sentence(place: Path) -> None:
    """torch's own of a card that is not there: `torch.cuda.set_device(1)` where one card was given."""
    said = "invalid device ordinal\\nGPU device may be out of range, do you have enough GPUs?\\n"
    script = f"raise RuntimeError('{said}')"
    done = run(sys.executable, "-c", script, cwd=place)
    assert done.stdout.splitlines() == [
        "The program ended with status 1: RuntimeError: invalid device ordinal GPU device may be out of range, do you "
        "have enough GPUs?"
    ]


def test_a_fault_before_torch_is_told_as_well(place: Path) -> None:
    done = run(sys.executable, "-c", "raise FileNotFoundError('my.yml')", cwd=place)
    assert done.returncode == 2
    assert done.stdout.splitlines() == ["The program ended with status 1: FileNotFoundError: my.yml."]


def test_a_program_that_never_trains_is_told_so(place: Path) -> None:
    done = run(sys.executable, program("never_trains"), cwd=place)
    assert done.returncode == 2
    assert "made no optimizer step" in done.stdout


def test_a_program_that_is_not_there_is_one_sentence(place: Path) -> None:
    done = run("no-such-program", cwd=place)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["The program cannot be run. command: no-such-program is not found"]


def test_a_program_that_is_no_python_uses_no_card(place: Path) -> None:
    plain = shutil.which("sh")
    assert plain is not None
    done = run(plain, "-c", "echo hello", cwd=place)
    assert done.returncode == 2
    assert done.stdout.splitlines() == ["hello", "The program ended with status 0 and never used a card."]


def test_more_processes_than_cards_is_the_programs_own_error(place: Path) -> None:
    done = run(*torchrun(2), program("ranks"), cwd=place)
    assert done.returncode == 2
    assert "invalid device ordinal" in done.stdout


def test_nothing_that_the_program_started_outlives_the_run(place: Path) -> None:
    done = run(sys.executable, program("spawns"), cwd=place)
    assert done.returncode == 2
    assert "never used a card" in done.stdout


def test_a_program_that_starts_processes_for_ever_is_ended(place: Path) -> None:
    done = run("sh", "-c", "while true; do sleep 600 & done", cwd=place)
    assert done.returncode == 2
    assert "more than any training needs" in done.stdout


def test_a_program_past_its_deadline_is_ended_though_it_would_not(place: Path) -> None:
    deaf = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)  {MARK}"
    done = run(sys.executable, "-c", deaf, cwd=place, options=("--deadline", "4"))
    assert done.returncode == 2
    assert "ended at its deadline" in done.stdout


def test_a_program_that_the_kernel_kills_is_told_of_memory(place: Path) -> None:
    done = run("sh", "-c", "kill -KILL $$", cwd=place)
    assert done.returncode == 2
    assert done.stdout.splitlines() == ["The program was killed, as Linux does where memory runs out."]


def test_a_program_is_ended_before_it_takes_the_last_of_this_machines_memory(place: Path) -> None:
    script = f"""
import os
from planner.probe.command import processes
processes.available_bytes = lambda: 100 << 20
words = ["sh", "-c", "sleep 600  {MARK}"]
print(processes.run_to_its_end(words, os.environ, 60).why)
"""
    words = [sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(words, env=environment, cwd=place, capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.startswith("This machine has too little memory: the program's processes held ")
    assert "0.10 GiB was left, so they were ended" in said.stdout


def test_a_program_that_takes_memory_fast_is_ended_a_look_before_it_is_gone(place: Path) -> None:
    script = f"""
import os
from planner.probe.command import processes
left = iter([9 << 30, 5 << 30, 1 << 30])
processes.available_bytes = lambda: next(left)
words = ["sh", "-c", "sleep 600  {MARK}"]
print(processes.run_to_its_end(words, os.environ, 60).why)
"""
    words = [sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(words, env=environment, cwd=place, capture_output=True, text=True, timeout=60, check=True)
    assert "1.00 GiB was left, so they were ended" in said.stdout


def test_a_world_that_this_machine_has_no_memory_for_is_refused_before_it_starts(place: Path) -> None:
    script = f"""
import json, pathlib, sys
from planner.probe.command import __main__ as command
command.available_bytes = lambda: 300 << 20
spec = {{"gpus": ["rtx-4090"] * 2, "memory_limit_bytes": None, "taken_bytes": 0, "ranks": 0, "offline": False,
        "scratch": None, "in_place": False, "steps": 0, "most_steps": 20, "routing": "even", "seed": 0,
        "deadline_seconds": 60, "report": "report.json", "snapshot": None, "find_smallest": False}}
pathlib.Path("spec.json").write_text(json.dumps(spec))
sys.exit(command.main(["spec.json", "--", *{list(torchrun(2))!r}, {program("fsdp2")!r}]))
"""
    words = [sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=environment, cwd=place, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "This machine has too little memory: 2 ranks take at least 0.4 GiB of it and 0.3 GiB is free, so none was "
        "started; --ranks 1 runs the first of them alone."
    )


def test_a_disk_that_is_full_is_one_sentence(place: Path) -> None:
    """No file may grow beyond 4 KiB: what a full disk does to the report, without one."""
    small = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, {resource.RLIM_INFINITY}))"
    words = (sys.executable, "-c", f"{small}; exec(open({program('layers')!r}).read())", "512")
    done = run(*words, cwd=place)
    assert done.returncode == 2
    assert "The dry run's report cannot be written: File too large." in done.stderr


@pytest.mark.parametrize("deaf", [False, True], ids=["it ends when asked", "it does not"])
@pytest.mark.usefixtures("place")
def test_control_c_ends_the_program_and_leaves_nothing(*, deaf: bool) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " if deaf else ""
    words = [sys.executable, "-c", f"import signal, time; {ignore}time.sleep(3600)  {MARK}"]
    command = [*FITPROOF, "dry-run", "--gpu", "rtx-4090", "--", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        command, start_new_session=True, env=environment, stderr=subprocess.PIPE, text=True,
        # Tests that a shell started in the background would hand on that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # one thread
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not left_behind() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert (child.returncode, said.splitlines()) == (2, ["The dry run was stopped; nothing is left behind."])


def test_a_command_that_is_killed_leaves_no_file(place: Path) -> None:
    words = [*FITPROOF, "dry-run", "--gpu", "rtx-4090", "--", "sh", "-c", "touch started; sleep 60"]
    with subprocess.Popen(words, cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT)}) as command:
        deadline = time.monotonic() + 60
        while not (place / "started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        command.kill()
    while list((place / "temporary").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.1)

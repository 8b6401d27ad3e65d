"""The program that puts virtual cards under another environment's torch."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path


def asked(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "planner.probe.card.environment", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_its_variables_give_a_program_that_card() -> None:
    answer = asked(sysconfig.get_path("purelib"), "t4")
    assert answer.returncode == 0, answer.stderr
    program = "import torch; print(torch.cuda.get_device_name(), torch.cuda.mem_get_info()[1])"
    run = subprocess.run(
        [sys.executable, "-c", program], env=json.loads(answer.stdout), capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["Tesla", "T4", str(14_912 * 1024**2)]


def test_a_folder_without_torch_and_an_unknown_card_are_a_sentence(tmp_path: Path) -> None:
    for arguments in ((str(tmp_path), "t4"), (sysconfig.get_path("purelib"), "rtx-0000"), (str(tmp_path),)):
        answer = asked(*arguments)
        assert answer.returncode == 2
        assert answer.stderr.strip()
        assert "Traceback" not in answer.stderr
        assert answer.stdout == ""

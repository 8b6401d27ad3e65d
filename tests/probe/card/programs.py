"""Programs that run the installed torch on virtual cards, each in a process of its own.

A parent imports torch once and forks for each program, whose cards are its own, another one transformers too, for
programs that name it; one that needs another environment gets a process from nothing. Nothing in a parent may ask torch
for a card: it would keep the answer.
"""

import json
import os
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
START = """
import json
from planner.probe.card.preload import insert_cards
from planner.probe.card.readings import modelled, read_card
from planner.probe.card.spec import cards_of
from planner.request.schema import CustomGpu
def insert(*gpus, limit=None): insert_cards(cards_of(gpus, limit))
answer = {}
"""
# Reads a program a line; its child's answer and errors go to the files that the line names.
PARENT = """
import json, os, sys, traceback
exec(START)
insert("t4")
import torch
exec(STACK)
for line in sys.stdin:
    work = json.loads(line)
    child = os.fork()
    if child == 0:
        sys.stdout, status = open(work["out"], "w"), 1
        os.dup2(os.open(work["err"], os.O_WRONLY | os.O_CREAT), 2)
        try:
            exec(work["code"], {})
            status = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(status)
    _, status = os.waitpid(child, 0)
    print(status, flush=True)
"""
# Whoever asks for cards meanwhile hears of one and wakes nothing, as in planner/probe/devices/virtual_card.py. hqq and
# torchao, which no program here needs, fetch torch's compiler.
STACK = """
sys.modules["hqq"] = sys.modules["torchao"] = None
from unittest.mock import patch
with patch("torch._C._cuda_getDeviceCount", lambda: 1), patch("torch.cuda.get_device_capability", lambda *_: (7, 5)):
    from transformers import LlamaForCausalLM, Trainer
assert not torch.cuda.is_initialized()
"""


@cache
def _parent(stack: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"START = {START!r}\nSTACK = {stack!r}\n{PARENT}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def on_card(folder: Path, program: str, **environment: str) -> dict[str, Any]:
    """Run a program that fills `answer`; what it printed to stderr is under "stderr"."""
    code = START + textwrap.dedent(program) + "\nprint('ANSWER' + json.dumps(answer))"
    out, err = folder / "out", folder / "err"
    status = _cold(code, out, err, environment) if environment else _forked(code, out, err)
    assert status == 0, err.read_text()
    line = next(line for line in out.read_text().splitlines() if line.startswith("ANSWER"))
    return {"stderr": err.read_text(), **json.loads(line.removeprefix("ANSWER"))}


def _forked(code: str, out: Path, err: Path) -> int:
    parent = _parent(STACK if "transformers" in code else "")
    assert parent.stdin
    assert parent.stdout
    parent.stdin.write(json.dumps({"code": code, "out": str(out), "err": str(err)}) + "\n")
    parent.stdin.flush()
    return int(parent.stdout.readline())


def _cold(code: str, out: Path, err: Path, environment: dict[str, str]) -> int:
    with out.open("w") as answers, err.open("w") as errors:
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=answers,
            stderr=errors,
            timeout=240,
            check=False,
        ).returncode

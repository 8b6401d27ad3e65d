"""Virtual cards in other processes: children, ranks that share cards, Triton's compiler."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from planner.probe.card.preload import card_environment
from planner.probe.card.spec import cards_of
from tests.probe.card.programs import ROOT, on_card


def run_on(cards: Sequence[str], *command: str, **environment: str) -> str:
    """What a command prints under virtual cards."""
    run = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **card_environment(cards_of(cards)), **environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_two_ranks_shard_a_model_and_see_each_others_memory(tmp_path: Path) -> None:
    ranks = ["-m", "torch.distributed.run", "--nproc-per-node", "2", str(Path(__file__).with_name("ranks.py"))]
    run_on(["h100-sxm-80gb"] * 2, *ranks, MEETING=str(tmp_path))
    first, second = (json.loads((tmp_path / f"answer{rank}").read_text()) for rank in range(2))
    assert first["said"] == ["here", "here"]
    assert first["used"] == second["used"]
    assert first["owners"] == second["owners"] == [[first["pid"]], [second["pid"]]]
    assert min(first["used"]) > first["reserved"] == second["reserved"]


def test_a_child_finds_the_cards_that_its_environment_shows_it() -> None:
    said = run_on(
        ["t4", "l4"],
        "-c",
        "import torch; print([torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())])",
        CUDA_VISIBLE_DEVICES="1",
    )
    assert said.strip() == "['NVIDIA L4']"


def test_tritons_kernels_are_compiled_and_launched(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
        insert("rtx-5090")
        import torch
        from liger_kernel.transformers import LigerRMSNorm
        norm = LigerRMSNorm(1024).cuda().bfloat16()
        hidden = torch.randn(8, 1024, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        norm(hidden).backward(torch.empty_like(hidden))
        answer["gradient"] = list(norm.weight.grad.shape)
        """,
    )
    assert seen["gradient"] == [1024]


def test_a_fork_that_nobody_counts_goes_on_with_what_its_parent_took(tmp_path: Path) -> None:
    """The published runs load once and take their steps in forks; processes of a set count each for itself."""
    seen = on_card(
        tmp_path,
        """
        insert("t4")
        import os, torch
        torch.cuda.init()
        torch.cuda._is_in_bad_fork = lambda: False  # a real context does not survive a fork
        block = torch.empty(8 << 30, dtype=torch.uint8, device="cuda")
        told, tell = os.pipe()
        if os.fork() == 0:
            before = torch.cuda.mem_get_info()[0]
            try:
                torch.empty(8 << 30, dtype=torch.uint8, device="cuda")
            except torch.OutOfMemoryError:
                del block
                torch.cuda.empty_cache()
                os.write(tell, str(torch.cuda.mem_get_info()[0] - before).encode())
            os._exit(0)
        os.close(tell)
        answer["given_back"] = os.read(told, 99).decode()
        """,
    )
    assert seen["given_back"] == str(8 << 30)


def test_memory_handed_to_another_process_counts_where_it_was_taken(tmp_path: Path) -> None:
    program = """
import torch
from planner.probe.card.readings import read_card
def read(queue, done):
    block = queue.get()
    print(tuple(block.shape), read_card().device.used_bytes, flush=True)
    del block
    done.set()
if __name__ == "__main__":
    context = torch.multiprocessing.get_context("spawn")
    queue, done = context.Queue(), context.Event()
    child = context.Process(target=read, args=(queue, done))
    child.start()
    block = torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
    queue.put(block)
    done.wait()
    print(read_card().device.used_bytes)
    child.join()
"""
    (tmp_path / "handed.py").write_text(program)
    theirs, ours = run_on(["l4"], str(tmp_path / "handed.py")).splitlines()
    assert theirs == f"({64 << 20},) 0"
    assert int(ours) == 64 << 20

"""The trace of a step beside torch's own record of it."""

import json
import subprocess
import sys

from planner.probe.recording.differences import Change, report

MIB = 2**20
LLAMA = {
    "model": {
        "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000, "tie_word_embeddings": False,
    },
    "gpu": {"total_memory_bytes": 24 * 2**30, "compute_capability": "8.9"},
    "training": {"max_length": 512},
}  # fmt: skip


def test_a_tensor_that_one_side_lacks_is_named_with_its_line_of_code() -> None:
    both = [Change("forward", 4 * MIB, 1, "modeling.py:1 forward"), Change("backward", 2 * MIB, 2, "(autograd)")]
    extra = Change("forward", 3 * MIB, 3, "modeling.py:2 forward")
    lines = list(report([both[0], extra, both[1]], both))
    assert lines[0] == "forward: torch 7,340,032, trace 4,194,304 (-3,145,728 bytes)"
    assert "    torch 1 x modeling.py:2 forward" in lines
    assert lines[-1].splitlines()[0] == "first difference, after 1 equal allocations:"


def test_a_llama_is_traced_to_the_byte_in_every_phase() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "planner.probe.recording.differences"], input=json.dumps(LLAMA),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    differences = [line for line in run.stdout.splitlines() if line.split(":")[0] in {"forward", "loss", "backward"}]
    assert len(differences) == 3
    assert all("(+0 bytes)" in line for line in differences)

"""Group-wise int4: the walk against dry runs of hqq 0.2.8, read by `python -m planner.probe --on dry-run`."""

import pytest

from planner import Request, plan

LLAMA = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 2000, "tie_word_embeddings": False,
}  # fmt: skip
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize(
    ("stack", "checkpointing", "dry_run_bytes"),
    [("trainer", True, 99_945_984), ("loop", False, 128_502_784)],
)
def test_a_step_on_groups_of_four_bits_peaks_near_the_dry_run(
    stack: str, checkpointing: bool, dry_run_bytes: int
) -> None:
    training = {
        "max_length": 128, "optim": "adamw_torch_fused", "loss": "full_logits",
        "gradient_checkpointing": checkpointing,
    }  # fmt: skip
    document = {
        "model": LLAMA, "gpu": "rtx-4090", "quantization": {"quant_method": "hqq"},
        "lora": {"target_modules": TARGETS}, "training": training, "stack": stack,
    }  # fmt: skip
    phases = {phase.name: phase.allocated_bytes for phase in plan(Request.parse(document)).phases}
    assert phases["backward"] == pytest.approx(dry_run_bytes, rel=0.02)

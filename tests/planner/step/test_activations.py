"""The walk against the pencil: closed forms for a Llama layer and for the losses."""

from typing import Any

from planner.memory.activations import checkpoint_bytes, llama_layer_saved_bytes
from planner.memory.logits import full_logits_peak_bytes
from tests.planner.step.recorded import formula
from tests.planner.step.tables.settings import CARD, LLAMA

T, R = 1024, 16
H, K, D = LLAMA["num_attention_heads"], LLAMA["num_key_value_heads"], 128
HIDDEN, INNER, WORDS = LLAMA["hidden_size"], LLAMA["intermediate_size"], LLAMA["vocab_size"]


def document(layers: int, **training: Any) -> dict[str, Any]:
    return {
        "model": {**LLAMA, "num_hidden_layers": layers},
        "gpu": CARD,
        "lora": {"r": R},
        "training": {"max_length": T, "loss": "full_logits", **training},
    }


def per_layer(**training: Any) -> int:
    """What one more layer adds when the loss is computed."""
    return formula(document(7, **training))["loss"] - formula(document(6, **training))["loss"]


def test_a_layer_without_checkpointing_keeps_what_the_closed_form_says() -> None:
    saved = llama_layer_saved_bytes(h=HIDDEN, q=H * D, k=K * D, heads=H, inner=INNER, rank=R) * T
    projections = [(H * D, HIDDEN), (K * D, HIDDEN), (K * D, HIDDEN), (HIDDEN, H * D), (INNER, HIDDEN), (INNER, HIDDEN), (HIDDEN, INNER)]  # fmt: skip  # noqa: E501  one table
    weight_copies = 2 * R * sum(rows + columns for rows, columns in projections)
    random_states = 2 * 512
    assert per_layer(gradient_checkpointing=False) == saved + weight_copies + random_states


def test_a_checkpointed_layer_keeps_its_input_and_autocast_its_weight_copies() -> None:
    kept = formula(document(7))["backward"] - formula(document(6))["backward"]
    assert kept == checkpoint_bytes(T, HIDDEN, 2)


def test_three_float32_copies_of_all_logits_are_the_peak_of_a_large_vocabulary() -> None:
    small, large = document(4), document(4)
    large["model"] = {**large["model"], "vocab_size": 2 * WORDS}
    grown = formula(large)["backward"] - formula(small)["backward"]
    assert grown == full_logits_peak_bytes(T, 2 * WORDS) - full_logits_peak_bytes(T, WORDS)

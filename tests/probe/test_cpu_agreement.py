"""A dry run that follows the CPU reads, byte for byte, what the real step on the CPU reads."""

import pytest

from planner.probe.meters.live import LiveMeter
from tests.probe.tiny import peaks, request, watch

MODELS_AND_STACKS = [
    ("llama", "trainer"), ("llama", "trl"), ("llama", "kbit"), ("llama", "loop"),
    ("qwen2", "kbit"), ("qwen3", "trl"), ("mistral", "trainer"), ("gemma2", "loop"),
    ("gemma3_text", "trainer"), ("phi3", "trl"), ("gpt2", "kbit"), ("mixtral", "loop"),
]  # fmt: skip


def both(asked: object) -> tuple[LiveMeter, LiveMeter]:
    return watch(asked, instrument="dry-run", follow="cpu"), watch(asked, instrument="cpu")


@pytest.mark.parametrize(("model", "stack"), MODELS_AND_STACKS)
def test_every_phase_has_the_same_peak_and_leaves_the_same_behind(model: str, stack: str) -> None:
    dry, real = both(request(model, stack=stack))
    assert peaks(dry) == peaks(real)
    assert [phase.resident_bytes for phase in dry.readings()] == [phase.resident_bytes for phase in real.readings()]


@pytest.mark.parametrize(
    "training",
    [
        {"gradient_checkpointing": False, "optim": "paged_adamw_8bit"},
        {"gradient_accumulation_steps": 2, "use_reentrant": True, "attn_implementation": "eager"},
        {"padded": True, "optim": "adafactor", "max_grad_norm": 0.0},
    ],
    ids=["kept activations", "accumulated and reentrant", "padded"],
)
def test_so_does_every_other_recipe(training: dict[str, object]) -> None:
    dry, real = both(request(training=training))
    assert peaks(dry) == peaks(real)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_so_do_unquantized_methods(method: str) -> None:
    dry, real = both(request(method=method))
    assert peaks(dry) == peaks(real)


def test_so_do_dora_and_dropout() -> None:
    dry, real = both(request(lora={"r": 8, "use_dora": True, "lora_dropout": 0.1}))
    assert peaks(dry) == peaks(real)

"""float16 autocast brings a GradScaler: its scalars are counted, in life, in a dry run and in the formula."""

import pytest

from planner import plan
from planner.errors import InvalidRequestError
from planner.probe import scaling
from planner.probe.measure import measure
from planner.probe.options import Options
from planner.probe.progress import Progress
from planner.recipe import Recipe
from planner.request import Request
from tests.probe.tiny import peaks, request, watch

FLOAT16 = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "float16"}
SCALAR = 512


def with_and_without(monkeypatch: pytest.MonkeyPatch, **training: object) -> dict[str, int]:
    """What the scaler adds to the worst instant of each steady phase of a dry run."""
    asked = request(quantization=FLOAT16, training=training)
    scaled = peaks(watch(asked))
    monkeypatch.setattr(Recipe, "scales_loss", False)
    plain = peaks(watch(asked))
    return {phase: scaled[phase] - plain[phase] for phase in ("forward", "loss", "backward", "optimizer")}


def test_a_dry_run_counts_the_scale_the_tracker_the_scaled_loss_and_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    added = with_and_without(monkeypatch, optim="adamw_torch")
    assert added == {"forward": 2 * SCALAR, "loss": 2 * SCALAR, "backward": 3 * SCALAR, "optimizer": 3 * SCALAR}


def test_the_formula_has_a_line_for_each_of_them() -> None:
    lines = plan(Request.parse({"model": "llama-2-7b", "gpu": "t4", "quantization": FLOAT16})).lines
    held = {line.name: (line.bytes, line.alive_in) for line in lines if "loss" in line.name and "scale" in line.name}
    assert held == {
        "loss scale and its growth tracker": (2 * SCALAR, ("forward", "loss", "backward", "optimizer")),
        "scaled loss, then the overflow flag": (SCALAR, ("backward", "optimizer")),
    }


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "paged_adamw_8bit"])
def test_a_real_step_with_a_scaler_reads_what_a_dry_one_does(monkeypatch: pytest.MonkeyPatch, optim: str) -> None:
    monkeypatch.setattr(scaling, "scales_on", lambda _: True)  # as on a card
    asked = request(quantization=FLOAT16, training={"optim": optim, "gradient_accumulation_steps": 2})
    assert peaks(watch(asked, follow="cpu")) == peaks(watch(asked, instrument="cpu"))


def test_trl_in_float16_is_refused_because_its_adapters_are_bfloat16() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        measure(request(stack="trl", quantization=FLOAT16), Options(), Progress())
    assert "bfloat16 gradients" in caught.value.problems[0].message


def test_a_harness_of_ones_own_that_trains_in_16_bit_scales_nothing() -> None:
    harness = {"model_dtype": "float16", "autocast": "float16", "adapter_dtype": "float16"}
    assert not Recipe.of(request(stack=harness)).scales_loss

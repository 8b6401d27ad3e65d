"""The loss between steps, and loss scaling for float16: a few scalars, each a block of 512 bytes."""

from planner.ledger import Line
from planner.units import allocated

_SCALAR_BYTES = allocated(4)
_SOURCE = "torch/amp/grad_scaler.py GradScaler; accelerate has one for float16 autocast"


def loss_lines() -> list[Line]:
    """The loss of the last step, kept for the log until this step's sum takes its place."""
    return [
        Line(
            name="loss of the last step", bytes=_SCALAR_BYTES, cause="logits",
            alive_in=("forward", "loss", "backward", "optimizer"), formula="512", working=f"{_SCALAR_BYTES}",
            source="transformers/trainer.py _inner_training_loop: tr_loss",
        )
    ]  # fmt: skip


def scaler_lines(*, scales_loss: bool) -> list[Line]:
    """The scale and the growth tracker from the first backward pass on; the scaled loss; whether a gradient overflowed.

    The two scalars are float32 and int32. Unscaling's other scalars are gone before the optimizer's own step.
    """
    if not scales_loss:
        return []
    return [
        Line(
            name=name, bytes=count * _SCALAR_BYTES, cause="optimizer", alive_in=alive_in, formula="512 per scalar",
            working=f"{count} × {_SCALAR_BYTES}", source=_SOURCE,
        )
        for name, count, alive_in in (
            ("loss scale and its growth tracker", 2, ("forward", "loss", "backward", "optimizer")),
            ("scaled loss, then the overflow flag", 1, ("backward", "optimizer")),
        )
    ]  # fmt: skip

"""Proof that the step trained what it should and nothing else: fingerprints of every parameter, before and after."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import _disable_current_modes


class TrainingCheckError(RuntimeError):
    """A frozen parameter moved, or a trainable one did not."""


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """One number per parameter that changes when a byte of it does (short of a deliberate collision)."""

    by_name: Mapping[str, tuple[bool, int]]  # (trainable?, fingerprint)


def fingerprints(model: torch.nn.Module) -> Fingerprints:
    """Take the fingerprint of every parameter of `model`, on its own device."""
    with torch.no_grad(), _disable_current_modes():  # not part of what is metered
        return Fingerprints(
            {name: (parameter.requires_grad, _fingerprint(parameter)) for name, parameter in model.named_parameters()}
        )


def verify_only_trainables_changed(model: torch.nn.Module, before: Fingerprints) -> None:
    """Compare with `before`: no frozen parameter may differ, and every trainable one must.

    A 16-bit parameter may swallow an update smaller than its own spacing, so of those at least one must.

    Raises:
        TrainingCheckError: names the first parameter that is wrong.
    """
    after = fingerprints(model)
    unmoved: list[str] = []
    moved_halves = 0
    for name, parameter in model.named_parameters():
        trainable, fingerprint = after.by_name[name]
        changed = before.by_name[name][1] != fingerprint
        if changed and not trainable:
            msg = f"frozen parameter {name} changed"
            raise TrainingCheckError(msg)
        if not trainable:
            continue
        moved_halves += changed and parameter.dtype != torch.float32
        if not changed:
            unmoved.append(name)
    stuck = [name for name in unmoved if model.get_parameter(name).dtype == torch.float32 or not moved_halves]
    if stuck:
        msg = f"trainable parameter {stuck[0]} did not change"
        raise TrainingCheckError(msg)


def verify_finite(loss: torch.Tensor) -> None:
    """Check that the last loss is a number.

    Raises:
        TrainingCheckError: it is not.
    """
    if not bool(torch.isfinite(loss)):
        msg = f"the loss is {loss.item()}"
        raise TrainingCheckError(msg)


def _fingerprint(parameter: torch.Tensor) -> int:
    """The sum of the raw bytes, each weighed by its position in its piece and each piece by its place."""
    raw = parameter.detach().contiguous().view(-1).view(torch.uint8)
    weights = torch.arange(1, min(raw.numel(), _PIECE_BYTES) + 1, device=raw.device)
    return sum(
        index * int((piece * weights[: piece.numel()]).sum()) for index, piece in enumerate(raw.split(_PIECE_BYTES), 1)
    )


# The products are int64, so a piece takes half a MiB for an instant: a small block even for the CUDA allocator.
_PIECE_BYTES = 1 << 16

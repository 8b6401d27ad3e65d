"""Weights made up tensor by tensor while the real loader asks for them, for devices that are there.

Memory does not depend on the values of dense weights, so synthetic ones need no download. They are sane all the same
(norms one, biases zero, matrices normal with the model's own spread), so that the loss is finite.
"""

from collections.abc import Mapping
from types import EllipsisType

import torch
from transformers import PreTrainedModel

from planner.probe.checkpoint.header import stored_tensors


class SyntheticTensor:
    """Stands for one tensor of a checkpoint, as a safetensors slice does: `tensor[...]` makes the values.

    transformers reads a checkpoint entry by `entry[...]` (core_model_loading.py, `_materialize_copy`), one parameter
    at a time when it quantizes on the way. Made on the target device, so what the device sees is the 16-bit copy.
    """

    def __init__(
        self, name: str, shape: torch.Size, dtype: torch.dtype, device: torch.device, spread: float | None
    ) -> None:
        self._name, self.shape, self.dtype, self._device, self._spread = name, shape, dtype, device, spread

    def __getitem__(self, _: EllipsisType) -> torch.Tensor:
        tensor = torch.empty(self.shape, dtype=self.dtype, device=self._device)
        if self._spread is None:
            return tensor
        if not self.dtype.is_floating_point:
            return tensor.zero_()
        if len(self.shape) >= 2:
            return tensor.normal_(0.0, self._spread)
        return tensor.zero_() if self._name.endswith("bias") else tensor.fill_(1.0)

    def get_shape(self) -> list[int]:
        """As safetensors slices say it."""
        return list(self.shape)


def synthetic_checkpoint(
    skeleton: PreTrainedModel, dtype: torch.dtype, device: torch.device, *, values: bool = True
) -> Mapping[str, SyntheticTensor]:
    """One entry per tensor that a checkpoint of `skeleton` (a model on the meta device) holds.

    Without `values` nothing is written, so that tensors in host memory take none of it.
    """
    given = float(getattr(skeleton.config.get_text_config(), "initializer_range", None) or 0.02)
    spread = given if values else None
    return {
        name: SyntheticTensor(name, tensor.shape, tensor.dtype, device, spread)
        for name, tensor in stored_tensors(skeleton, dtype).items()
    }

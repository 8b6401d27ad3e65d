"""Gradients that torch's derivatives write in place, found again in a run that is watched.

torch/csrc/autograd/FunctionsManual.cpp and the backward functions in ATen put rows back into fresh zeros in place, but
out of place where `areAnyTensorSubclassLike`, which holds whenever a dispatch mode is on. A meter is one, so it must
put back what a run without it would do: one tensor of the whole size less.
"""

from collections.abc import Mapping
from typing import Any

import torch

_aten = torch.ops.aten
_IN_PLACE: Mapping[Any, Any] = {
    _aten.index_put.default: _aten.index_put_.default,  # index_backward
    _aten.scatter_add.default: _aten.scatter_add_.default,  # gather_backward
    _aten.scatter.src: _aten.scatter_.src,  # value_selecting_reduction_backward: max, top-k, sort
    _aten.index_add.default: _aten.index_add_.default,  # index_select_backward
    _aten.masked_scatter.default: _aten.masked_scatter_.default,  # masked_select_backward
}
# Nodes that torch generates; a Python function's backward is called `<its name>Backward` and does what it says.
_GENERATED = "Backward0"


def in_place_where_torch_is(func: Any) -> Any:
    """The operator that a run without a dispatch mode would have called in place of `func`."""
    in_place = _IN_PLACE.get(func)
    if in_place is None or torch.is_grad_enabled():
        return func
    node = torch._C._current_autograd_node()
    return in_place if node is not None and node.name().endswith(_GENERATED) else func

"""What a checkpoint that is quantized already holds in place of its linear layers' weights.

Which layers those are is asked of transformers' own quantizers; what stands in a file is in the layout of bitsandbytes
(functional.py, QuantState.as_dict; nn/modules.py, Linear8bitLt._save_to_state_dict) and of block-wise FP8
(transformers/integrations/finegrained_fp8.py, FP8Linear).
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from bitsandbytes.functional import QuantState
from transformers import PreTrainedModel
from transformers.quantizers.auto import AutoHfQuantizer

from planner.errors import FieldProblem, InvalidRequestError
from planner.probe.checkpoint.header import StoredTensor
from planner.units import ceil_div

# bitsandbytes/functional.py: defaults of quantize_4bit, and of quantize_blockwise where statistics are compressed.
_BLOCK, _NESTED_BLOCK = 64, 256
_WEIGHT = ".weight"

Pack = Callable[[StoredTensor], Iterator[StoredTensor]]


def quantized(
    tensors: Iterator[StoredTensor], skeleton: PreTrainedModel, written: Mapping[str, Any], dtype: torch.dtype
) -> Iterator[StoredTensor]:
    """`tensors` of a 16-bit checkpoint as one of the kind `written` in a quantization_config stores them.

    Raises:
        InvalidRequestError: how such a checkpoint is laid out is not known here.
    """
    pack = _packing(written, dtype)
    chosen = _quantized_layers(skeleton, written)
    for tensor in tensors:
        layer = tensor.name.removesuffix(_WEIGHT)
        yield from pack(tensor) if tensor.name.endswith(_WEIGHT) and layer in chosen else (tensor,)


def _quantized_layers(skeleton: PreTrainedModel, written: Mapping[str, Any]) -> frozenset[str]:
    """Names of the layers whose class transformers changes; `skeleton` is left changed."""
    before = {name: type(module) for name, module in skeleton.named_modules()}
    quantizer = AutoHfQuantizer.from_config(deepcopy(dict(written)), pre_quantized=True)
    quantizer.preprocess_model(model=skeleton, dtype=None, device_map={"": "meta"})
    return frozenset(name for name, module in skeleton.named_modules() if before.get(name) is not type(module))


def _packing(written: Mapping[str, Any], dtype: torch.dtype) -> Pack:
    if written.get("load_in_4bit"):
        return partial(
            _four_bits,
            kind=written.get("bnb_4bit_quant_type", "fp4"),
            nested=bool(written.get("bnb_4bit_use_double_quant")),
            dtype=dtype,
        )
    if written.get("load_in_8bit"):
        return _eight_bits
    if written.get("quant_method") == "fp8" and written.get("weight_block_size"):
        return partial(_float8, block=tuple(written["weight_block_size"]))
    fix = "a checkpoint of this kind cannot be made up; name the model by its hub id and give --weights hub"
    raise InvalidRequestError("There is no checkpoint to load.", [FieldProblem("model.quantization_config", fix)])


def _four_bits(weight: StoredTensor, kind: str, *, nested: bool, dtype: torch.dtype) -> Iterator[StoredTensor]:
    elements = weight.elements
    yield StoredTensor(weight.name, "U8", (ceil_div(elements, 2), 1))
    for name, value in _state(weight.shape, ceil_div(elements, _BLOCK), kind, nested=nested, dtype=dtype).items():
        content = bytes(value.tolist()) if value.device.type == "cpu" else None
        stored = "U8" if value.dtype == torch.uint8 else "F32"
        yield StoredTensor(f"{weight.name}.{name}", stored, tuple(value.shape), content)


def _state(
    shape: tuple[int, ...], blocks: int, kind: str, *, nested: bool, dtype: torch.dtype
) -> Mapping[str, torch.Tensor]:
    """What bitsandbytes writes beside a weight: on the meta device but for its JSON object, which is real."""
    float32, on_meta = torch.float32, partial(torch.empty, device="meta")
    if not nested:
        state = QuantState(on_meta(blocks, dtype=float32), torch.Size(shape), on_meta(16), _BLOCK, kind, dtype)
        return dict(state.as_dict(packed=True))
    second = QuantState(
        on_meta(ceil_div(blocks, _NESTED_BLOCK), dtype=float32), None, on_meta(256), _NESTED_BLOCK, None, float32
    )
    state = QuantState(
        on_meta(blocks, dtype=torch.uint8), torch.Size(shape), on_meta(16), _BLOCK, kind, dtype,
        offset=torch.zeros(()), state2=second,
    )  # fmt: skip
    return dict(state.as_dict(packed=True))


def _eight_bits(weight: StoredTensor) -> Iterator[StoredTensor]:
    yield StoredTensor(weight.name, "I8", weight.shape)
    layer = weight.name.removesuffix(_WEIGHT)
    yield StoredTensor(f"{layer}.SCB", "F32", weight.shape[:1])
    yield StoredTensor(f"{layer}.weight_format", "U8", ())


def _float8(weight: StoredTensor, block: tuple[int, int]) -> Iterator[StoredTensor]:
    yield StoredTensor(weight.name, "F8_E4M3", weight.shape)
    rows, columns = (ceil_div(size, side) for size, side in zip(weight.shape, block, strict=True))
    yield StoredTensor(f"{weight.name}_scale_inv", "F32", (rows, columns))

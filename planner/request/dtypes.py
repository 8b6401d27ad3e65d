"""Names of dtypes as people write them."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

_SPELLINGS = {
    "fp32": "float32", "float": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16",
}  # fmt: skip


def _plain(value: object) -> object:
    """`torch.bfloat16`, as people paste it, and `bf16` both mean `bfloat16`."""
    if not isinstance(value, str):
        return value
    name = value.removeprefix("torch.")
    return _SPELLINGS.get(name, name)


Dtype = Annotated[Literal["float32", "float16", "bfloat16"], BeforeValidator(_plain)]
HalfDtype = Annotated[Literal["float16", "bfloat16"], BeforeValidator(_plain)]
# What 4-bit values are kept as; a float lets FSDP cut them (bitsandbytes nn/modules.py Params4bit, quant_storage).
QuantStorage = Annotated[Literal["uint8", "float32", "float16", "bfloat16"], BeforeValidator(_plain)]

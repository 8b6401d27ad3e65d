"""The smallest parts a decoder is described by: projections, norms, and tensors that are neither."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["linear", "embedding", "head", "norm", "bias", "router", "expert", "other", "buffer"]


@dataclass(frozen=True, slots=True)
class Linear:
    """`nn.Linear(in, out)`, or GPT-2's `Conv1D`, which stores its weight transposed."""

    name: str
    out: str
    in_: str
    bias: bool = False
    role: Role = "linear"
    transposed: bool = False
    quantizable: bool = True


@dataclass(frozen=True, slots=True)
class Norm:
    """A normalisation. `kind` names the exact order of casts, because that decides what is saved.

    rms:        weight * hidden.float()...to(dtype)          (Llama: modeling_llama.py LlamaRMSNorm)
    rms_cast:   (weight * hidden.float()...).to(dtype)       (OLMo 2, GPT-OSS)
    rms_wide:   (weight.float() * hidden.float()...).to(dtype)  (Nemotron-H)
    rms_gemma:  (hidden.float()... * (1 + weight)).to(dtype) (Gemma)
    rms_float:  (hidden.float()... * weight.float()).to(dtype), by pow(-0.5) (Gemma 4)
    layer:      nn.LayerNorm
    layer_float: F.layer_norm of a float32 copy, cast back   (OLMo 1)
    cohere:     mean and variance written out in float32     (CohereLayerNorm)

    `per` names the heads a norm is repeated over, `stored_per` those it has a weight of its own for.
    """

    name: str
    width: str
    kind: Literal["rms", "rms_cast", "rms_wide", "rms_gemma", "rms_float", "layer", "layer_float", "cohere"] = "rms"
    weight: bool = True
    bias: bool = False
    per: tuple[str, ...] = ()
    stored_per: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Extra:
    """A tensor of a block that no other part describes: convolution, state matrix, correction bias."""

    name: str
    shape: tuple[str, ...]
    role: Role = "other"
    linear: bool = False
    keeps_float32: bool = False

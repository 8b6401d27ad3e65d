"""What a layer may have in the place of softmax attention: a state that goes from token to token.

A new kind of mixer is a class here, its trace in planner/step/recurrent/, and its case in
planner/step/decoder_layer.py.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from planner.families.basics import Extra, Linear, Norm

Tensors = tuple[Extra | Linear | Norm, ...]


class Mixer(ABC):
    """What every such layer tells of itself.

    `state`: the dimensions of the float32 state that it hands on, none where it hands on the last tokens alone.
    `scans`: it goes over the sequence in chunks.
    """

    __slots__ = ()
    window: ClassVar[bool] = False
    softcap: ClassVar[bool] = False
    scans: ClassVar[bool] = True
    state: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def tensors(self) -> Tensors:
        """All that it holds, `nn.Linear`s in the order of its modules."""


def _convolution(name: str, *, bias: bool) -> tuple[Extra, ...]:
    """A filter of "conv kernel" tokens for each of "conv" channels."""
    weight = Extra(f"{name}.weight", ("conv", "one", "conv kernel"))
    return (weight, Extra(f"{name}.bias", ("conv",))) if bias else (weight,)


@dataclass(frozen=True, slots=True)
class DeltaNet(Mixer):
    """Linear attention by the gated delta rule. `qkv` gives queries, keys and values, in Qwen3-Next the gate too.

    `repeats`: key heads serve several value heads each.
    """

    qkv: Linear
    z: Linear | None
    b: Linear
    a: Linear | None
    out: Linear
    norm: Norm
    repeats: bool
    state: ClassVar[tuple[str, ...]] = ("b", "Hv", "dk", "dv")

    def tensors(self) -> Tensors:
        """The convolution, two numbers per head, and the projections."""
        own = (Extra(f"linear_attn.{name}", ("Hv",)) for name in ("dt_bias", "A_log"))
        linears = filter(None, (self.qkv, self.z, self.b, self.a, self.out))
        return (*_convolution("linear_attn.conv1d", bias=False), *own, *linears, self.norm)


@dataclass(frozen=True, slots=True)
class SplitDeltaNet(Mixer):
    """The gated delta rule with a projection each for queries, keys, values, decay, beta and the gate (OLMo Hybrid).

    `doubles`: beta goes from 0 to 2 (`linear_allow_neg_eigval`). `repeats` as DeltaNet's.
    """

    q: Linear
    k: Linear
    v: Linear
    a: Linear
    b: Linear
    gate: Linear
    out: Linear
    norm: Norm
    repeats: bool
    doubles: bool
    state: ClassVar[tuple[str, ...]] = ("b", "Hv", "dk", "dv")

    def tensors(self) -> Tensors:
        """The convolution, two numbers per head, and the projections."""
        own = (Extra(f"linear_attn.{name}", ("Hv",)) for name in ("A_log", "dt_bias"))
        linears = (self.q, self.k, self.v, self.a, self.b, self.gate, self.out)
        return (*_convolution("linear_attn.conv1d", bias=False), *own, *linears, self.norm)


@dataclass(frozen=True, slots=True)
class Mamba2(Mixer):
    """A state-space layer in the place of attention. `in_` gives gate, hidden states, B, C and step widths.

    `name` is the mixer's module: its convolution and its numbers per head have no Linear of their own.
    """

    name: str
    in_: Linear
    out: Linear
    norm: Norm
    conv_bias: bool
    state: ClassVar[tuple[str, ...]] = ("b", "Hm", "dp", "n")

    def tensors(self) -> Tensors:
        """The convolution, three numbers per head, and the projections."""
        own = (Extra(f"{self.name}.{name}", ("Hm",)) for name in ("dt_bias", "A_log", "D"))
        return (*_convolution(f"{self.name}.conv1d", bias=self.conv_bias), *own, self.in_, self.norm, self.out)


@dataclass(frozen=True, slots=True)
class GatedConvolution(Mixer):
    """A short convolution between two gates (LFM2). `in_` gives the two gates and what is convolved."""

    name: str
    in_: Linear
    out: Linear
    conv_bias: bool
    scans: ClassVar[bool] = False

    def tensors(self) -> Tensors:
        """The convolution and the projections."""
        return (*_convolution(f"{self.name}.conv", bias=self.conv_bias), self.in_, self.out)

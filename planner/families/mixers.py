"""What a layer may have in the place of softmax attention: a state that goes from token to token."""

from dataclasses import dataclass

from planner.families.basics import Linear, Norm


@dataclass(frozen=True, slots=True)
class DeltaNet:
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
    window: bool = False
    softcap: bool = False


@dataclass(frozen=True, slots=True)
class Mamba2:
    """A state-space layer in the place of attention. `in_` gives gate, hidden states, B, C and step widths.

    `name` is the mixer's module: its convolution and its numbers per head have no Linear of their own.
    """

    name: str
    in_: Linear
    out: Linear
    norm: Norm
    conv_bias: bool
    window: bool = False
    softcap: bool = False

"""Everything but numbers that decides which tensors a step makes: dtypes, kernels, targets.

Two runs with equal switches make the same tensors, only larger or smaller; the trace is shared between them.
"""

from dataclasses import dataclass
from typing import Literal

from planner.request.objective import Objective
from planner.request.parallelism import SequenceBy
from planner.request.peft_types import PeftType
from planner.step.passes import ONE_PASS, Pass

Kernel = Literal["flash", "cudnn", "mem_efficient", "math", "eager", "flash_attention_2"]
Storage = Literal["4bit", "int8", "hqq", "packed", "fp8"]


# The dimension that counts the trained rows of an embedding.
TRAINED_ROWS = "trained tokens"
# Those that count AdaLoRA's matrices and their numbers, of all layers together.
ADALORA_TENSORS, ADALORA_ELEMENTS = "AdaLoRA matrices", "numbers of AdaLoRA matrices"
ADALORA_SQUARES = "numbers of AdaLoRA matrices' products"


def rotated_blocks(width: str) -> str:
    """The dimension that counts OFT's blocks of an input of `width`."""
    return f"blocks of {width}"


def block_of(width: str) -> str:
    """The dimension of one of them."""
    return f"block of {width}"


def angles_of(width: str) -> str:
    """The dimension of the numbers above its diagonal."""
    return f"angles of {width}"


def rank_dim(name: str) -> str:
    """The dimension of a rank that one projection has for itself."""
    return f"r of {name}"


@dataclass(frozen=True, slots=True)
class LayerSwitches:
    """What varies from one kind of layer to the next.

    `adapters` names the projections that carry one, `fused` those whose 4-bit product needs no expanded weight.
    `masked`: a mask tensor exists for this layer. `grouped`: several query heads share keys and values,
    `one_group`: all of them; `expands`: these are then repeated per query head. `by_head`: queries and keys lie head by
    head in memory, as a concatenation leaves them, and not token by token. `splits_keys`: flash sums its output up in
    parts of the keys. `wide_values`: a head's values are wider than the memory-efficient kernel keeps in registers.
    `pads_mask`: the rows of that kernel's mask are no multiple of 8.
    """

    kernel: Kernel
    masked: bool
    grouped: bool
    one_group: bool
    expands: bool
    softcap: bool
    windowed: bool
    by_head: bool
    splits_keys: bool
    wide_values: bool
    pads_mask: bool
    dropout: bool
    adapters: frozenset[str]
    fused: frozenset[str]


@dataclass(frozen=True, slots=True)
class Outside:
    """The same two sets for projections that belong to no layer."""

    adapters: frozenset[str] = frozenset()
    fused: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Copies:
    """Whole modules that are trained as copies beside the adapters, by the names that a model's parts have.

    `width`: bytes per element. `embedding`, `head`: whether they are among them,
    `tied`: as one tensor.
    """

    names: frozenset[str] = frozenset()
    width: int = 0
    embedding: bool = False
    head: bool = False
    tied: bool = False


@dataclass(frozen=True, slots=True)
class LigerPatches:
    """Which of the model's own parts Liger's kernels replace; its fused head is a loss of its own."""

    rope: bool = False
    rms_norm: bool = False
    swiglu: bool = False
    cross_entropy: bool = False


@dataclass(frozen=True, slots=True)
class LigerHead:
    """`casts`: autocast's dtype is another than the weights'. `adds_in_place`: products are added to the weight's
    gradient by one kernel, which wants compute capability 8.0 and logits in 16 bit, of the gradient's own dtype or
    under a float32 one.
    """

    casts: bool = False
    adds_in_place: bool = True


@dataclass(frozen=True, slots=True)
class Unsloth:
    """What Unsloth's own layers ask beside the rest. `offloads`: the layers' inputs wait on the host, but for the last
    layer's; `tiled_loss`: its cross entropy goes through the vocabulary in tiles, not in rows of all logits, or
    `several_chunks` of them.
    """

    offloads: bool
    tiled_loss: bool
    several_chunks: bool


@dataclass(frozen=True, slots=True)
class Switches:
    """The recipe without its numbers. Widths are those of planner/step/engine/widths.py, bytes per element;
    `autocast` is 2 or 0 (none).

    `residual` is what embeddings and norms are held in, and so the width of the residual stream.
    `loops_experts`: the card is too old for grouped_mm (compute capability 8.0).
    Whether Liger's norms overwrite the incoming gradient, and whether it replaces q and k norms and the rotation,
    differs by model.
    `collated`: the stack's collator adds an attention mask of ones. `packed`: it joins documents in one row instead,
    and says where each begins. `noisy`: NEFTune adds noise to the embedded tokens.
    `expanded` is the dtype bitsandbytes expands a 4-bit weight to in the backward pass (quant_state.dtype).
    `gathers_experts`: each token has copies of its experts' weights. `float16`: whether products are in float16.
    `biases`: which of the linear layers' own are trained beside the adapters.
    `trains_tokens`: some rows of the embedding are trained, and put among the others anew in each forward;
    `merges_head`: in the head, too, which is the embedding.
    `ranks`: projections whose adapters have a rank of their own.
    `peft_type`: which of PEFT's methods the adapters are; `scaled_inputs`: where IA3 scales what a projection is given.
    `one_chunk`, `filled_up`: a scan in chunks has but one, and fills its last one with zeros.
    `keeps_inputs`: products with frozen weights save their input, too (deepspeed/runtime/zero/linear.py
    LinearFunctionForZeroStage3).
    `offloads`: what is saved waits on the host, by TRL's offloading (engine/offloading.py): the dimensions that tell
    what is too small for it, up to the number where nothing is.
    `sequence_by`, `sequence_parts`: sequences are cut over cards, and attention goes round; with `gathers_parts` keys
    and values of all of them come at once.
    `qat_group`: how many weights share a scale where layers are fake-quantized, else 0.
    `passes`: the forwards of a micro-batch; `leading`: the kinds of first layers that another pass of them has.
    """

    layers: tuple[LayerSwitches, ...]
    storage: Storage | None
    double_quant: bool
    float16: bool
    model: int
    residual: int
    compute: int
    expanded: int
    autocast: int
    adapter: int
    has_adapters: bool
    trains_base: bool
    dropout: bool
    dora: bool
    checkpointing: bool
    reentrant: bool
    loss: str
    liger: LigerPatches
    liger_in_place: bool
    liger_head_norms: bool
    liger_rotary: bool
    outputs_kept: bool
    accumulates: bool
    collated: bool
    one_sequence: bool
    padded: bool
    packed: bool = False
    noisy: bool = False
    outside: Outside = Outside()
    copies: Copies = Copies()
    biases: Literal["none", "all", "lora_only"] = "none"
    trains_tokens: bool = False
    merges_head: bool = False
    ranks: frozenset[str] = frozenset()
    peft_type: PeftType = "LORA"
    scaled_inputs: frozenset[str] = frozenset()
    liger_head: LigerHead = LigerHead()
    loops_experts: bool = False
    one_chunk: bool = False
    filled_up: bool = False
    gathers_experts: bool = False
    objective: Objective = "sft"
    passes: tuple[Pass, ...] = ONE_PASS
    leading: int | None = None
    unsloth: Unsloth | None = None
    keeps_inputs: bool = False
    offloads: tuple[tuple[str, int], ...] | None = None
    sequence_by: SequenceBy | None = None
    sequence_parts: int = 1
    gathers_parts: bool = True
    qat_group: int = 0

    def rank(self, name: str) -> str:
        """The dimension that is the rank of this projection's adapter."""
        return rank_dim(name) if name in self.ranks else "r"

    def trains(self, name: str) -> bool:
        """Whether this part of the model is trained itself, or a copy of it."""
        return self.trains_base or name in self.copies.names

    def held(self, name: str) -> int:
        """Bytes per element of this part's weights, where they are not quantized."""
        return self.copies.width if name in self.copies.names else self.residual

    @property
    def trains_embedding(self) -> bool:
        """Whether the embedding's weight has a gradient, or some rows of it."""
        return self.trains_base or self.copies.embedding or self.trains_tokens

    @property
    def trains_head(self) -> bool:
        """Whether the output head's weight has one."""
        return self.trains_base or self.copies.head

    @property
    def head_width(self) -> int:
        """Bytes per element of the output head that is multiplied by."""
        return self.copies.width if self.copies.head else self.residual

    @property
    def leading_kinds(self) -> int:
        """The first layer, and one kind for each up to that of the first layer that trains something.

        Kinds are numbered in the order in which they first occur. Where the embedded tokens require a gradient, or the
        first layer trains something, only that layer is unlike its like.
        """
        if self.leading is not None:
            return self.leading
        if self.biases == "all":
            return 1
        trains = next((kind for kind, layer in enumerate(self.layers) if layer.adapters), 0)
        return 1 if self.checkpointing or self.trains_embedding or not trains else trains + 2

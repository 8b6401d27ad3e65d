"""The QLoRA chapter's arithmetic, quoted as it stands: 0.5 N, N/64, 2 r (d + k), in decimal gigabytes.

It is shown beside our own numbers, never mixed with them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from planner.answer.planned import Planned
from planner.request.schema import Request

FP16_BYTES_PER_PARAM = 2
QUANTIZED_PARAMS_PER_BYTE = 2
PARAMS_PER_CONSTANT_BYTE = 64
ADAPTER_BYTES_PER_PARAM = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Textbook:
    """What the chapter's formulas give for a model; activations, gradients and optimizer are not in them."""

    fp16_bytes: int
    weights_bytes: int
    constants_bytes: int
    adapters_bytes: int

    @property
    def total_bytes(self) -> int:
        """Quantized weights, constants and adapters together."""
        return self.weights_bytes + self.constants_bytes + self.adapters_bytes

    @property
    def reduction_fraction(self) -> float:
        """Share of the fp16 weights that quantization saves."""
        return 1 - self.total_bytes / self.fp16_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleRow:
    """One row of the chapter's example table, in its own decimal gigabytes and per cent.

    `model` is the model that the size stands for: a catalogue id, or a config.
    """

    size: str
    params: int
    model: str | dict[str, Any]
    full_gb: int
    qlora_gb: int
    reduction_percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnNumbers:
    """What this planner says about the same model: batch 1, length `EXAMPLE_LENGTH`, the chapter's configuration."""

    row: ExampleRow
    params: int
    full_bytes: int
    loaded_bytes: int
    peak_allocated_bytes: int

    @property
    def reduction_fraction(self) -> float:
        """Share of the 16-bit weights that the whole QLoRA step saves."""
        return 1 - self.peak_allocated_bytes / self.full_bytes


# LLaMA (2023), table 2 of the paper; widths as in the converted checkpoints' config.json.
_LLAMA_65B = {
    "_name_or_path": "llama-65b",
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 22016,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}

EXAMPLE_LENGTH = 512
EXAMPLE_TABLE = tuple(
    ExampleRow(size=size, params=params * 10**9, model=model, full_gb=full, qlora_gb=qlora, reduction_percent=reduction)
    for size, params, model, full, qlora, reduction in (
        ("7B", 7, "huggyllama/llama-7b", 14, 5, 64),
        ("13B", 13, "huggyllama/llama-13b", 26, 9, 65),
        ("33B", 33, "huggyllama/llama-30b", 66, 19, 71),
        ("65B", 65, _LLAMA_65B, 130, 33, 75),
    )
)

EXPLANATION = (
    "412: QLoRA applies 4 bits to every parameter; output head, embeddings and norms stay in 16 bit.",
    "N/64 counts one byte per block of 64. Double quantization needs N/64 + N/4096 and 2.5 KiB of tables per layer; "
    "without it the constants are N/16, four times as much.",
    "2 r (d + k) is two bytes per adapter parameter. PEFT keeps adapters in float32: four bytes, and as many for "
    "gradients; optimizer state comes on top.",
    "Activations, logits, the expanded 16-bit weight of the layer at work and CUDA's context are not in the formulas. "
    "The example table is higher than the formulas because it includes some of them; it does not say for what "
    "length and batch.",
    "The GB of 412: QLoRA are 10^9 bytes; a card's GiB are 2^30.",
)


def textbook(params: int, adapted: Iterable[tuple[int, int, int]] = (), rank: int = 16) -> Textbook:
    """The chapter's numbers for `params` parameters and adapters on `adapted` weights (d, k, how many)."""
    return Textbook(
        fp16_bytes=FP16_BYTES_PER_PARAM * params,
        weights_bytes=params // QUANTIZED_PARAMS_PER_BYTE,
        constants_bytes=params // PARAMS_PER_CONSTANT_BYTE,
        adapters_bytes=sum(ADAPTER_BYTES_PER_PARAM * rank * (d + k) * count for d, k, count in adapted),
    )


def exercise() -> Textbook:
    """The chapter's 13B exercise: r = 16 on two 5120 x 5120 projections (q, v) of 40 layers."""
    return textbook(13 * 10**9, [(5120, 5120, 2 * 40)], rank=16)


def example_rows(plan: Callable[[Request], Planned], gpu: str = "h200") -> tuple[OwnNumbers, ...]:
    """The example table's models planned by us. The card only decides kernels; all four fit on the default."""
    rows = []
    for row in EXAMPLE_TABLE:
        answer = plan(Request.parse({"model": row.model, "gpu": gpu, "training": {"max_length": EXAMPLE_LENGTH}}))
        rows.append(
            OwnNumbers(
                row=row,
                params=answer.model.params,
                full_bytes=FP16_BYTES_PER_PARAM * answer.model.params,
                loaded_bytes=sum(line.bytes for line in answer.lines if {"load", "loss"} <= set(line.alive_in)),
                peak_allocated_bytes=answer.peak_allocated_bytes,
            )
        )
    return tuple(rows)

"""What one weight occupies in each storage kind, in allocator bytes (every tensor rounded up to 512).

N = output rows, K = input columns, n = N K elements.
"""

from dataclasses import dataclass

from planner.units import allocated, ceil_div

# bitsandbytes 0.50.2, nn/modules.py Params4bit: blocksize 64; functional.py quantize_4bit: nested blocksize 256.
BLOCK_ELEMENTS = 64
NESTED_BLOCK_ELEMENTS = 256
# functional.py get_4bit_type: 16 float32 per weight. create_dynamic_map: 256 float32, copied per weight and kept once.
CODE_TABLE_BYTES = 16 * 4
DYNAMIC_MAP_BYTES = 256 * 4
OFFSET_BYTES = 4


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored weight. `transient_bytes` exist beside it only while the loader makes it."""

    values_bytes: int
    statistics_bytes: int = 0
    tables_bytes: int = 0
    transient_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """What stays on the card."""
        return self.values_bytes + self.statistics_bytes + self.tables_bytes


def dense(elements: int, itemsize_bytes: int) -> Stored:
    """A plain tensor of `elements` numbers."""
    return Stored(allocated(elements * itemsize_bytes))


def four_bit(elements: int, *, double_quantization: bool, load_itemsize_bytes: int) -> Stored:
    """nf4 or fp4 through bitsandbytes: both pack two values a byte and keep one float32 maximum per 64.

    Values ceil(n/2). Without double quantization the maxima are float32, 4 ceil(n/64). With it they are one byte
    each, plus a float32 maximum per 256 of them, a 256-entry map and a scalar offset. While it is made, the weight
    in load dtype is alive, and with double quantization the float32 maxima and their centred copy too.
    Exact: equal to a real CPU quantization (bitsandbytes 0.50.2, functional.py quantize_4bit).
    """
    blocks = ceil_div(elements, BLOCK_ELEMENTS)
    values_bytes = allocated(ceil_div(elements, 2))
    source_bytes = allocated(elements * load_itemsize_bytes)
    if not double_quantization:
        return Stored(values_bytes, allocated(4 * blocks), allocated(CODE_TABLE_BYTES), source_bytes)
    nested_bytes = allocated(4 * ceil_div(blocks, NESTED_BLOCK_ELEMENTS))
    return Stored(
        values_bytes=values_bytes,
        statistics_bytes=allocated(blocks) + nested_bytes,
        tables_bytes=allocated(CODE_TABLE_BYTES) + allocated(DYNAMIC_MAP_BYTES) + allocated(OFFSET_BYTES),
        transient_bytes=source_bytes + 2 * allocated(4 * blocks),
    )


def eight_bit(rows: int, columns: int, *, load_itemsize_bytes: int) -> Stored:
    """LLM.int8: one int8 per element and one float32 scale (SCB) per row; `CB` is the weight itself, not a copy.

    The loader keeps the weight in load dtype while it makes a float16 copy (nn/modules.py, Int8Params._quantize).
    """
    elements = rows * columns
    return Stored(
        values_bytes=allocated(elements),
        statistics_bytes=allocated(4 * rows),
        transient_bytes=allocated(elements * load_itemsize_bytes) + allocated(2 * elements),
    )


def packed(rows: int, columns: int, *, bits: int, group_size: int, orders_groups: bool) -> Stored:
    """GPTQ and AWQ as gptqmodel keeps them: values packed into int32; per group a float16 scale and a zero point.

    A group is `group_size` input columns of one row, all of them for -1. `orders_groups`: GPTQ keeps an int32 per
    column that says which group it is of. Source: gptqmodel 7.7 nn_modules/qlinear, qweight, qzeros, scales, g_idx.
    """
    groups = rows * (ceil_div(columns, group_size) if group_size > 0 else 1)
    return Stored(
        values_bytes=allocated(ceil_div(rows * columns * bits, 8)),
        statistics_bytes=allocated(2 * groups) + allocated(ceil_div(groups * bits, 8)),
        tables_bytes=allocated(4 * columns) if orders_groups else 0,
    )


def float8(rows: int, columns: int, *, block: tuple[int, int] | None) -> Stored:
    """FP8: a byte per element and a float32 scale per block, or one for the whole weight.

    Source: transformers 5.23 integrations/finegrained_fp8.py FP8Linear.
    """
    scales = ceil_div(rows, block[0]) * ceil_div(columns, block[1]) if block else 1
    return Stored(values_bytes=allocated(rows * columns), statistics_bytes=allocated(4 * scales))


def group_wise_int4(elements: int, *, group_size: int, compute_itemsize_bytes: int) -> Stored:
    """HQQ: two values a byte, one scale and one zero point in compute dtype per `group_size` elements.

    Why HQQ and not torchao: PEFT 0.21.2 refuses torchao's Int4Tensor (tuners/lora/torchao.py, "only supports int8
    weights for now") and transformers 5.23 marks torchao as trainable for 8 bit only (quantizers/quantizer_torchao.py
    is_trainable), while HqqLoraLinear (tuners/lora/hqq.py) trains. transformers 5.23 cannot load with HqqConfig
    ("not available yet"), so such a run quantizes through hqq's own AutoHQQHFModel, 0.2.8.
    Both were run on CPU. While a layer is made, its solver holds up to six half-precision copies of the weight
    (hqq/core/optimize.py: W_f, W_q, W_r, W_e and two temporaries).
    """
    groups = ceil_div(elements, group_size)
    return Stored(
        values_bytes=allocated(ceil_div(elements, 2)),
        statistics_bytes=2 * allocated(groups * compute_itemsize_bytes),
        transient_bytes=6 * allocated(2 * elements),
    )

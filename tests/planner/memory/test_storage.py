"""Every figure here was read off a real tensor: bitsandbytes 0.50.2 and hqq 0.2.8 on CPU."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.tensors.storage_formats import dense, eight_bit, four_bit, group_wise_int4

SIZES = st.integers(1, 1 << 28)


def test_nf4_with_double_quantization_is_six_tensors() -> None:
    stored = four_bit(256 * 688, double_quantization=True, load_itemsize_bytes=2)
    assert stored.values_bytes == 88_064  # packed
    assert stored.statistics_bytes == 3_072 + 512  # 2,752 one-byte maxima; 11 float32 maxima of those
    assert stored.tables_bytes == 512 + 1_024 + 512  # 16-entry code, 256-entry code, offset
    assert stored.transient_bytes == 2 * 256 * 688 + 2 * 11_264  # bfloat16 source, float32 maxima twice


def test_without_double_quantization_the_maxima_stay_float32() -> None:
    stored = four_bit(256 * 688, double_quantization=False, load_itemsize_bytes=2)
    assert stored.total_bytes == 88_064 + 11_264 + 512


@pytest.mark.parametrize(
    ("rows", "columns", "bits"), [(4096, 4096, 4.12793), (1024, 4096, 4.1309), (14336, 4096, 4.12723)]
)
def test_bits_per_weight_match_what_was_measured(rows: int, columns: int, bits: float) -> None:
    stored = four_bit(rows * columns, double_quantization=True, load_itemsize_bytes=2)
    assert 8 * stored.total_bytes / (rows * columns) == pytest.approx(bits, abs=1e-3)


def test_int8_keeps_one_float32_scale_per_row_and_no_second_copy() -> None:
    stored = eight_bit(384, 128, load_itemsize_bytes=2)
    assert (stored.values_bytes, stored.statistics_bytes, stored.tables_bytes) == (49_152, 1_536, 0)


def test_hqq_keeps_a_scale_and_a_zero_point_per_group() -> None:
    stored = group_wise_int4(256 * 704, group_size=64, compute_itemsize_bytes=2)
    assert (stored.values_bytes, stored.statistics_bytes) == (1408 * 64, 2 * 5_632)


@given(SIZES)
def test_double_quantization_saves_on_all_but_tiny_weights(elements: int) -> None:
    """Its tables take 2 KiB and its maxima of maxima 512 bytes; the maxima it shrinks save 3 bytes of 4 per block."""
    double = four_bit(elements, double_quantization=True, load_itemsize_bytes=2)
    single = four_bit(elements, double_quantization=False, load_itemsize_bytes=2)
    assert double.total_bytes <= single.total_bytes + 2_048
    if elements >= 64 * 1_024:
        assert double.total_bytes <= single.total_bytes


@given(SIZES)
def test_four_bit_is_smaller_than_eight_and_eight_than_sixteen(elements: int) -> None:
    four = four_bit(elements, double_quantization=False, load_itemsize_bytes=2).values_bytes
    assert four <= eight_bit(1, elements, load_itemsize_bytes=2).values_bytes <= dense(elements, 2).values_bytes

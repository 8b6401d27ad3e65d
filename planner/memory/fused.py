"""Does bitsandbytes multiply a 4-bit weight as it is, or expand it first? Its own rules, as plain conditions.

Source: bitsandbytes 0.50 backends/cuda/ops.py, _gemm_4bit_use_custom_cuda. Each rule gives the largest number of
tokens that is not expanded; `tests/planner/step/test_fused.py` holds them to the rule itself.
"""

from typing import NamedTuple

from planner.gpu import Gpu, multiprocessors
from planner.units import ceil_div

Capability = tuple[int, int]

ALWAYS_FUSED_TOKENS = 4  # _GEMM_4BIT_CUSTOM_FLOOR_M
MOST_FUSED_TOKENS = 1536  # _gemm_4bit_custom_max_m
_SIMT_TOKENS = 7
_LARGE_WEIGHT_MOST_TOKENS = 512
_ABSMAX_BLOCK = 64
_SMALL_WEIGHT = 4 * 1024 * 1024


class _Case(NamedTuple):
    """`m` tokens by an `n` x `k` weight on a card with `sms` multiprocessors; `blocks` is n in steps of 64."""

    m: int
    n: int
    k: int
    blocks: int
    sms: int
    capability: Capability

    def waves(self, times: int) -> bool:
        """Whether the output keeps every multiprocessor busy `times` times over."""
        return self.blocks >= self.sms * times


def fused_four_bit(m: int, n: int, k: int, dtype: str, gpu: Gpu) -> bool:
    """Whether the product needs no expanded weight. A card of unknown capability is taken for an Ada one (8.9)."""
    capability = gpu.compute_capability or (8, 9)
    if m > MOST_FUSED_TOKENS or k % _ABSMAX_BLOCK:
        return False
    if m <= ALWAYS_FUSED_TOKENS:
        return True
    if not _has_tensor_kernel(dtype, capability):
        return m <= _SIMT_TOKENS
    return m <= _most_tokens(_Case(m, n, k, ceil_div(n, 64), multiprocessors(gpu), capability))


def _has_tensor_kernel(dtype: str, capability: Capability) -> bool:
    """The kernel for eight tokens and more: half precision from 8.0, float16 alone on 7.5."""
    if dtype == "float32" or capability < (7, 5):
        return False
    return capability[0] > 7 or dtype == "float16"


def _most_tokens(case: _Case) -> int:
    if case.capability == (8, 7) or case.capability[0] == 11:
        return 0
    if case.capability[0] == 10:
        return _blackwell_data_centre(case)
    if case.n * case.k < _SMALL_WEIGHT:
        return _small(case)
    if case.m <= _SIMT_TOKENS:
        return 0 if _tiled_wins(case) else _SIMT_TOKENS
    default = _hopper if case.capability[0] == 9 else _ada
    return min(_LARGE_WEIGHT_MOST_TOKENS, _LARGE.get(case.capability, default)(case))


def _blackwell_data_centre(case: _Case) -> int:
    if case.waves(3):
        return 32
    return 8 if case.waves(1) and case.k < case.n else 0


def _small(case: _Case) -> int:
    """Weights under 4 Mi elements, where expanding costs more than multiplying."""
    hbm = case.capability[0] == 9 or case.capability == (8, 0)
    if case.k * 2 < case.n:
        return _short(case, hbm)
    quarter = case.blocks * 4 <= case.sms
    if case.capability == (8, 0) and quarter:
        return (32 if case.blocks * 8 <= case.sms else 128) if case.k >= case.n else 384
    if case.capability == (7, 5) and not case.waves(1) and case.m > 8:
        return 64
    if quarter:
        return 32 if case.k < case.n or hbm else 23
    return 16 if case.blocks * 2 <= case.sms else 0


def _short(case: _Case, hbm: bool) -> int:
    if hbm:
        low, high = (1536, 512) if case.capability == (8, 0) else (512, 320)
        return low if case.blocks * 3 < case.sms else high
    if case.capability == (7, 5):
        if case.waves(3) or case.k < 704:
            return 320
        return 64 if case.k >= 1024 else 96
    return 320 if case.waves(1) or case.blocks * case.k <= case.sms * 320 else 192


def _tiled_wins(case: _Case) -> bool:
    """Five to seven tokens: the fused kernel but for two shapes on cards with high-bandwidth memory."""
    hopper, ampere = case.capability[0] == 9, case.capability == (8, 0)
    if not (hopper or ampere) or case.m < 6 or case.blocks < (36 if hopper else 48):
        return False
    under_three_quarters, under_six_tenths = case.blocks * 4 < case.sms * 3, case.blocks * 5 < case.sms * 3
    if case.k > case.n:
        return under_three_quarters
    if case.k == case.n:
        return under_six_tenths if ampere else under_three_quarters and not under_six_tenths
    return False


def _turing(case: _Case) -> int:
    if case.waves(3):
        return 128 if case.k < case.n else 64
    return 64 if case.blocks >= case.sms // 2 else 32


def _ampere(case: _Case) -> int:
    if case.waves(1):
        return 128 if case.waves(3) else 64 if case.k < case.n else 32
    tall = case.k >= case.n * 3 and case.blocks * 4 > case.sms
    square = case.k == case.n and case.blocks >= 48 and case.blocks * 5 < case.sms * 3
    half = case.blocks * 2 < case.sms
    if tall or square or (half and case.k > case.n and case.blocks * 3 >= case.sms):
        return 0
    if half and case.k <= case.n:
        return 128
    return 128 if case.blocks >= case.sms // 2 and case.k < case.n else 16


def _ga102(case: _Case) -> int:
    return 128 if case.waves(1) else 64 if case.blocks >= case.sms // 2 else 16


def _hopper(case: _Case) -> int:
    for times, most in ((3, 64), (2, 48), (1, 32)):
        if case.waves(times):
            return most
    starved = case.k >= case.n and case.blocks * 4 < case.sms * 3
    return 16 if case.blocks >= case.sms // 2 and not starved else 0


def _blackwell(case: _Case) -> int:
    for times, most in ((3, 256), (2, 128)):
        if case.waves(times):
            return most
    if case.blocks * 5 >= case.sms * 4:
        return 96 if case.k >= case.n else 64
    if case.blocks >= case.sms // 2:
        return 64 if case.k * 2 >= case.n and case.blocks >= 128 else 8
    return 16 if case.k > case.n * 2 and case.blocks > 64 else 8


def _spark(case: _Case) -> int:
    return 256 if case.waves(1) else _ada(case)


def _ada(case: _Case) -> int:
    tall = case.k > case.n * 2
    for times, most in ((3, 256), (2, 128)):
        if case.waves(times):
            return most
    if case.blocks * 5 >= case.sms * 4:
        return 128 if tall or case.blocks >= 200 or (case.k >= case.n and case.sms >= 60) else _near_wave(case)
    if case.blocks >= case.sms // 2:
        return 64 if tall else 8 if case.blocks >= 64 else 32
    if case.k > case.n and case.blocks <= 48:
        return 12 if case.k >= case.n * 3 else 10
    return 16 if tall or case.blocks < 48 else 8


def _near_wave(case: _Case) -> int:
    return 32 if case.k >= case.n else 64


_LARGE = {(7, 5): _turing, (8, 0): _ampere, (8, 6): _ga102, (12, 0): _blackwell, (12, 1): _spark}

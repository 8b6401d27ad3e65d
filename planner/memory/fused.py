"""Does bitsandbytes multiply a 4-bit weight as it is, or expand it first? Its own rules, as plain conditions.

Source: bitsandbytes 0.50 backends/cuda/ops.py, _gemm_4bit_use_custom_cuda. `m` tokens, `n` x `k` weight; `blocks` is
n in steps of 64, `sms` the card's streaming multiprocessors. Each rule gives the largest m that is not expanded.
"""

from planner.units import ceil_div

# Streaming multiprocessors of the commonest card of each compute capability (NVIDIA data sheets: V100, T4, A100,
# 3090, 4090, H100 SXM, B200, RTX 5090).
MULTIPROCESSORS = {
    (7, 0): 80, (7, 5): 40, (8, 0): 108, (8, 6): 82, (8, 9): 128, (9, 0): 132, (10, 0): 148, (12, 0): 170,
}  # fmt: skip
DEFAULT_MULTIPROCESSORS = 108

ALWAYS_FUSED_TOKENS = 4  # _GEMM_4BIT_CUSTOM_FLOOR_M
MOST_FUSED_TOKENS = 1536  # _gemm_4bit_custom_max_m
_SIMT_TOKENS = 7
_ABSMAX_BLOCK = 64
_SMALL_WEIGHT = 4 * 1024 * 1024

Capability = tuple[int, int]


def fused_four_bit(m: int, n: int, k: int, dtype: str, capability: Capability | None) -> bool:
    """Whether the product needs no expanded weight. A card of unknown capability is taken for an Ada one (8.9)."""
    capability = capability or (8, 9)
    if m > MOST_FUSED_TOKENS or k % _ABSMAX_BLOCK:
        return False
    if m <= ALWAYS_FUSED_TOKENS:
        return True
    major, minor = capability
    halves = (7, 5) <= capability and dtype != "float32" and (major > 7 or dtype == "float16")
    if not halves:
        return m <= _SIMT_TOKENS
    if capability == (8, 7) or major == 11:
        return False
    sms = MULTIPROCESSORS.get(capability, DEFAULT_MULTIPROCESSORS)
    blocks = ceil_div(n, 64)
    if major == 10:
        return m <= _blackwell_data_centre(n, k, blocks, sms)
    if n * k < _SMALL_WEIGHT:
        return m <= _small(m, n, k, blocks, sms, capability)
    if m <= _SIMT_TOKENS:
        return not _tiled_wins(m, n, k, blocks, sms, capability)
    return m <= min(512, _large(n, k, blocks, sms, capability))


def _blackwell_data_centre(n: int, k: int, blocks: int, sms: int) -> int:
    if blocks >= sms * 3:
        return 32
    return 8 if blocks >= sms and k < n else 0


def _small(m: int, n: int, k: int, blocks: int, sms: int, capability: Capability) -> int:
    """Weights under 4 Mi elements, where expanding costs more than multiplying."""
    hbm = capability[0] == 9 or capability == (8, 0)
    if k * 2 < n:
        return _short(k, blocks, sms, capability, hbm)
    quarter = blocks * 4 <= sms
    if capability == (8, 0) and quarter:
        return (32 if blocks * 8 <= sms else 128) if k >= n else 384
    if capability == (7, 5) and blocks < sms and m > 8:
        return 64
    if quarter:
        return 32 if k < n or hbm else 23
    return 16 if blocks * 2 <= sms else 0


def _short(k: int, blocks: int, sms: int, capability: Capability, hbm: bool) -> int:
    if hbm:
        low_wave = blocks * 3 < sms
        if capability == (8, 0):
            return 1536 if low_wave else 512
        return 512 if low_wave else 320
    if capability == (7, 5):
        if blocks >= sms * 3 or k < 704:
            return 320
        return 64 if k >= 1024 else 96
    return 320 if blocks >= sms or blocks * k <= sms * 320 else 192


def _tiled_wins(m: int, n: int, k: int, blocks: int, sms: int, capability: Capability) -> bool:
    """Five to seven tokens: the fused kernel but for two shapes on cards with high-bandwidth memory."""
    hopper, ampere = capability[0] == 9, capability == (8, 0)
    if not (hopper or ampere) or m < 6 or blocks < (36 if hopper else 48):
        return False
    under_three_quarters, under_six_tenths = blocks * 4 < sms * 3, blocks * 5 < sms * 3
    if k > n:
        return under_three_quarters
    if k == n:
        return under_six_tenths if ampere else under_three_quarters and not under_six_tenths
    return False


def _large(n: int, k: int, blocks: int, sms: int, capability: Capability) -> int:
    if capability == (7, 5):
        if blocks >= sms * 3:
            return 128 if k < n else 64
        return 64 if blocks >= sms // 2 else 32
    if capability == (8, 0):
        return _ampere(n, k, blocks, sms)
    if capability == (8, 6):
        return 128 if blocks >= sms else 64 if blocks >= sms // 2 else 16
    if capability[0] == 9:
        return _hopper(n, k, blocks, sms)
    if capability == (12, 1) and blocks >= sms:
        return 256
    if capability == (12, 0):
        return _blackwell(n, k, blocks, sms)
    return _ada(n, k, blocks, sms)


def _ampere(n: int, k: int, blocks: int, sms: int) -> int:
    if blocks >= sms * 3:
        return 128
    if blocks >= sms:
        return 64 if k < n else 32
    if (k >= n * 3 and blocks * 4 > sms) or (k == n and blocks >= 48 and blocks * 5 < sms * 3):
        return 0
    if blocks * 2 < sms:
        if k <= n:
            return 128
        if blocks * 3 >= sms:
            return 0
    return 128 if blocks >= sms // 2 and k < n else 16


def _hopper(n: int, k: int, blocks: int, sms: int) -> int:
    for waves, most in ((3, 64), (2, 48), (1, 32)):
        if blocks >= sms * waves:
            return most
    if blocks >= sms // 2:
        return 0 if k >= n and blocks * 4 < sms * 3 else 16
    return 0


def _blackwell(n: int, k: int, blocks: int, sms: int) -> int:
    if blocks >= sms * 3:
        return 256
    if blocks >= sms * 2:
        return 128
    if blocks * 5 >= sms * 4:
        return 96 if k >= n else 64
    if blocks >= sms:
        return 64
    if blocks >= sms // 2:
        return 64 if k * 2 >= n and blocks >= 128 else 8
    return 16 if k > n * 2 and blocks > 64 else 8


def _ada(n: int, k: int, blocks: int, sms: int) -> int:
    tall = k > n * 2
    if blocks >= sms * 3:
        return 256
    if blocks >= sms * 2:
        return 128
    if blocks * 5 >= sms * 4:
        if tall or blocks >= 200:
            return 128
        return (128 if sms >= 60 else 32) if k >= n else 64
    if blocks >= sms // 2:
        return 64 if tall else 8 if blocks >= 64 else 32
    if k > n and blocks <= 48:
        return 12 if k >= n * 3 else 10
    return 16 if tall or blocks < 48 else 8

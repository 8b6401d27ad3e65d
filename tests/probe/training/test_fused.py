"""Our table of bitsandbytes' rule against the rule itself."""

import random
from dataclasses import replace

import pytest
import torch
from bitsandbytes.backends.cuda import ops

from planner.catalog import find_gpu, search_gpus
from planner.memory.fused import fused_four_bit

TOKENS = [1, 4, 5, 6, 7, 8, 9, 16, 17, 24, 33, 48, 64, 65, 100, 128, 192, 256, 320, 384, 512, 513, 1000, 1536, 1537]
WIDTHS = [64, 256, 512, 768, 1024, 1536, 2048, 2560, 3072, 4096, 5120, 8192, 11008, 14336, 28672]


# `_gemm_4bit_custom_max_m` in the CUDA branch of the same file: past it the dense product always wins.
MOST_FUSED_TOKENS = 1536


def test_the_fused_kernel_is_chosen_as_bitsandbytes_chooses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = ops._gemm_4bit_use_custom_cuda.__wrapped__
    chance = random.Random(7)
    known = [card.gpu for card in search_gpus() if card.gpu and (card.gpu.compute_capability or (0, 0)) >= (7, 0)]
    cards = [*known, *(replace(known[0], compute_capability=capability) for capability in ((8, 7), (12, 1)))]
    for _ in range(20_000):
        gpu = chance.choice(cards)
        capability = gpu.compute_capability or (8, 9)
        m, n, k = chance.choice(TOKENS), chance.choice(WIDTHS), chance.choice(WIDTHS)
        dtype = chance.choice(["float16", "bfloat16", "float32"])
        card = (gpu.multiprocessors, *capability)
        monkeypatch.setattr(ops, "_gpu_dispatch_props", lambda _, card=card: card)
        small = k % 64 == 0 and m <= MOST_FUSED_TOKENS
        theirs = small and rule(0, getattr(torch, dtype), m, n, k)
        assert fused_four_bit(m, n, k, dtype, gpu) == theirs, (gpu.id, m, n, k, dtype)


def test_an_unknown_card_is_taken_for_an_ada_one() -> None:
    ada = find_gpu("rtx-4090")
    unknown = replace(ada, compute_capability=None)
    assert fused_four_bit(200, 28672, 4096, "bfloat16", unknown) == fused_four_bit(200, 28672, 4096, "bfloat16", ada)

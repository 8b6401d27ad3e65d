"""What a card's tensor cores do at most, from its generation, its multiprocessors and its boost clock.

Floating-point operations per multiprocessor and clock, dense, 16-bit inputs, sums in 32 bit, of each generation of
NVIDIA's; GeForce cards sum in 32 bit at half the rate. The rates were written from memory of the architecture
whitepapers. With the catalogue's boost clocks they give NVIDIA's own figures for A100 (312 TFLOP/s), RTX 3090 (71),
RTX 4090 (165) and T4 (65), and more than those for L4 (125, NVIDIA says 121) and H100 SXM (1,070, NVIDIA says 989),
which are rated at lower clocks.
"""

_PER_CLOCK = {(7, 0): 1024, (7, 5): 1024, (8, 0): 2048, (8, 6): 1024, (8, 9): 1024, (9, 0): 4096, (12, 0): 1024}
_HALVED = "GeForce"


def half_flops(
    name: str, capability: tuple[int, int] | None, multiprocessors: int | None, boost_mhz: int | None
) -> int | None:
    """Operations a second of 16-bit products; None where a part is not known."""
    per_clock = _PER_CLOCK.get(capability) if capability else None
    if not per_clock or not multiprocessors or not boost_mhz:
        return None
    return per_clock * multiprocessors * boost_mhz * 1_000_000 // (2 if _HALVED in name else 1)

"""Pinned host memory: counted whole, filled only where values count."""

from tests.probe.values.programs import with_values

LOOK = """
    import resource
    large = torch.empty(1 << 28)  # a gibibyte that nobody fills
    pinned = large.pin_memory()
    answer["resident"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    answer["alike"] = pinned.is_pinned() and pinned.shape == large.shape and pinned.dtype == large.dtype
    answer["ids"] = torch.arange(1 << 20).pin_memory()[-1].item()
    answer["small"] = torch.full((1000,), 2.5).pin_memory().sum().item()
"""


def test_a_large_pinned_float_takes_no_host_memory_and_small_or_whole_numbers_are_true() -> None:
    seen = with_values(LOOK)
    assert seen["alike"]
    assert seen["resident"] < 1 << 30
    assert seen["ids"] == (1 << 20) - 1
    assert seen["small"] == 2500.0

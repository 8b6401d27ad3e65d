"""Whole numbers born of floats, and questions asked of floats."""

from tests.probe.values.programs import with_values

CHOICES = """
    scores = torch.randn(64, 8, device="cuda")
    experts = scores.topk(2).indices
    answer["per_expert"] = experts.flatten().bincount(minlength=8).tolist()
    answer["distinct"] = bool((experts[:, 0] != experts[:, 1]).all())
    answer["best"] = scores.argmax(-1).bincount(minlength=8).tolist()
    answer["rows"] = scores.argmax(0).tolist()
    answer["sorted"] = scores.sort(descending=True).indices.sort().values.tolist()
    answer["drawn"] = torch.multinomial(scores.softmax(-1), 3).sort().values.diff().min().item()
    answer["again"] = bool((scores.topk(2).indices == experts).all())
"""


def test_choices_are_even_distinct_in_range_and_the_same_at_every_call() -> None:
    seen = with_values(CHOICES)
    assert seen["per_expert"] == [16] * 8
    assert seen["best"] == [8] * 8
    assert seen["distinct"]
    assert all(0 <= row < 64 for row in seen["rows"])
    assert seen["sorted"] == [list(range(8))] * 64
    assert seen["drawn"] >= 1
    assert seen["again"]


def test_skewed_routing_sends_every_token_to_the_same_experts() -> None:
    seen = with_values(CHOICES, routing="skewed")
    assert sorted(seen["per_expert"]) == [0] * 6 + [64] * 2
    assert seen["distinct"]


def test_floats_are_healthy_whatever_their_memory_holds() -> None:
    seen = with_values(
        """
        # Memory that held whole numbers: minus one reads as NaN in every float type.
        residue = torch.full((1 << 16,), -1, device="cuda", dtype=torch.int32)
        floats = residue.view(torch.float32)
        weight = torch.nn.Parameter(floats)
        weight.grad = floats.clone()
        torch.nn.utils.clip_grad_norm_([weight], 1.0, error_if_nonfinite=True)
        answer |= dict(finite=bool(floats.isfinite().all()), nan=bool(floats.isnan().any()),
            infinite=bool(floats.isinf().any()), item=floats.sum().item(), read=floats[:4].tolist(),
            kept=floats[floats > 0].numel(), close=torch.allclose(floats, floats * 2))
        """
    )
    assert seen["finite"]
    assert seen["close"]
    assert not seen["nan"]
    assert not seen["infinite"]
    assert seen["item"] == 1.0
    assert seen["read"] == [1.0] * 4
    assert seen["kept"] == 1 << 16

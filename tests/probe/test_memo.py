"""Fake tensors that remember answer as torch's own do, to the byte and in the same order."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from planner.probe import fakes
from planner.probe.memo import RememberingFakes
from planner.probe.meters.events import Event
from tests.probe.tiny import request, watch

SETTINGS = {
    "checkpointed": {},
    "kept activations, dropout": {"training": {"gradient_checkpointing": False}, "lora": {"lora_dropout": 0.1}},
    "tiles of logits": {"stack": "trl"},
    "float32 adapters, reentrant": {"stack": "kbit", "training": {"use_reentrant": True}},
    "padded": {"training": {"padded": True, "optim": "paged_adamw_8bit"}},
    "dora": {"lora": {"r": 8, "use_dora": True}},
    "full": {"method": "full", "training": {"optim": "adamw_torch"}},
    "experts": {"model": "mixtral"},
    "convolutions": {"model": "gpt2", "stack": "loop"},
}


def told(events: list[Event]) -> list[object]:
    """The stream up to the save, with frees that follow each other in one set.

    Their order is that of sets of parameters, and what the save frees is how the interpreter clears away: neither is
    the same twice.
    """
    lines: list[object] = []
    for event in events:
        if event.action != "free":
            lines.append(event)
        elif lines and isinstance(lines[-1], set):
            lines[-1].add(event.block)
        else:
            lines.append({event.block})
        if event == Event("phase", label="save"):
            break
    return lines


@pytest.mark.parametrize("parts", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_run_allocates_and_frees_as_it_does_without_a_memory(
    parts: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(**parts)  # type: ignore[arg-type]  # the builder's own keywords
    remembered = watch(asked)
    monkeypatch.setattr(fakes, "RememberingFakes", lambda: FakeTensorMode(allow_non_fake_inputs=True))
    plain = watch(asked)
    assert told(remembered.events) == told(plain.events)


def described(tensor: torch.Tensor, source: torch.Tensor) -> tuple[object, ...]:
    shared = tensor.untyped_storage()._cdata == source.untyped_storage()._cdata
    shape = tuple(tensor.shape), tensor.stride(), tensor.storage_offset()
    return shape, tensor.dtype, tensor.device, shared, tensor is source, tensor.untyped_storage().nbytes()


def answers(mode: FakeTensorMode) -> list[list[tuple[object, ...]]]:
    """Each operator twice: the first answer is torch's, the second may be remembered."""
    rounds = []
    with mode:
        for _ in range(2):
            x = torch.empty(4, 6)
            made = [
                x.t(), x[1:, 2:], x.expand(3, 4, 6), *x.split(2), x + 1, x + 1.0, x > 1, x.add_(1), x.sum(), x.t() @ x,
                torch.empty_like(x), x.to(torch.bfloat16), x.to(torch.float32), x.contiguous(), x.t().contiguous(),
                x.unsqueeze_(0), torch.empty(0), torch.nn.functional.pad(x, (0, 2)),
            ]  # fmt: skip
            rounds.append([described(tensor, x) for tensor in made])
    return rounds


def test_a_remembered_answer_has_the_shape_the_storage_and_the_identity_of_torchs() -> None:
    first, second = answers(RememberingFakes())
    assert first == second
    assert [first, second] == answers(FakeTensorMode())


def test_a_tensor_that_was_given_another_storage_is_no_remembered_thing() -> None:
    with RememberingFakes():
        for _ in range(2):
            x, y = torch.empty(4), torch.empty(4)
            x.set_(y)
            assert x.untyped_storage()._cdata == y.untyped_storage()._cdata


def test_what_depends_on_a_value_is_asked_anew() -> None:
    with RememberingFakes():
        assert [torch.tensor(value).item() for value in (1.0, 2.0)] == [1.0, 2.0]

"""The proof that a run trained what it should, and that what it saved is what it trained."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from planner.probe.meters.live import LiveMeter
from planner.probe.training import save
from planner.probe.training.checks import (
    TrainingCheckError,
    fingerprints,
    verify_finite,
    verify_only_trainables_changed,
)
from planner.probe.training.save import AdapterSaveError, save_and_verify


def model() -> torch.nn.Module:
    linear = torch.nn.Linear(8, 8)
    linear.bias.requires_grad_(False)
    return linear


def test_training_the_weight_alone_passes() -> None:
    linear = model()
    before = fingerprints(linear)
    with torch.no_grad():
        linear.weight[3, 3] += 1e-6
    verify_only_trainables_changed(linear, before)


def test_a_frozen_parameter_that_moves_is_found() -> None:
    linear = model()
    before = fingerprints(linear)
    with torch.no_grad():
        linear.weight.add_(1)
        linear.bias[0] += 1
    with pytest.raises(TrainingCheckError, match="frozen parameter bias changed"):
        verify_only_trainables_changed(linear, before)


def test_a_trainable_parameter_that_stays_is_found() -> None:
    linear = model()
    with pytest.raises(TrainingCheckError, match="trainable parameter weight did not change"):
        verify_only_trainables_changed(linear, fingerprints(linear))


def test_two_swapped_values_are_a_change() -> None:
    linear = model()
    before = fingerprints(linear)
    with torch.no_grad():
        linear.weight[0] = linear.weight[0].flip(0)
    verify_only_trainables_changed(linear, before)


def test_a_loss_that_is_no_number_is_found() -> None:
    verify_finite(torch.tensor(2.0))
    with pytest.raises(TrainingCheckError, match="nan"):
        verify_finite(torch.tensor(float("nan")))


def adapted() -> torch.nn.Module:
    return get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 8)), LoraConfig(r=2, target_modules=["0"]))


def test_saved_adapters_are_read_back_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert save_and_verify(adapted()) == 2
    assert save_and_verify(model()) == 0
    loaded = save.load_file
    monkeypatch.setattr(save, "load_file", lambda path: {key: value + 1 for key, value in loaded(path).items()})
    with pytest.raises(AdapterSaveError, match="differ"):
        save_and_verify(adapted())


def test_the_live_meter_counts_storages_once_in_granules_until_the_last_view_is_gone() -> None:
    meter = LiveMeter()
    with meter:
        meter.begin("load")
        tensor = torch.zeros(100)
        view = tensor[:10]
        del tensor
        held = meter.live_bytes
        del view
        meter.begin("forward")
        with meter.on_host():
            host = torch.zeros(1000)
        meter.adopt(host)
    load, forward = meter.readings()
    assert held == 512
    assert (load.peak_allocated_bytes, load.resident_bytes) == (512, 0)
    assert (forward.peak_allocated_bytes, forward.resident_bytes) == (4096, 4096)

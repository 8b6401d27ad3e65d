"""Dry runs of checkpoints that exist: on a hub, in a folder, quantized already; and made-up ones beside real ones."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import BitsAndBytesConfig

from planner.errors import InvalidRequestError
from planner.measurement import Measurement
from planner.probe.__main__ import measured
from planner.probe.checkpoint.source import made_up
from planner.probe.measure import measure
from planner.probe.options import Options
from planner.probe.progress import Progress, Silence
from planner.probe.training.configs import config_of
from planner.probe.training.load import model_class_of
from planner.request.recipe import Recipe
from planner.request.schema import Request
from tests.probe import helper
from tests.probe.checkpoint.hub import REPOSITORY, Hub, hub_of
from tests.probe.tiny import MODELS, on_card, request

# Large enough that one matrix of it fills more than the first 100 kB, with which huggingface_hub begins.
WIDE = {"hidden_size": 512, "intermediate_size": 1024, "vocab_size": 4096}
FP8 = {"quant_method": "fp8", "weight_block_size": [32, 32]}
KINDS: dict[str, dict[str, Any]] = {
    "nested": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "4-bit": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "8-bit": {"load_in_8bit": True},
}


def quantized_request(kind: str, **parts: Any) -> Request:
    written = {"quant_method": "bitsandbytes", "bnb_4bit_compute_dtype": "bfloat16", **KINDS[kind]}
    return request(config={**WIDE, "quantization_config": written}, **parts)


def save(asked: Request, folder: Path, quantization: BitsAndBytesConfig | None = None) -> None:
    """Write a real checkpoint of the request's model; a quantized one is what transformers makes of the other."""
    config = config_of(asked, Recipe.of(asked))
    model_class = model_class_of(config)
    model_class(config).to(torch.bfloat16).save_pretrained(folder)
    if quantization is not None:
        read: Any = model_class.from_pretrained(folder, dtype=torch.bfloat16, quantization_config=quantization)
        (folder / "model.safetensors").unlink()
        read.save_pretrained(folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_of(tmp_path) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
        yield served


def named(asked: Request) -> Request:
    """As the command line sends a hub id on: with its config spelled out."""
    assert isinstance(asked.model, dict)
    return asked.model_copy(update={"model": {**asked.model, "_name_or_path": REPOSITORY}})


def on_hub(asked: Request, hub: Hub) -> Measurement:
    """Dry-run `asked` from the hub's headers, in a process of its own."""
    measurement: Measurement = helper.call(_measured_with, hub.address, named(asked))
    return measurement


def _measured_with(address: str, asked: Request) -> Measurement:
    os.environ["HF_ENDPOINT"] = address
    return measured(asked, Options(weights="hub"), Silence())


def loaded_and_trained(run: Measurement) -> list[tuple[str, int, int]]:
    """What is resident after each phase, and its peak; but not the load's own, whose threads race."""
    return [
        (phase.name, phase.resident_bytes, 0 if phase.name == "load" else phase.peak_allocated_bytes)
        for phase in run.phases
    ]


def same(one: Measurement, other: Measurement) -> bool:
    return loaded_and_trained(one) == loaded_and_trained(other)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_up_for_a_quantized_model_is_what_transformers_saves(kind: str, tmp_path: Path) -> None:
    asked = quantized_request(kind)
    written = BitsAndBytesConfig(**KINDS[kind], bnb_4bit_compute_dtype=torch.bfloat16)
    save(asked, tmp_path, written)
    config = config_of(asked, Recipe.of(asked))
    made = {tensor.name: tensor for tensor in made_up(config, Recipe.of(asked), written.to_dict())}
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(made) == set(file.keys())
        for name, tensor in made.items():
            if tensor.content is not None:  # the one tensor whose length is that of a number in it
                assert written_out(tensor.content) == written_out(bytes(file.get_tensor(name).tolist()))
            else:
                part = file.get_slice(name)
                assert (part.get_dtype(), tuple(part.get_shape())) == (tensor.dtype, tensor.shape)


def written_out(content: bytes) -> dict[str, Any]:
    """What bitsandbytes says of a weight, less the mean of its statistics, which a made-up one has none of."""
    return {key: value for key, value in json.loads(content).items() if key != "nested_offset"}


@pytest.mark.parametrize("kind", ["nested", "8-bit"])
def test_a_quantized_model_reads_the_same_made_up_in_a_folder_and_on_the_hub(
    kind: str, tmp_path: Path, hub: Hub
) -> None:
    asked = quantized_request(kind)
    save(asked, tmp_path, BitsAndBytesConfig(**KINDS[kind], bnb_4bit_compute_dtype=torch.bfloat16))
    invented = on_card(asked)
    assert invented.outcome == "ok"
    assert same(on_card(asked, weights=str(tmp_path)), invented)
    assert same(on_hub(asked, hub), invented)


def test_of_a_model_on_the_hub_headers_are_fetched_and_no_data(tmp_path: Path, hub: Hub) -> None:
    asked = request(config=WIDE)
    save(asked, tmp_path)
    assert same(on_hub(asked, hub), on_card(asked))
    assert hub.sent_bytes["model.safetensors"] < 0.02 * (tmp_path / "model.safetensors").stat().st_size


def test_a_checkpoint_in_many_files_is_read_file_by_file(tmp_path: Path, hub: Hub) -> None:
    asked = request(config=WIDE)
    config = config_of(asked, Recipe.of(asked))
    model_class_of(config)(config).to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="3MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert same(on_hub(asked, hub), on_card(asked))


def test_fp8_weights_are_dequantized_by_a_card_that_has_no_such_products() -> None:
    config = {"quantization_config": FP8}
    on_a_3090 = on_card(request(config=config, method="lora", gpu="rtx-3090"))
    plain = on_card(request(method="lora", gpu="rtx-3090"))
    resident = [next(phase for phase in run.phases if phase.name == "load") for run in (on_a_3090, plain)]
    assert on_a_3090.outcome == "ok"
    assert resident[0].resident_bytes == resident[1].resident_bytes


@pytest.mark.parametrize(
    ("written", "package"),
    [
        (FP8, "kernels"),
        ({"quant_method": "gptq", "bits": 4}, "optimum and gptqmodel"),
        ({"quant_method": "awq"}, "gptqmodel"),
    ],
)
def test_a_kind_that_transformers_needs_more_packages_for_is_refused_by_name(
    written: dict[str, Any], package: str
) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        measure(request(config={"quantization_config": written}), Options(), Progress())
    assert package in refusal.value.problems[0].message


@pytest.mark.parametrize(("weights", "words"), [("hub", "no config.json"), ("/nowhere", "a checkpoint in it")])
@pytest.mark.usefixtures("hub")
def test_weights_that_are_not_there_are_one_sentence(weights: str, words: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        measure(named(request()), Options(weights=weights), Progress())
    assert [problem.field for problem in refusal.value.problems] == ["--weights"]
    assert words in refusal.value.problems[0].message


def test_a_hub_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InvalidRequestError) as refusal:
        measure(named(request()), Options(weights="hub"), Progress())
    assert "cannot be fetched" in refusal.value.problems[0].message


def test_a_pasted_config_has_no_weights_on_the_hub() -> None:
    assert "_name_or_path" not in MODELS["llama"]
    with pytest.raises(InvalidRequestError) as refusal:
        measure(request(), Options(weights="hub"), Progress())
    assert "names no repository" in refusal.value.problems[0].message

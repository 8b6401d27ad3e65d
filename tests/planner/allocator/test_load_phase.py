"""Slack as torch 2.14's own allocator has it after loading on a virtual card."""

from dataclasses import replace
from typing import Any

import pytest

from planner import Request, plan
from planner.allocator.load_phase import load_into, play_load
from planner.allocator.python_pools import PythonPools
from planner.model.model import resolve_model
from planner.request.recipe import Recipe
from planner.tensors.inventory import Census
from planner.tensors.tensor_storage import place
from planner.units import MIB
from tests.planner.tiny import LLAMA, group, recipe

FP4 = {"load_in_4bit": True}


def slack_of(census: Census, **fields: object) -> tuple[int, int]:
    run = recipe(**fields)
    loaded = play_load(place(census, run), run)
    return loaded.loaded_slack_bytes, loaded.prepared_slack_bytes


def test_small_tensors_have_none() -> None:
    assert slack_of(LLAMA) == (0, 0)


def test_a_segment_of_its_own_is_rounded_to_two_mebibytes_and_not_cut_for_one_or_less() -> None:
    """Moved without the loader's block, 11.5 MiB of values sit in a segment of 12 MiB."""
    weight = group("model.layers.*.mlp.up_proj.weight", "linear", (23 * MIB // 1024, 1024), 3, quantizable=True)
    loaded, _ = slack_of((weight,), quantization={"quant_method": "hqq"})
    assert loaded == 3 * MIB // 2


@pytest.mark.parametrize(
    ("model", "stack", "mib"),
    [
        ("meta-llama/Llama-2-7b-hf", "trainer", 10.0),
        ("Qwen/Qwen2.5-7B", "trainer", 12.07),
        ("Qwen/Qwen2.5-1.5B", "kbit", 9.56),
        ("meta-llama/Llama-3.1-8B", "trainer", 4.5),
        ("mistralai/Mistral-7B-Instruct-v0.2", "trl", 4.5),
    ],
)
def test_the_loaders_order_leaves_what_torch_reads(model: str, stack: str, mib: float) -> None:
    _, prepared = slack_of(resolve_model(model).census, stack=stack)
    assert prepared / MIB == pytest.approx(mib, abs=0.01)


def test_expandable_segments_have_none() -> None:
    def has_slack(**training: object) -> bool:
        request = Request.parse({"model": "Qwen/Qwen2.5-7B", "gpu": "rtx-4090", "training": training})
        return any("slack" in line.name for line in plan(request).lines)

    assert has_slack()
    assert not has_slack(expandable_segments=True)


class Watched(PythonPools):
    """Pools that write down what is allocated, in bytes."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.asked: list[int] = []

    def allocate(self, size_bytes: int) -> int:
        self.asked.append(size_bytes)
        return super().allocate(size_bytes)


def loaded_sizes(census: Census) -> list[int]:
    """Bytes of each tensor that loading makes, after the block that is taken and freed first."""
    run, pools = recipe(method="lora"), Watched()
    load_into(pools, place(census, run), run)
    return pools.asked[1:]


def test_each_layer_is_loaded_with_the_tensors_it_has() -> None:
    """Attention in layer 1 alone, a mixer in 0 and 2."""
    attention = replace(group("model.layers.*.attn.weight", "linear", (1024, 2)), layers=(1,))
    mixer = replace(group("model.layers.*.mixer.weight", "linear", (1024, 4), 2), layers=(0, 2))
    norm = replace(group("model.layers.*.norm.weight", "norm", (1024,), 3), layers=range(3))
    assert loaded_sizes((attention, mixer, norm)) == [8192, 2048, 4096, 2048, 8192, 2048]


def test_experts_are_copied_one_by_one_stacked_and_joined() -> None:
    """Two experts whose gate and up are 512 x 4 in 16 bits."""
    gate_up = group("model.layers.*.mlp.experts.gate_up_proj", "expert", (2, 1024, 4))
    down = group("model.layers.*.mlp.experts.down_proj", "expert", (2, 4, 512))
    one, stacked = 4096, 8192
    assert loaded_sizes((down, gate_up)) == [one, one, stacked, *[one] * 4, stacked, stacked, 2 * stacked]


@pytest.mark.parametrize("model", ["Qwen/Qwen2.5-0.5B", "openai/gpt-oss-20b"])
@pytest.mark.parametrize(
    "asked", [{}, {"stack": "kbit"}, {"method": "lora"}, {"method": "full"}, {"quantization": {"load_in_8bit": True}}]
)
def test_loading_in_c_leaves_what_loading_in_python_leaves(model: str, asked: dict[str, object]) -> None:
    run = Recipe.of(Request.parse({"model": model, "gpu": "b200", **asked}))
    placed = place(resolve_model(model).census, run)
    in_c, in_python = play_load(placed, run), play_load(placed, run, new_pools=PythonPools)
    assert (in_c.loaded_slack_bytes, in_c.prepared_slack_bytes, in_c.pools.peak_reserved_bytes) == (
        in_python.loaded_slack_bytes, in_python.prepared_slack_bytes, in_python.pools.peak_reserved_bytes
    )  # fmt: skip

"""What a file asks for and no formula plans: never green, at any door."""

import re
from pathlib import Path

import httpx
import pytest

from app.cli import app
from planner.answer.not_planned import CardShare, FrozenCopy, NotPlanned
from planner.answer.plan import plan
from planner.request.schema import Request
from planner.units import GIB
from tests.site.terminal import invoke

LLAMA_3 = "meta-llama/Meta-Llama-3-8B"
WIDE_HEAD = f"""
model_name_or_path: {LLAMA_3}
stage: sft
finetuning_type: lora
lora_target: all
upcast_lmhead_output: true
packing: true
per_device_train_batch_size: 1
bf16: true
"""


def asked(**more: object) -> Request:
    return Request.parse({"model": LLAMA_3, "gpu": "h100-sxm-80gb", "method": "lora"} | more)


def test_a_plan_with_a_remainder_is_no_bare_fits() -> None:
    answer = plan(asked(), not_planned=[NotPlanned(key="torch_compile", value=True, why="other activations")])
    assert (answer.planned_verdict, answer.verdict) == ("fits", "tight")
    assert answer.to_dict()["not_planned"] == [{"key": "torch_compile", "value": True, "why": "other activations"}]
    assert answer.required_bytes == plan(asked()).required_bytes


def test_a_least_that_does_not_fit_is_said() -> None:
    request = asked(gpu="rtx-4090")
    assert plan(request).verdict == "fits"
    copied = NotPlanned(key="ref_model", value=LLAMA_3, why="a second model", least=FrozenCopy())
    assert plan(request, not_planned=[copied]).verdict == "does_not_fit"
    shared = NotPlanned(key="vllm_gpu_memory_utilization", value=0.9, why="vLLM's", least=CardShare(0.9))
    assert plan(request, not_planned=[shared]).verdict == "does_not_fit"


def test_what_may_save_memory_takes_the_no_back() -> None:
    request = asked(gpu="rtx-3060-12gb")
    assert plan(request).verdict == "does_not_fit"
    saving = NotPlanned(key="deepspeed", value="zero3.json", why="shards", saves=True)
    assert plan(request, not_planned=[saving]).verdict == "tight"


def test_the_terminal_says_what_was_planned_and_exits_3(tmp_path: Path) -> None:
    path = tmp_path / "run.yml"
    path.write_text(WIDE_HEAD)
    result = invoke(app, ["plan", str(path), "h100-sxm-80gb"])
    assert result.exit_code == 3
    assert "planned without upcast_lmhead_output" in result.stdout.splitlines()[0]


def test_the_page_says_it_in_the_verdict(site: httpx.Client) -> None:
    page = site.post("/import", data={"config": WIDE_HEAD, "gpu": "h100-sxm-80gb"}).text
    verdict = page[page.index('<section class="verdict') :].split("</section>")[0]
    assert "Fits only as planned here: without upcast_lmhead_output." in verdict
    assert "float32 logits twice" in verdict


def left_out(site: httpx.Client, config: str, gpu: str) -> tuple[str, dict[str, int]]:
    """The verdict on a file, and the least bytes of each key that it left out."""
    plan = site.post("/api/v1/imports", json={"config": config, "gpu": gpu}).json()["plan"]
    return plan["verdict"], {item["key"]: item.get("at_least_bytes", 0) for item in plan["not_planned"]}


def test_vllm_takes_its_share_of_the_card(site: httpx.Client) -> None:
    rloo = (
        "trl rloo --model_name_or_path Qwen/Qwen3-0.6B --use_peft --lora_target_modules q_proj --max_length 512 "
        "--per_device_train_batch_size 1 --use_vllm true --vllm_gpu_memory_utilization "
    )
    usable_bytes = plan(asked(gpu="rtx-4090")).usable_bytes
    verdict, least = left_out(site, rloo + "0.3", "rtx-4090")
    assert (verdict, least["use_vllm"]) == ("tight", round(0.3 * usable_bytes))
    assert left_out(site, rloo + "0.95", "rtx-4090")[0] == "does_not_fit"
    assert left_out(site, rloo + "0.95 --vllm_mode server", "rtx-4090")[1]["use_vllm"] == 0


def test_dpo_of_every_weight_has_a_reference_model_and_dpo_of_adapters_has_none(site: httpx.Client) -> None:
    dpo = "model_name_or_path: Qwen/Qwen3-0.6B\nstage: dpo\ncutoff_len: 512\nper_device_train_batch_size: 1\n"
    verdict, least = left_out(site, dpo + "finetuning_type: full\n", "h100-sxm-80gb")
    assert verdict == "tight"
    assert least["stage"] > 4 * 596_000_000
    _, adapters = left_out(site, dpo + "finetuning_type: lora\nlora_target: all\n", "h100-sxm-80gb")
    assert adapters["stage"] < 4 * 596_000_000


def test_dpo_runs_twice_as_many_sequences_at_least(site: httpx.Client) -> None:
    sft = (
        "model_name_or_path: Qwen/Qwen3-0.6B\ncutoff_len: 1024\nlora_target: all\nbf16: true\n"
        "per_device_train_batch_size: "
    )
    dpo = site.post("/api/v1/imports", json={"config": sft + "2\nstage: dpo\n", "gpu": "h100-sxm-80gb"}).json()
    twice = site.post("/api/v1/imports", json={"config": sft + "4\n", "gpu": "h100-sxm-80gb"}).json()
    assert dpo["plan"]["peak_allocated_bytes"] == twice["plan"]["peak_allocated_bytes"]


def test_the_link_of_an_imported_plan_is_no_bare_fits_either(site: httpx.Client) -> None:
    page = site.post("/import", data={"config": WIDE_HEAD, "gpu": "h100-sxm-80gb"}).text
    address = page.split('class="button" href="')[1].split('"')[0].replace("&amp;", "&")
    assert address.endswith("&not_planned=upcast_lmhead_output")
    linked = site.get(address).text
    verdict = linked[linked.index('<section class="verdict') :].split("</section>")[0]
    assert "Fits only as planned here: without upcast_lmhead_output." in verdict
    assert 'name="not_planned" value="upcast_lmhead_output"' in linked
    advised = linked.split('href="/map?')[1].split('"')[0].replace("&amp;", "&")
    assert advised.endswith("&not_planned=upcast_lmhead_output")
    assert site.get(f"/plan.json{address.removeprefix('/plan')}").json()["verdict"] == "tight"


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("finetuning_type: freeze\n", "finetuning_type"),
        ("quantization_bit: 3\nquantization_method: hqq\n", "quantization_bit"),
        ("quantization_bit: 8\nquantization_method: eetq\n", "quantization_method"),
        ("deepspeed: ds_z3.json\n", "deepspeed"),
    ],
)
def test_what_was_planned_in_its_place_is_said(site: httpx.Client, more: str, key: str) -> None:
    config = f"model_name_or_path: Qwen/Qwen3-0.6B\nlora_target: all\ncutoff_len: 512\nbf16: true\n{more}"
    verdict, least = left_out(site, config, "h100-sxm-80gb")
    assert verdict == "tight"
    assert key in least


def test_a_t4_with_xformers_and_cut_cross_entropy_is_planned_as_it_ran(site: httpx.Client) -> None:
    """Axolotl's own notebook logged a process of 13.70 GiB of a T4's 14.56 for these settings."""
    config = """
base_model: Qwen/Qwen3-14B
load_in_4bit: true
adapter: qlora
lora_r: 32
lora_alpha: 64
lora_target_modules: [q_proj, k_proj, v_proj, o_proj, gate_proj, down_proj, up_proj]
xformers_attention: true
plugins: [axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin]
sample_packing: true
sequence_len: 4096
micro_batch_size: 1
gradient_checkpointing: true
optimizer: paged_adamw_8bit
fp16: true
bf16: false
"""
    required = site.post("/api/v1/imports", json={"config": config, "gpu": "t4"}).json()["plan"]["required_bytes"]
    assert required["low"] < 14_710_262_988 < required["high"]


def test_axolotl_prepares_quantized_mixtures_whose_experts_turn_to_float32(site: httpx.Client) -> None:
    config = """
base_model: zai-org/GLM-4.7-Flash
load_in_4bit: true
adapter: qlora
lora_r: 32
lora_target_modules: [q_proj, v_proj, k_proj, o_proj]
sample_packing: true
sequence_len: 2048
micro_batch_size: 2
gradient_checkpointing: true
"""
    document = site.post("/api/v1/imports", json={"config": config, "gpu": "h200"}).json()
    assert document["request"]["stack"] == "kbit"
    assert document["plan"]["peak_allocated_bytes"] > 105 * GIB
    sixteen_bit = site.post("/api/v1/imports", json={"config": config + "quantize_moe_experts: true\n", "gpu": "l40s"})
    assert [item["key"] for item in sixteen_bit.json()["plan"]["not_planned"]] == ["quantize_moe_experts"]


QUESTION = "model=Qwen/Qwen3-0.6B&gpu=h100-sxm-80gb&method=full"


def test_no_square_of_the_map_and_no_card_simply_fits(site: httpx.Client) -> None:
    assert 'class="cell fits' in site.get(f"/map?{QUESTION}").text
    html = site.get(f"/map?{QUESTION}&not_planned=deepspeed").text
    assert set(re.findall(r'<a class="cell (\w+) ', html)) == {"tight"}
    assert 'class="meter fits"' not in html
    assert "This holds only as planned here: without deepspeed." in html


def test_no_method_side_by_side_simply_fits(site: httpx.Client) -> None:
    assert "tag fits" in site.get(f"/compare?{QUESTION}").text
    methods = site.get(f"/compare?{QUESTION}&not_planned=deepspeed").text
    assert "tag fits" not in methods
    assert methods.count("&amp;not_planned=deepspeed") >= 3
    two = site.get("/compare", params={"a": f"/plan?{QUESTION}&not_planned=deepspeed", "b": f"/plan?{QUESTION}"}).text
    assert (two.count("tag fits"), two.count("tag tight")) == (1, 1)

"""What a file asks for and no formula plans: never green, at any door."""

from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from app.cli import app
from planner.not_planned import CardShare, FrozenCopy, NotPlanned, WholeModules
from planner.plan import plan
from planner.request import Request
from planner.units import GIB

LLAMA_3 = "meta-llama/Meta-Llama-3-8B"
WHOLE = f"""
model_name_or_path: {LLAMA_3}
stage: sft
finetuning_type: lora
lora_target: all
additional_target: embed_tokens,lm_head
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


def test_whole_modules_are_counted_as_copies_with_gradients_and_moments_in_float32() -> None:
    item = NotPlanned(key="modules_to_save", value=[], why="", least=WholeModules(("embed_tokens", "lm_head")))
    request = asked(training={"optim": "adamw_torch"})
    weighed = plan(request, not_planned=[item]).not_planned[0]
    assert weighed.at_least_bytes == 16 * 2 * 128_256 * 4_096
    assert weighed.at_least_bytes / GIB == pytest.approx(15.66, abs=0.01)


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
    path.write_text(WHOLE)
    result = CliRunner().invoke(app, ["plan", str(path), "h100-sxm-80gb"])
    assert result.exit_code == 3
    assert "planned without additional_target" in result.stdout.splitlines()[0]


def test_the_page_says_it_in_the_verdict(site: httpx.Client) -> None:
    page = site.post("/import", data={"config": WHOLE, "gpu": "h100-sxm-80gb"}).text
    verdict = page[page.index('<section class="verdict') :].split("</section>")[0]
    assert "Fits only as planned here: without additional_target." in verdict
    assert "trains whole modules" in verdict

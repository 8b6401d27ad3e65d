"""The training stack asked for in the words people know, and what each of them amounts to."""

import re
from html import unescape

import httpx
import pytest

LLAMA = "model=meta-llama/Llama-3.1-8B&gpu=rtx-3060-12gb"


def stacks_beside(html: str) -> dict[str, str]:
    """Each stack beside the verdict with its plan's address."""
    found = re.search(r'<div class="stacks">(.*?)</div>', html, re.DOTALL)
    rows = re.findall(r'<a href="(/plan\?[^"]+)"[^>]*>([^<]+)</a>', found[1]) if found else []
    return {unescape(words): unescape(address) for address, words in rows}


@pytest.mark.parametrize(("word", "preset"), [("axolotl", "trainer"), ("llama-factory", "trainer"), ("trl", "trl")])
def test_a_trainers_name_is_the_stack_it_trains_on(site: httpx.Client, word: str, preset: str) -> None:
    plan = site.get(f"/plan.json?{LLAMA}&stack={word}").json()
    assert plan["request"]["stack"] == preset
    assert plan["peak_allocated_bytes"] == site.get(f"/plan.json?{LLAMA}&stack={preset}").json()["peak_allocated_bytes"]


def test_axolotl_prepares_a_quantized_mixture_of_experts(site: httpx.Client) -> None:
    plan = site.get("/plan.json?model=Qwen/Qwen3-30B-A3B&gpu=h200&stack=axolotl").json()
    assert plan["request"]["stack"] == "kbit"


def test_unsloth_is_planned_with_its_own_layers(site: httpx.Client) -> None:
    address = f"{LLAMA.replace('3060-12gb', '4090')}&stack=unsloth"
    html = site.get(f"/plan?{address}").text
    assert "Fits only as planned here" not in unescape(html)
    assert '<option value="unsloth" selected>' in html
    request = site.get(f"/plan.json?{address}").json()["request"]
    assert (request["stack"], request["training"]["gradient_checkpointing"]) == ("unsloth", "unsloth")


def test_what_unsloth_does_not_have_layers_for_is_said_at_the_stack(site: httpx.Client) -> None:
    html = unescape(site.get("/plan?model=google/gemma-3-1b-it&gpu=rtx-4090&stack=unsloth").text)
    assert "what it does with gemma3_text is not planned" in html


def test_the_word_stays_in_the_form_and_in_the_links_of_the_plan(site: httpx.Client) -> None:
    html = site.get(f"/map?{LLAMA}&stack=axolotl").text
    assert '<option value="axolotl" selected>' in html
    cells = re.findall(r'class="cell [^"]*" href="([^"]+)"', html)
    assert cells
    assert all("stack=axolotl" in cell for cell in cells)


def test_the_stacks_stand_beside_a_verdict_that_they_change(site: httpx.Client) -> None:
    rows = stacks_beside(site.get(f"/plan?{LLAMA}").text)
    assert set(rows) == {
        "TRL’s SFTTrainer", "transformers’ Trainer", "I call prepare_model_for_kbit_training", "my own loop", "Unsloth",
    }  # fmt: skip
    verdicts = {words: site.get(address.replace("/plan?", "/plan.json?")).json() for words, address in rows.items()}
    assert len({plan["verdict"] for plan in verdicts.values()}) > 1
    needed = [plan["required_bytes"]["likely"] for plan in verdicts.values()]
    assert needed == sorted(needed)


def test_stacks_that_agree_are_not_shown(site: httpx.Client) -> None:
    assert not stacks_beside(site.get(f"/plan?{LLAMA.replace('rtx-3060-12gb', 'h200')}").text)


def test_advice_is_grouped_by_what_it_costs(site: httpx.Client) -> None:
    html = site.get("/plan?model=Qwen/Qwen3-32B&gpu=rtx-4090").text
    kinds = re.findall(r'<th scope="rowgroup" colspan="4">([^<]+)', html)
    free, *others = kinds
    assert free == "The same training, for nothing"
    assert others == ["A cut", "A smaller model", "More of these cards", "Another card"]
    advice = html.partition('class="advice"')[2].partition("</section>")[0]
    assert ">–<" not in advice
    assert "−" in advice

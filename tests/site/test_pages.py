"""Through the front door: what the pages say, and with which status."""

import json
import re
import subprocess
import sys
from html import unescape

import httpx
import pytest

LLAMA = "model=meta-llama/Llama-3.1-8B&gpu=rtx-4090"
HTML = {"accept": "text/html"}
PAGES = (
    "/", f"/plan?{LLAMA}", f"/map?{LLAMA}", f"/compare?{LLAMA}", "/guide", "/models", "/gpus", "/recommend?gpu=3060",
    "/inference?context=8192", f"/plan?{LLAMA}&gpus=2", f"/plan?{LLAMA}&objective=dpo",
    "/import", "/probes", "/accuracy",
)  # fmt: skip


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).replace("\u202f", " ")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers(site: httpx.Client, path: str) -> None:
    answer = site.get(path)
    assert answer.status_code == 200
    assert "<h1" in answer.text


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_anything_that_the_policy_forbids(site: httpx.Client, path: str) -> None:
    html = site.get(path).text
    assert " style=" not in html
    assert "<style" not in html
    assert not re.search(r"\son\w+=", html)
    assert not re.search(r"<script(?![^>]*\bsrc=)", html)
    assert not re.search(r'(?:src|href)="https?://', html)


def test_the_empty_page_already_shows_a_real_plan(site: httpx.Client) -> None:
    said = text_of(site.get("/").text)
    assert "Fits, with" in said
    assert "Llama-3.1-8B needs" in said


def test_the_verdict_is_in_words_with_its_headroom(site: httpx.Client) -> None:
    plan = site.get(f"/plan.json?{LLAMA}").json()
    said = text_of(site.get(f"/plan?{LLAMA}").text)
    assert f"Fits, with {plan['headroom_bytes'] / 2**30:.1f} GiB to spare" in said


def test_a_plan_that_does_not_fit_says_by_how_much_and_links_to_what_would(site: httpx.Client) -> None:
    html = site.get(f"/plan?{LLAMA.replace('4090', '3060-12gb')}&max_length=8192&per_device_train_batch_size=4").text
    assert "Does not fit:" in text_of(html)
    advised = re.findall(r'<th scope="row"><a href="(/plan\?[^"]+)">', html)
    assert advised
    assert site.get(advised[0].replace("&amp;", "&")).status_code == 200


def test_the_lines_of_the_ledger_add_up_to_the_peak(site: httpx.Client) -> None:
    plan = site.get(f"/plan.json?{LLAMA}").json()
    html = site.get(f"/plan?{LLAMA}").text
    at_peak = html.split('class="elsewhere"')[0]
    shown = [int(number.replace(",", "")) for number in re.findall(r"<dt>Bytes</dt><dd><code>([\d,]+)", at_peak)]
    assert sum(shown) == plan["peak_allocated_bytes"]


def test_every_line_shows_formula_evidence_and_source(site: httpx.Client) -> None:
    plan = site.get(f"/plan.json?{LLAMA}").json()
    html = site.get(f"/plan?{LLAMA}").text
    assert html.count("<dt>Formula</dt>") == html.count("<dt>Source</dt>") == len(plan["lines"])
    labels = "exact|compared|not recorded|modelled|measured|allowance"
    assert len(re.findall(rf'class="evidence (?:{labels})"', html)) == len(plan["lines"])


def test_an_alias_is_as_good_as_an_id(site: httpx.Client) -> None:
    assert "Fits" in text_of(site.get("/plan?model=llama-3.1-8b&gpu=4090").text)


def test_bad_input_is_shown_at_its_field_and_the_rest_is_kept(site: httpx.Client) -> None:
    answer = site.get("/plan?model=meta-llama/Llama-3.1-8B&gpu=rtx-9999&max_length=-3&lora_r=abc&optim=sgd")
    assert answer.status_code == 422
    for name in ("gpu", "max_length", "lora_r"):
        assert re.search(rf'id="{name}-error">[^<]', answer.text), name
    assert 'value="-3"' in answer.text
    assert 'value="meta-llama/Llama-3.1-8B"' in answer.text
    assert '<option value="sgd" selected>' in answer.text
    assert "total_memory_bytes" not in answer.text


def test_a_model_nobody_knows_is_an_error_at_the_model(site: httpx.Client) -> None:
    answer = site.get("/plan?model=llamma-3.1-8b&gpu=rtx-4090")
    assert answer.status_code == 422
    assert re.search(r'id="model-error">[^<]', answer.text)


def test_a_name_that_nobody_knows_is_answered_with_links_that_keep_the_rest(site: httpx.Client) -> None:
    html = site.get("/map?model=lama+8b&gpu=4o90&max_length=4096").text
    meant = [unescape(link) for link in re.findall(r'<a href="(/map\?model=[^"]+)">', html)]
    assert any("model=meta-llama/Llama-3.1-8B&gpu=4o90&max_length=4096" in link for link in meant)
    assert any("gpu=rtx-4090" in link for link in meant)
    assert "total_memory_bytes" not in html


def test_unknown_keys_in_the_address_are_named(site: httpx.Client) -> None:
    assert "<code>max_lenght</code>" in site.get(f"/plan?{LLAMA}&max_lenght=4096").text


def test_what_a_person_types_is_never_markup(site: httpx.Client) -> None:
    answer = site.get("/plan", params={"model": "<script>alert(1)</script>", "gpu": '"><img src=x onerror=alert(1)>'})
    assert "<script>alert" not in answer.text
    assert "<img" not in answer.text


def test_a_pasted_config_is_a_plan_with_an_address(site: httpx.Client) -> None:
    config = {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
        "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000, "tie_word_embeddings": False,
    }  # fmt: skip
    answer = site.get("/plan", params={"config": json.dumps(config), "gpu": "t4"})
    assert answer.status_code == 200
    assert "Fits" in text_of(answer.text)


def test_a_config_that_is_no_config_is_an_error_at_its_field(site: httpx.Client) -> None:
    for text in ("[1, 2]", "{", "[" * 5000, '{"model_type": "nobody_knows_this"}'):
        answer = site.get("/plan", params={"config": text, "gpu": "t4"})
        assert answer.status_code == 422, text[:10]


def test_a_card_may_be_described_by_its_memory(site: httpx.Client) -> None:
    answer = site.get("/plan?model=meta-llama/Llama-3.1-8B&gpu_memory=20GiB&compute_capability=8.6")
    assert answer.status_code == 200
    assert "20.0 GiB" in text_of(answer.text)


def test_the_fragment_is_the_answer_alone(site: httpx.Client) -> None:
    answer = site.get(f"/plan?{LLAMA}", headers={"X-Fragment": "answer"})
    assert answer.text.lstrip().startswith('<div class="answer"')
    assert "X-Fragment" in answer.headers["vary"]
    assert answer.text.strip() in site.get(f"/plan?{LLAMA}").text


def test_a_plan_can_be_taken_away_as_json_and_markdown(site: httpx.Client) -> None:
    api = site.post("/api/v1/plans", json={"model": "meta-llama/Llama-3.1-8B", "gpu": "rtx-4090"}).json()
    assert site.get(f"/plan.json?{LLAMA}").json() == api
    markdown = site.get(f"/plan.md?{LLAMA}")
    assert markdown.headers["content-type"].startswith("text/markdown")
    assert markdown.text.startswith("# Fits")


def test_a_download_of_a_bad_plan_is_a_problem(site: httpx.Client) -> None:
    answer = site.get("/plan.json?model=meta-llama/Llama-3.1-8B&gpu=rtx-4090&max_length=0")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_map_links_every_cell_and_puts_the_smallest_card_that_fits_first(site: httpx.Client) -> None:
    html = site.get(f"/map?{LLAMA}").text
    cells = re.findall(r'<a class="cell (\w+) shade-\d" href="(/plan\?[^"]+)"', html)
    assert len(cells) >= 42
    assert html.count('aria-current="true"') == 1
    usable = re.findall(r'tag (\w+)">.*?<td class="num wide-only">([\d.,]+)', html, re.DOTALL)
    fitting = [float(size.replace(",", "")) for verdict, size in usable if verdict == "fits"]
    assert fitting == sorted(fitting)
    verdicts = [verdict for verdict, _ in usable]
    assert verdicts == sorted(verdicts, key=["fits", "tight", "does_not_fit"].index)


def test_a_card_of_the_catalogue_keeps_nothing_of_one_described_by_hand(site: httpx.Client) -> None:
    html = site.get("/map?model=Qwen/Qwen2.5-0.5B&gpu=mine&gpu_memory=24GiB&compute_capability=8.6").text
    links = re.findall(r'href="(/plan\?[^"]*gpu=rtx-4090[^"]*)"', html)
    assert links
    assert not [link for link in links if "compute_capability" in link or "gpu_memory" in link]


def test_the_map_says_how_far_the_run_can_be_stretched(site: httpx.Client) -> None:
    limits = site.get(f"/api/v1/limits?{LLAMA}").json()
    said = text_of(site.get(f"/map?{LLAMA}").text)
    batch, length = limits["per_device_train_batch_size"]["fits"], limits["max_length"]["fits"]
    assert f"a micro-batch of up to {batch:,} ; at this micro-batch a length of up to {length:,} ." in said


def test_a_cell_of_the_map_says_what_its_plan_says(site: httpx.Client) -> None:
    html = site.get(f"/map?{LLAMA}").text
    for verdict, link in re.findall(r'<a class="cell (\w+) shade-\d" href="/plan\?([^"]+)"', html)[::9]:
        assert site.get("/plan.json?" + link.replace("&amp;", "&")).json()["verdict"] == verdict


def test_a_cell_beyond_the_card_says_what_its_plan_needs_at_least(site: httpx.Client) -> None:
    html = site.get(f"/map?{LLAMA}&max_length=32768").text
    beyond = re.findall(r'<a class="cell does_not_fit shade-9" href="/plan\?([^"]+)"[^>]*>([\d.,]+)\+<', html)
    assert beyond
    for link, shown in beyond[::9]:
        required = site.get("/plan.json?" + link.replace("&amp;", "&")).json()["required_bytes"]
        assert abs(required["low"] / 2**30 - float(shown.replace(",", ""))) < 0.51


def test_three_methods_stand_side_by_side_with_their_reductions(site: httpx.Client) -> None:
    said = text_of(site.get(f"/compare?{LLAMA}").text)
    assert re.search(r"Full fine-tuning LoRA QLoRA", said)
    assert len(re.findall(r"−\d+ %", said)) == 2
    assert "Paged to the host" in said


def test_two_plans_by_their_addresses(site: httpx.Client) -> None:
    answer = site.get(
        "/compare", params={"a": f"/plan?{LLAMA}", "b": f"https://x.example/plan?{LLAMA}&max_length=8192"}
    )
    assert answer.status_code == 200
    assert "2048 8192" in text_of(answer.text)
    broken = site.get("/compare", params={"a": f"/plan?{LLAMA}", "b": "/plan?model=nobody&gpu=rtx-4090"})
    assert broken.status_code == 422
    assert 'id="b-error"' in broken.text


def test_the_guide_quotes_quality_as_a_claim_and_names_whose(site: httpx.Client) -> None:
    said = text_of(site.get("/guide").text).partition("And the quality?")[2]
    assert "quoted, not checked here" in said
    for claim in ("preserving full 16-bit finetuning task performance", "99.3% of the performance level of ChatGPT"):
        assert claim in said


def test_the_guide_follows_the_model_and_keeps_the_chapters_exercise(site: httpx.Client) -> None:
    said = text_of(site.get("/guide?model=Qwen/Qwen2.5-7B&gpu=rtx-4090").text)
    assert "Qwen2.5-7B" in said
    for number in ("26.0 GB", "6.5 GB", "0.20 GB", "0.026 GB", "73 %"):
        assert number in said


def test_catalogues_are_searched_by_words(site: httpx.Client) -> None:
    assert "rtx-4090" in site.get("/gpus?q=4090").text
    assert "meta-llama/Meta-Llama-3-8B" in site.get("/models?q=llama+3+8b").text
    assert "Ask the hub" in site.get("/models?q=nothing+like+this").text


def test_what_can_be_copied_works_where_it_is_pasted(site: httpx.Client) -> None:
    html = site.get(f"/plan?{LLAMA}&lora_r=32").text
    link, curl, command, python = (
        unescape(text) for text in re.findall(r'<pre id="copy-\d"[^>]*>(.*?)</pre>', html, re.DOTALL)
    )
    assert site.get(link).status_code == 200
    ran = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("fits")
    assert json.loads(subprocess.run(["sh", "-c", curl], capture_output=True, check=True).stdout)["verdict"] == "fits"
    script = command.replace("fitproof", f"{sys.executable} -m app.cli")
    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


def test_the_accuracy_page_shows_every_source_with_its_worst_run(site: httpx.Client) -> None:
    said = text_of(site.get("/accuracy").text)
    assert "Median error" in said
    assert "dry run only" in said


def test_an_address_that_does_not_exist_has_a_page_for_people(site: httpx.Client) -> None:
    answer = site.get("/nowhere", headers=HTML)
    assert answer.status_code == 404
    assert "Nothing lives here" in answer.text


def test_what_breaks_here_has_a_page_for_people_and_a_problem_for_programs(
    site: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        msg = "the secret cause"
        raise RuntimeError(msg)

    monkeypatch.setattr("app.views.probe.pages.list_probes", broken)
    page = site.get("/probes", headers=HTML)
    assert page.status_code == site.get("/probes").status_code == 500
    assert "<h1>Something broke here" in page.text
    assert "secret cause" not in page.text
    assert site.get("/probes").headers["content-type"] == "application/problem+json"


def test_words_of_two_lines_of_a_template_stay_apart(site: httpx.Client) -> None:
    lead = re.search(r'<p class="lead">(.*?)</p>', site.get("/").text, re.DOTALL)
    assert lead
    said = " ".join(re.sub(r"<[^>]+>", "", lead[1]).split())
    assert re.search(r"gives torch\. The peak comes in the \w+ pass\.$", said), said


def test_markdown_holds_quotes_as_they_are(site: httpx.Client) -> None:
    config = '{"model_type": "gemma3_text", "_name_or_path": "an \'odd\' name"}'
    text = site.get("/plan.md", params={"config": config, "gpu": "rtx-4090"}).text
    assert "an 'odd' name" in text
    assert "&#39;" not in text

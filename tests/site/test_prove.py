"""A probe from the plan's page to its answer, live in a browser. The engine is a fake; everything else is real."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from app.engines.base import Status
from app.main import create_app
from app.security.tokens import create_token
from app.settings import Settings
from tests.app.serving import served
from tests.service.fakes import fake_probe
from tests.service.fakes.fake_engine import CPU, H100, FakeEngine
from tests.service.forking import forked_template

PLAN = "/plan?model=HuggingFaceTB/SmolLM2-135M&gpu=h100-sxm-80gb"
FORM = {"plan": PLAN.partition("?")[2], "instrument": "dry-run"}


@dataclass
class Bench:
    """A site with one fake engine at hand."""

    engine: FakeEngine
    client: httpx.Client

    def job(self) -> str:
        """The ref of the newest attempt, once the dispatcher has handed it over."""
        deadline = time.monotonic() + 10
        while not self.engine.submits:
            assert time.monotonic() < deadline, "nothing was submitted"
            time.sleep(0.01)
        return self.engine.submits[-1]

    def say(self, *lines: dict[str, object]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        self.engine.output[self.job()] = self.engine.output.get(self.job(), b"") + text.encode()

    def end(self, instrument: str, behaviour: int = fake_probe.QUICK) -> None:
        request = {"model": "HuggingFaceTB/SmolLM2-135M", "gpu": "h100-sxm-80gb", "training": {"max_length": 2048}}
        self.say(fake_probe.measurement(request, instrument, behaviour))
        self.engine.states[self.job()] = Status("succeeded")


@pytest.fixture
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("prove"), hub_offline=True, local_access=True)
    engine = FakeEngine(workers=(CPU, H100))
    with served(create_app(settings, [engine], forked_template)) as client:
        yield Bench(engine, client)


@pytest.fixture
def live(bench: Bench, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(base_url=str(bench.client.base_url))
    yield context.new_page()
    context.close()


def order(live: Page, instrument: str) -> None:
    live.goto(PLAN)
    live.get_by_label("Instrument").select_option(instrument)
    live.get_by_role("button", name="Prove it").click()
    expect(live).to_have_url(re.compile(r"/probes/\w+$"))


def test_a_dry_run_is_watched_to_its_end_and_stands_beside_the_plan(live: Page, bench: Bench) -> None:
    order(live, "dry-run")
    bench.say({"stage": "load", "index": 0, "seconds": 0.1})
    expect(live.locator('[aria-current="step"]')).to_contain_text("Loading the weights")
    bench.say({"stage": "step", "index": 2, "seconds": 0.5})
    expect(live.locator('[aria-current="step"]')).to_contain_text("Training step 2")
    live.reload()
    expect(live.locator('[aria-current="step"]')).to_contain_text("Training step 2")
    bench.end("dry-run")
    expect(live.locator("#verdict")).to_have_text(
        re.compile(r"It fits\. Counted: 5.00.GiB at the peak in the backward pass; .* of \d+\.\d.GiB")
    )
    expect(live.locator(".verdict.fits")).to_contain_text("virtual card, which counts memory and computes nothing")
    expect(live.locator(".verdict")).to_contain_text("seconds")
    expect(live.get_by_role("heading", name="Why they differ")).to_be_visible()
    picture = live.get_by_role("img", name=re.compile("^The peak by module: layers.mlp 4.00.GiB; embed"))
    expect(picture).to_be_visible()
    expect(live.locator("figcaption", has_text="The peak by module")).to_contain_text("5.00")
    expect(live.get_by_role("status")).to_contain_text("Counted")
    live.get_by_role("link", name="Back to the plan").click()
    peak = live.locator(".textbook-beside tr", has_text="Peak, allocated").locator("td")
    expect(peak.nth(2)).to_contain_text("5.00")
    expect(live.locator(".verdict")).to_contain_text("A dry run of exactly this plan peaked at 5.00")


def test_the_ranks_of_several_cards_stand_on_the_page(live: Page, bench: Bench) -> None:
    live.goto(f"{PLAN}&gpus=2&method=full&fsdp=full_shard&optim=adamw_torch_fused")
    expect(live.locator(".prove")).to_contain_text("each rank on a card of its own")
    live.get_by_role("button", name="Prove it").click()
    expect(live.get_by_role("heading", level=1)).to_contain_text("on 2 cards")
    read = {"outcome": "ok", "peak_allocated_bytes": 5 << 30, "peak_reserved_bytes": 6 << 30}
    ranks = [{"rank": rank, **read} for rank in (0, 1)]
    request = {"model": "HuggingFaceTB/SmolLM2-135M", "gpu": "h100-sxm-80gb", "training": {"max_length": 2048}}
    bench.say(fake_probe.measurement(request, "dry-run", fake_probe.QUICK) | {"ranks": ranks})
    bench.engine.states[bench.job()] = Status("succeeded")
    rows = live.get_by_role("region", name="Each rank").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("6.00")


def test_the_cards_of_one_process_are_not_called_ranks(live: Page, bench: Bench) -> None:
    asked = {"model": "HuggingFaceTB/SmolLM2-135M", "gpu": "h100-sxm-80gb", "training": {"max_length": 512}}
    ordered = {**asked, "method": "lora", "gpus": 2, "device_map": "auto", "instrument": "dry-run"}
    made = bench.client.post("/api/v1/probes", json=ordered)
    assert made.status_code == 202, made.text
    read = {"outcome": "ok", "peak_allocated_bytes": 5 << 30, "peak_reserved_bytes": 6 << 30}
    cards = [{"rank": number, **read} for number in (0, 1)]
    bench.say(fake_probe.measurement(asked, "dry-run", fake_probe.QUICK) | {"ranks": cards})
    bench.engine.states[bench.job()] = Status("succeeded")
    live.goto(f"/probes/{made.json()['id']}")
    region = live.get_by_role("region", name="Each card")
    expect(region.locator("tbody tr")).to_have_count(2)
    expect(region).to_contain_text("One process has all cards")


def phase(name: str, peak_bytes: int, *, ended: bool) -> dict[str, object]:
    line = {"phase": name, "peak_allocated_bytes": peak_bytes, "allocated_bytes": peak_bytes, "ended": ended}
    return line | {"seconds": 0.5}


def test_measured_bars_grow_beside_predicted_ones_and_survive_a_reload(live: Page, bench: Bench) -> None:
    order(live, "cuda")
    running = live.locator('.phases [aria-current="true"]')
    load = live.locator(".phases tbody tr", has_text="load")
    bench.say({"stage": "load", "index": 0, "seconds": 0.1}, phase("load", 40 << 20, ended=False))
    expect(running).to_contain_text("load")
    expect(load).to_contain_text("40.0")
    width = live.locator('[data-bar="load"]').get_attribute("width")
    bench.say(phase("load", 90 << 20, ended=True), phase("prepare", 95 << 20, ended=True))
    expect(load).to_contain_text("90.0")
    assert live.locator('[data-bar="load"]').get_attribute("width") != width
    bench.say({"stage": "step", "index": 1, "seconds": 0.6}, phase("first_forward", 110 << 20, ended=True))
    expect(running).to_contain_text("loss")
    live.reload()
    expect(running).to_contain_text("loss")
    expect(live.locator(".phases tbody tr")).to_have_count(6)
    expect(live.locator(".phases tr", has_text="forward")).to_contain_text("110")
    bench.say(phase("forward", 130 << 20, ended=True))
    expect(live.locator(".phases tr", has_text="forward")).to_contain_text("130")


def test_the_live_view_stands_in_nobodys_way(live: Page, bench: Bench) -> None:
    order(live, "cuda")
    bench.say({"stage": "load", "index": 0, "seconds": 0.1}, phase("load", 40 << 20, ended=False))
    expect(live.locator('.phases [aria-current="true"]')).to_contain_text("load")
    for media in ("light", "dark"):
        live.emulate_media(color_scheme=media, reduced_motion="reduce")
        for width in (1280, 390):
            live.set_viewport_size({"width": width, "height": 844})
            assert live.evaluate("document.documentElement.scrollWidth") <= width
            assert not Axe().run(live, options={"runOnly": ["wcag2a", "wcag2aa", "wcag22aa"]}).response["violations"]


def test_the_focus_stays_on_its_button_while_the_page_renews(live: Page, bench: Bench) -> None:
    order(live, "dry-run")
    live.get_by_role("button", name="Cancel").focus()
    bench.say(phase("load", 40 << 20, ended=False))
    expect(live.locator('.phases [aria-current="true"]')).to_contain_text("load")
    expect(live.get_by_role("button", name="Cancel")).to_be_focused()


def test_out_of_memory_is_an_answer_with_its_explanation(live: Page, bench: Bench) -> None:
    order(live, "cuda")
    bench.end("cuda", fake_probe.OUT_OF_MEMORY)
    expect(live.locator("#verdict")).to_have_text(
        re.compile(r"Out of memory in the backward pass, (512.MiB|0.50.GiB) short")
    )
    explained = re.compile(r"torch asked for one more block of 1.00.GiB with room for 512.MiB: 512.MiB short")
    expect(live.locator("#answer")).to_contain_text(explained)
    expect(live.locator("#answer")).to_contain_text("The formulas had foreseen")
    expect(live.locator(".phases .failed")).to_contain_text("out of memory")
    live.get_by_role("link", name="Back to the plan").click()
    expect(live.locator(".verdict")).to_contain_text("A real run on the GPU ran out of memory in the backward pass")


def test_a_probe_can_be_cancelled_from_its_page(live: Page, bench: Bench) -> None:
    order(live, "dry-run")
    bench.job()
    live.get_by_role("button", name="Cancel").click()
    expect(
        live.get_by_role("button", name="Ending…").or_(live.locator("#verdict", has_text="Cancelled"))
    ).to_be_visible()
    assert bench.client.get("/api/v1/probes").json()["items"][0]["cancel_requested"]


def test_without_javascript_the_page_renews_itself(bench: Bench) -> None:
    ordered = bench.client.post("/prove", data=FORM)
    assert ordered.status_code == 303
    html = bench.client.get(ordered.headers["location"]).text
    assert '<noscript><meta http-equiv="refresh"' in html
    bench.say(phase("load", 40 << 20, ended=False))
    deadline = time.monotonic() + 10
    while "40.0\u202fMiB" not in html:
        assert time.monotonic() < deadline, "the reload shows nothing new"
        html = bench.client.get(ordered.headers["location"]).text


def test_the_list_shows_probes_and_what_is_attached(bench: Bench) -> None:
    bench.client.post("/prove", data=FORM)
    html = bench.client.get("/probes").text
    assert "SmolLM2-135M" in html
    assert "NVIDIA H100" in html


def test_a_foreign_page_cannot_order_a_probe(bench: Bench) -> None:
    answer = bench.client.post("/prove", data=FORM, headers={"origin": "https://evil.example"})
    assert answer.status_code == 403


def test_a_model_no_formula_knows_is_offered_a_dry_run(site: httpx.Client) -> None:
    answer = site.get("/plan", params={"config": '{"model_type": "mamba2"}', "gpu": "t4"})
    assert answer.status_code == 422
    assert "Count it with a dry run" in answer.text


@pytest.mark.parametrize("model_type", ["nobody_knows_this", "bert", "t5"])
def test_a_model_that_transformers_builds_no_decoder_of_is_offered_none(site: httpx.Client, model_type: str) -> None:
    answer = site.get("/plan", params={"config": json.dumps({"model_type": model_type}), "gpu": "t4"})
    assert answer.status_code == 422
    assert "dry run" not in answer.text.split('<section class="verdict')[1].split("</section>")[0]


def test_elsewhere_a_token_is_asked_for_and_only_a_good_one_opens(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = Settings(data_dir=tmp_path_factory.mktemp("locked"), host="0.0.0.0", hub_offline=True)
    app = create_app(settings, [FakeEngine()], forked_template)
    with served(app) as client:
        asked = client.post("/prove", data=FORM)
        assert asked.status_code == 401
        assert "Probing needs a token" in asked.text
        client.headers["origin"] = str(client.base_url).rstrip("/")
        refused = client.post("/token", data={"token": "wrong", "onward": "/probes"})
        assert refused.status_code == 401
        good = create_token(app.state.service.database, "a test").secret
        opened = client.post("/token", data={"token": good, "onward": "//evil.example"})
        assert (opened.status_code, opened.headers["location"]) == (303, "/")
        assert {"httponly", "samesite=strict"} <= set(opened.headers["set-cookie"].lower().split("; "))
        assert client.post("/prove", data=FORM).status_code == 303

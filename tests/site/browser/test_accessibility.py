"""Every page in every width and scheme, held to WCAG by axe, in a real Chromium."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

LLAMA = "/plan?model=meta-llama/Llama-3.1-8B&gpu=rtx-4090"
PAGES = (
    "/", LLAMA, LLAMA.replace("4090", "3060-12gb") + "&max_length=8192", "/plan?model=nobody&gpu=nothing&lora_r=x",
    "/map", "/compare", "/compare?a=gpu=t4%26model=gpt2&b=gpu=t4%26model=gpt2%26lora_r=8", "/guide", "/models?q=llama",
    "/gpus?q=rtx+40", "/import", "/import?example=axolotl", "/probes", "/accuracy", "/nowhere",
    "/inference?batch=4", LLAMA + "&gpus=2&method=full&fsdp=full_shard", LLAMA + "&objective=dpo&stack=trl",
)  # fmt: skip
# WCAG 2.2 AA and what axe knows of good practice.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_its_window(browser: Browser, address: str, path: str) -> None:
    context = browser.new_context(base_url=address, viewport={"width": 320, "height": 844})
    page = context.new_page()
    page.goto(path)
    page.evaluate("document.querySelectorAll('details').forEach((hidden) => { hidden.open = true })")
    for width in (320, 390, 700):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


@pytest.mark.parametrize("width", [320, 390, 600, 1280])
def test_suggestions_stay_inside_the_window(browser: Browser, address: str, width: int) -> None:
    context = browser.new_context(base_url=address, viewport={"width": width, "height": 844})
    page = context.new_page()
    for path in ("/", "/guide", "/import"):
        page.goto(path)
        for name, typed in (("model", "llama"), ("gpu", "rtx")):
            page.locator(f"#{name}").fill(typed)
            expect(page.locator(f"#{name}-options")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, name)
            page.keyboard.press("Escape")
    context.close()


def violations(page: Page, path: str, rules: object) -> list[tuple[str, str, str]]:
    page.goto(path)
    page.evaluate("[...document.querySelectorAll('details')].slice(0, 4).forEach((hidden) => { hidden.open = true })")
    found = Axe().run(page, options={"runOnly": rules, "resultTypes": ["violations"]}).response["violations"]
    return [(path, violation["id"], node["html"][:160]) for violation in found for node in violation["nodes"][:3]]


def test_nothing_stands_in_the_way_of_anyone(page: Page) -> None:
    assert not [found for path in PAGES for found in violations(page, path, RULES)]


def test_dark_pages_and_phones_have_contrast_and_room(browser: Browser, address: str) -> None:
    phone = {"width": 390, "height": 844}
    context = browser.new_context(base_url=address, color_scheme="dark", viewport=phone, reduced_motion="reduce")
    page = context.new_page()
    rules = {"type": "rule", "values": ["color-contrast", "target-size", "scrollable-region-focusable"]}
    assert not [found for path in PAGES[1::2] for found in violations(page, path, rules)]
    context.close()

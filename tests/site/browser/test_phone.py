"""The pages on a phone, in a real Chromium: the answer first, one row of navigation, no name cut."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

WIDTHS = (320, 390)
LONG = "/plan?model=deepseek-ai/DeepSeek-R1-Distill-Qwen-32B&gpu=rtx-4090"


@pytest.fixture
def phone(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(base_url=address, viewport={"width": 390, "height": 844})
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("path", ["/", LONG])
def test_the_verdict_is_on_the_first_screen(phone: Page, path: str) -> None:
    phone.goto(path)
    for part in ("#verdict", ".verdict .lead"):
        box = phone.locator(part).bounding_box()
        assert box
        assert box["y"] + box["height"] < 844, part


def test_the_navigation_is_one_row_and_the_rest_is_one_press_away(phone: Page) -> None:
    for width in WIDTHS:
        phone.set_viewport_size({"width": width, "height": 844})
        phone.goto("/map")
        shown = phone.locator(".top nav > ul > li:visible")
        assert len({round(item.bounding_box()["y"]) for item in shown.all()}) == 1  # type: ignore[index]
        phone.get_by_text("More", exact=True).click()
        expect(phone.get_by_role("link", name="Guide")).to_be_visible()
        assert phone.evaluate("document.documentElement.scrollWidth") <= width


def test_long_names_are_read_whole(phone: Page) -> None:
    phone.goto(LONG)
    cut = "document.getElementById('model').scrollWidth > document.getElementById('model').clientWidth"
    assert not phone.evaluate(cut)
    phone.get_by_label("Model:").fill("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit")
    assert not phone.evaluate(cut)


def test_each_cell_of_the_map_says_its_verdict_in_words(phone: Page) -> None:
    phone.goto("/map")
    words = phone.locator("table.map td small")
    assert {word.inner_text() for word in words.all() if word.is_visible()} == {"fits", "tight", "no"}
    assert words.count() == sum(word.is_visible() for word in words.all())

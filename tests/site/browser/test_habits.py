"""What people are used to: Back undoes, lists open, filters narrow, files are dropped. In a real Chromium."""

import re

from playwright.sync_api import Page, expect

from tests.site.browser.test_accessibility import RULES, violations

PLAN = "/plan?model=Qwen/Qwen3-8B&gpu=rtx-4090"


def test_back_undoes_one_change_at_a_time(page: Page) -> None:
    page.goto(PLAN)
    page.get_by_label("LoRA rank").fill("64")
    expect(page).to_have_url(re.compile("lora_r=64"))
    page.get_by_label("Checkpointing").select_option("off")
    expect(page).to_have_url(re.compile("gradient_checkpointing=off"))
    page.go_back()
    expect(page).to_have_url(re.compile(r"lora_r=64$"))
    expect(page.get_by_label("Checkpointing")).to_have_value("on")
    page.go_back()
    expect(page).to_have_url(re.compile(r"gpu=rtx-4090$"))
    expect(page.get_by_label("LoRA rank")).to_have_value("16")


def test_a_press_opens_the_whole_list_and_marks_what_is_chosen(page: Page) -> None:
    page.goto(PLAN)
    page.get_by_role("combobox", name="Card").click()
    options = page.locator("#gpu-options li")
    expect(options.first).to_be_visible()
    assert options.count() > 50
    expect(page.locator("#gpu-options li.here")).to_have_attribute("data-value", "rtx-4090")


def test_the_cards_of_the_map_are_narrowed_while_typing(page: Page) -> None:
    page.goto(PLAN.replace("/plan", "/map"))
    rows = page.locator("#cards tbody tr:visible")
    every = rows.count()
    page.get_by_label("Cards that hold these words").fill("nvidia 24gb")
    expect(page.locator("#cards").get_by_role("link", name="RTX 4090", exact=True)).to_be_visible()
    assert 0 < rows.count() < every
    expect(page.locator("#cards").get_by_text("H200", exact=True)).to_be_hidden()


def test_import_is_in_the_navigation_and_takes_a_dropped_file(page: Page) -> None:
    page.goto("/")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Import").click()
    expect(page).to_have_url(re.compile("/import"))
    page.wait_for_load_state("load")
    page.evaluate(
        """() => {
          const files = new DataTransfer();
          files.items.add(new File(["base_model: Qwen/Qwen3-8B\\nadapter: qlora\\nload_in_4bit: true\\n"], "a.yml"));
          const drop = new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
          document.getElementById("config").dispatchEvent(drop);
        }"""
    )
    expect(page.locator("#verdict")).to_contain_text(re.compile("Fits|Tight|Does not fit"))


def test_the_new_pages_stand_in_nobodys_way(page: Page) -> None:
    for path in ("/docs", "/glossary", "/models?sort=size&q=qwen", "/gpus?sort=memory&gpu=rtx-4090"):
        assert not violations(page, path, RULES)
        for width in (320, 390):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path

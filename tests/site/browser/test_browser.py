"""What a person does, in a real Chromium."""

import re

from playwright.sync_api import Browser, Page, expect

LLAMA = "/plan?model=meta-llama/Llama-3.1-8B&gpu=rtx-4090"


def test_a_newcomer_types_a_model_and_a_card_and_reads_the_verdict(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Model:").fill("llama 8b")
    page.get_by_role("option", name=re.compile(r"Llama-3\.1-8B")).first.click()
    page.get_by_role("combobox", name="Card").fill("4090")
    page.locator("#gpu-options li").first.click()
    expect(page.get_by_role("heading", name=re.compile(r"^Fits, with .* to spare"))).to_be_visible()
    expect(page).to_have_url(re.compile(r"/plan\?model=meta-llama/Llama-3\.1-8B&gpu=rtx-4090$"))


def test_a_changed_setting_renews_answer_address_and_links_without_a_reload(page: Page) -> None:
    page.goto(LLAMA)
    page.evaluate("window.stayed = true")
    before = page.locator("#verdict").inner_text()
    page.get_by_label("Length").fill("8192")
    page.get_by_label("Length").press("Tab")
    expect(page.locator("#verdict")).not_to_have_text(before)
    expect(page).to_have_url(re.compile("max_length=8192"))
    expect(page.get_by_role("link", name="Map", exact=True)).to_have_attribute("href", re.compile("max_length=8192"))
    serving = page.locator("nav a", has_text="Serving")
    expect(serving).to_have_attribute("href", re.compile(r"/inference\?model=meta-llama/Llama-3\.1-8B&gpu=rtx-4090$"))
    expect(page.get_by_role("status")).to_have_text(page.locator("#verdict").inner_text())
    expect(page).to_have_title(re.compile("^(Fits|Tight|Does not fit).*Fitproof$"))
    assert page.evaluate("window.stayed")
    page.reload()
    expect(page.get_by_label("Length")).to_have_value("8192")


def test_bad_input_is_told_at_its_field_and_goes_away_once_mended(page: Page) -> None:
    page.goto(LLAMA)
    length = page.get_by_label("Length")
    length.fill("-5")
    length.press("Tab")
    expect(page.locator("#max_length-error")).to_be_visible()
    expect(length).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Micro-batch")).to_have_value("1")
    length.fill("1024")
    length.press("Tab")
    expect(page.locator("#max_length-error")).to_be_hidden()
    expect(page.locator("#verdict")).to_contain_text("Fits")


def test_the_keyboard_alone_reaches_a_plan_and_every_line_of_it(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Model:")).to_be_focused()
    page.keyboard.type("qwen2.5 7b")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("Model:")).to_have_attribute("aria-activedescendant", re.compile("models-1"))
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_contain_text("Qwen2.5-7B")
    summary = page.locator(".ledger summary").first
    summary.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".ledger details[open] dl").first).to_contain_text("Formula")


def test_escape_closes_the_suggestions_and_keeps_what_was_typed(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Model:").fill("mistral")
    expect(page.get_by_role("listbox")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("listbox")).to_be_hidden()
    expect(page.get_by_label("Model:")).to_have_value("mistral")


def test_pointing_at_the_bar_or_its_legend_tells_what_it_is(page: Page) -> None:
    page.goto(LLAMA)
    page.locator(".card .segment").first.hover()
    expect(page.locator("#readout")).to_contain_text("=")
    page.get_by_role("link", name=re.compile("^Logits and loss")).focus()
    expect(page.locator("#readout")).to_contain_text("logits")
    page.locator(".card .segment").first.click()
    expect(page.locator(".ledger tr:not(.cause) details[open]")).to_have_count(1)


def test_without_javascript_the_form_and_the_ledger_work(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Length").fill("4096")
    page.get_by_role("button", name="Check").click()
    expect(page).to_have_url(re.compile("max_length=4096"))
    expect(page.locator("#verdict")).to_contain_text("Fits")
    page.locator(".ledger summary").first.click()
    expect(page.locator(".ledger details[open] dl").first).to_be_visible()
    context.close()


def test_a_cell_of_the_map_leads_to_its_plan(page: Page) -> None:
    page.goto("/map")
    page.locator("table.map tbody tr").nth(1).locator("td a").first.click()
    expect(page).to_have_url(re.compile(r"/plan\?.*per_device_train_batch_size=2.*max_length=512|max_length=512"))
    expect(page.locator("#verdict")).to_be_visible()


def test_a_pasted_axolotl_file_comes_back_with_its_comments(page: Page) -> None:
    page.goto("/import")
    page.get_by_label("Configuration").fill(
        "base_model: meta-llama/Llama-3.1-8B  # ours\nadapter: qlora\nload_in_4bit: true\nsequence_len: 8192\n"
        "micro_batch_size: 4  # too much?\nlora_r: 16\nlora_target_linear: true\nfrobnicate: 1\n"
        "gradient_checkpointing: true\noptimizer: paged_adamw_8bit\n"
    )
    page.get_by_label("Card").fill("rtx-4090")
    page.get_by_role("button", name="Read it").click()
    expect(page.locator("#edited-text")).to_contain_text("# too much?")
    expect(page.locator("#answer")).to_contain_text("frobnicate")


def test_the_plan_is_copied_with_one_press(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(LLAMA)
    page.locator(".copy summary", has_text="curl").click()
    page.locator(".copy[open]").get_by_role("button", name="Copy").click()
    expect(page.locator(".copy[open]").get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("curl ")
    context.close()


def test_two_plans_are_compared_by_pasting_their_addresses(page: Page) -> None:
    page.goto("/compare")
    page.get_by_label("Another plan").fill(f"http://elsewhere.example{LLAMA}&lora_r=64")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="What differs")).to_be_visible()
    expect(page.locator(".differences")).to_contain_text("LoRA rank")


def test_the_guide_follows_another_model(page: Page) -> None:
    page.goto("/guide")
    page.get_by_role("combobox", name="Model").fill("Qwen/Qwen2.5-7B")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#main")).to_contain_text("Qwen2.5-7B with its 7.62")


def test_the_guide_follows_a_changed_rank_without_a_reload(page: Page) -> None:
    page.goto("/guide")
    page.evaluate("window.stayed = true")
    page.get_by_label("LoRA rank").fill("64")
    expect(page.locator(".paged")).to_contain_text("262,144")
    expect(page).to_have_url(re.compile(r"/guide\?.*lora_r=64"))
    expect(page.get_by_role("status")).to_contain_text("at rank 64")
    assert page.evaluate("window.stayed")


def test_a_newcomer_never_leaves_the_keyboard(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Model:").focus()
    page.keyboard.type("mistral 7b")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("model=mistralai/Mistral-7B"))
    page.get_by_role("combobox", name="Card").focus()
    page.keyboard.type("3090")
    expect(page.get_by_role("status")).to_have_text("2 suggestions")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("gpu=rtx-3090$"))
    expect(page.get_by_role("status")).to_have_text(page.locator("#verdict").inner_text())


def test_a_hub_id_stays_what_was_typed(page: Page) -> None:
    page.goto("/")
    model = page.get_by_label("Model:")
    model.fill("nobody/Mistral-9B-v7")
    model.press("Enter")
    expect(page.locator("#model-error")).to_be_visible()
    expect(model).to_have_value("nobody/Mistral-9B-v7")


def test_an_example_of_each_trainer_is_one_press_away(page: Page) -> None:
    for name in ("Axolotl", "LLaMA-Factory", "TRL", "TrainingArguments", "the dictionary of 412: QLoRA"):
        page.goto("/import")
        page.get_by_role("navigation", name="Examples").get_by_role("link", name=name).click()
        expect(page.locator("#verdict")).to_contain_text(re.compile("Fits|Tight|Does not fit"))
        expect(page.get_by_label("Configuration")).not_to_be_empty()


def test_without_javascript_every_page_and_bad_input_at_its_field_are_there(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    for path in ("/map", "/compare", "/guide", "/models", "/gpus", "/import", "/probes", "/accuracy"):
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_be_attached()
    page.goto("/")
    page.get_by_label("Length").fill("-5")
    page.get_by_label("LoRA rank").fill("64")
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#max_length-error")).to_be_visible()
    expect(page.get_by_label("LoRA rank")).to_have_value("64")
    expect(page.get_by_label("Length")).to_have_value("-5")
    context.close()


def test_a_number_is_answered_while_it_is_typed(page: Page) -> None:
    page.goto(LLAMA)
    page.get_by_label("LoRA rank").fill("64")
    expect(page).to_have_url(re.compile("lora_r=64"))
    expect(page.get_by_label("LoRA rank")).to_be_focused()

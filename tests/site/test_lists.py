"""The lists of models and cards, numbers that add up across pages, and the pages to read."""

import json
import re
import subprocess
from html import unescape

import httpx
import pytest

QWEN = "model=Qwen/Qwen3-8B&gpu=rtx-4090"
UNITS = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}


def names(html: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="/plan\?[^"]*"[^>]*>([^<]+)', html)


def in_bytes(cell: str) -> float:
    """`5.31 GiB` as bytes; a dash is nothing."""
    number, _, unit = unescape(re.sub(r"<[^>]+>", "", cell)).strip().partition("\u202f")
    return float(number.replace(",", "")) * UNITS[unit.split()[0]] if unit else 0


def test_models_are_narrowed_by_size_family_and_licence_and_sorted(site: httpx.Client) -> None:
    html = site.get("/models?size=5B+to+10B&family=qwen3&licence=apache-2.0&sort=-size").text
    found = names(html)
    assert "Qwen/Qwen3-8B" in found
    assert not [name for name in found if "Qwen" not in name]
    counts = [float(number) for number in re.findall(r'<td class="num" title="[\d,]+">([\d.]+)\u202fB', html)]
    assert counts == sorted(counts, reverse=True)
    assert all(5 < number <= 10 for number in counts)
    assert 'aria-sort="descending"' in html


def test_cards_are_narrowed_by_memory_and_vendor_and_sorted(site: httpx.Client) -> None:
    html = site.get("/gpus?memory=20+to+24+GB&vendor=NVIDIA&sort=memory").text
    assert "NVIDIA GeForce RTX 4090" in names(html)
    assert "NVIDIA GeForce RTX 5090" not in names(html)
    usable = [float(number) for number in re.findall(r'<td class="num">([\d.]+)\u202fGiB', html)]
    assert usable == sorted(usable)


@pytest.mark.parametrize("word", ["colab", "kaggle", "g5.xlarge", "g6.xlarge"])
def test_a_clouds_name_is_a_card(site: httpx.Client, word: str) -> None:
    assert site.get(f"/plan.json?model=Qwen/Qwen3-8B&gpu={word}").status_code == 200
    assert names(site.get(f"/gpus?q={word}").text)


def test_the_lists_keep_the_plan_and_mark_what_it_has(site: httpx.Client) -> None:
    plan = f"{QWEN}&max_length=4096"
    for path, chosen in (("/models", "Qwen/Qwen3-8B"), ("/gpus", "NVIDIA GeForce RTX 4090")):
        html = site.get(f"{path}?{plan}").text
        assert re.findall(r'<a href="[^"]*" aria-current="true">([^<]+)', html) == [chosen]
        links = re.findall(r'<th scope="row"><a href="(/plan\?[^"]*)"', html)
        assert all("max_length=4096" in link for link in links)
    assert site.get(f"/map?{plan}").text.count('aria-current="location"') == 1


def test_a_count_typed_before_a_card_stays_with_it(site: httpx.Client) -> None:
    html = site.get("/suggest/gpus", params={"q": "2 × 3090"}).text
    assert re.findall(r'data-value="([^"]+)"', html)[0] == "2xrtx-3090"
    assert site.get("/plan.json?model=Qwen/Qwen3-8B&gpu=2xrtx-3090").json()["request"]["gpus"] == 2


def test_each_column_of_the_comparison_adds_up_to_what_is_needed(site: httpx.Client) -> None:
    html = site.get(f"/compare?{QWEN}").text
    table = html.partition('<table class="compare">')[2].partition("</table>")[0]
    rows = {
        re.sub(r"<[^>]+>", "", head).strip(): [in_bytes(cell) for cell in re.findall(r"<td>(.*?)</td>", cells)]
        for head, cells in re.findall(r'<tr[^>]*><th scope="row">(.*?)</th>(.*?)</tr>', table)
    }
    causes = [amounts for name, amounts in rows.items() if name not in {
        "Verdict", "At the peak", "Allocated at the peak", "Outside torch’s tensors", "Needed"}]  # fmt: skip
    for column in range(3):
        peak, outside = rows["Allocated at the peak"][column], rows["Outside torch’s tensors"][column]
        # Three digits are shown of each.
        assert sum(amounts[column] for amounts in causes) == pytest.approx(peak, rel=0.01)
        assert peak + outside == pytest.approx(rows["Needed"][column], rel=0.01)


def test_a_square_of_the_map_has_the_bytes_of_its_plan(site: httpx.Client) -> None:
    html = site.get(f"/map?{QWEN}").text
    cells = re.findall(r'<a class="cell \w+ shade-\d" href="/plan\?([^"]+)"[^>]*>([\d,.]+)<', html)
    for query, shown in cells[::9]:
        likely = site.get("/plan.json?" + unescape(query)).json()["required_bytes"]["likely"] / 2**30
        assert shown == (f"{likely:.1f}" if likely < 100 else f"{likely:,.0f}")


def test_the_picture_names_its_range_and_its_line(site: httpx.Client) -> None:
    html = site.get(f"/plan?{QWEN}").text
    figure = html.partition('<svg class="card"')[2].partition("</svg>")[0]
    assert re.search(r'class="band-label"[^>]*>range [\d.]+\u202fGiB to [\d.]+\u202fGiB<', figure)
    assert re.search(r'class="usable-label"[^>]*>usable [\d.]+\u202fGiB<', figure)


def test_the_accuracy_page_plots_errors_of_both_kinds_with_both_axes_named(site: httpx.Client) -> None:
    html = site.get("/accuracy").text
    assert "measured, GiB</text>" in html
    assert "error of the prediction</text>" in html
    assert 'class="point allocated"' in html
    assert 'class="point process"' in html
    assert "fitcheck, the whole process" in html


def test_the_examples_of_the_api_run_as_they_stand(site: httpx.Client) -> None:
    html = site.get("/docs").text
    shell = [unescape(text) for id_, text in re.findall(r'<pre id="(curl-[^"]+)"[^>]*>(.*?)</pre>', html, re.DOTALL)]
    ran = 0
    for script in shell:
        if "TOKEN" in script:
            continue
        for command in script.split("\ncurl"):
            text = command if command.startswith("curl") else f"curl{command}"
            answer = subprocess.run(["sh", "-c", text], capture_output=True, check=True).stdout
            assert "errors" not in json.loads(answer)
            ran += 1
    assert ran == 6


def test_a_badge_says_the_verdict_of_its_plan(site: httpx.Client) -> None:
    answer = site.get(f"/badge.svg?{QWEN}")
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert "Qwen3-8B on RTX 4090: fits" in answer.text
    assert "no such plan" in site.get("/badge.svg?model=nobody&gpu=nothing").text


def test_every_word_that_is_explained_has_its_place_in_the_glossary(site: httpx.Client) -> None:
    pages = site.get(f"/plan?{QWEN}").text + site.get("/guide").text
    explained = set(re.findall(r'href="/glossary#([^"]+)"', pages))
    assert {"range", "usable", "allocated", "chapter"} <= explained
    there = set(re.findall(r'<dt id="([^"]+)"', site.get("/glossary").text))
    assert explained <= there


def test_no_page_speaks_of_the_chapter_without_its_name(site: httpx.Client) -> None:
    for path in ("/", f"/plan?{QWEN}", "/guide", "/import"):
        said = re.sub(r"<[^>]+>", " ", site.get(path).text)
        assert not re.search(r"\b[Tt]he chapter(?!\s+412)", said), path


def test_the_guide_names_models_of_today_beside_the_chapters_sizes(site: httpx.Client) -> None:
    table = site.get("/guide").text.partition('class="tiers"')[2].partition("</table>")[0]
    for name in ("Llama 7B", "Qwen3-32B", "Llama-3.3-70B-Instruct", "gemma-3-27b-it"):
        assert f'<th scope="row">{name}</th>' in table



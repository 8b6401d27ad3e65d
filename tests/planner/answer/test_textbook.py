"""The chapter's own figures, in its own decimal gigabytes."""

import pytest

from planner import Request, plan
from planner.answer.textbook import EXAMPLE_TABLE, EXPLANATION, example_rows, exercise, textbook

GB = 10**9
MB = 10**6


def test_the_exercise_comes_out_as_the_chapter_has_it() -> None:
    book = exercise()
    assert book.fp16_bytes == 26 * GB
    assert book.weights_bytes == 6.5 * GB
    assert book.constants_bytes == pytest.approx(200 * MB, rel=0.02)
    assert book.adapters_bytes == pytest.approx(26 * MB, rel=0.02)
    assert round(book.total_bytes / GB) == 7
    assert round(1 - 7 / 26, 2) == 0.73
    assert book.reduction_fraction == pytest.approx(0.74, abs=0.005)


@pytest.mark.parametrize("row", EXAMPLE_TABLE, ids=lambda row: row.size)
def test_the_example_table_is_quoted_as_it_stands(row) -> None:
    quoted = {"7B": (14, 5, 64), "13B": (26, 9, 65), "33B": (66, 19, 71), "65B": (130, 33, 75)}
    assert (row.full_gb, row.qlora_gb, row.reduction_percent) == quoted[row.size]
    assert row.full_gb * GB == 2 * row.params
    assert 100 * (1 - row.qlora_gb / row.full_gb) == pytest.approx(row.reduction_percent, abs=0.5)


def test_our_numbers_stand_beside_the_table_and_show_what_it_leaves_out() -> None:
    rows = example_rows(plan)
    assert [own.row.size for own in rows] == ["7B", "13B", "33B", "65B"]
    for own in rows:
        simple = textbook(own.params)
        assert own.loaded_bytes > simple.weights_bytes + simple.constants_bytes
        assert own.peak_allocated_bytes > own.loaded_bytes
        assert 0.5 < own.reduction_fraction < 0.8
    assert any("output head" in sentence for sentence in EXPLANATION)


def test_a_plan_carries_the_textbook_for_its_own_adapters() -> None:
    request = Request.parse(
        {"model": "huggyllama/llama-13b", "gpu": "rtx-4090", "lora": {"r": 16, "target_modules": ["q_proj", "v_proj"]}}
    )
    book = plan(request).textbook
    assert book.adapters_bytes == exercise().adapters_bytes
    assert book.weights_bytes == 13_015_864_320 // 2


def test_the_chapters_flat_dictionary_is_the_same_request() -> None:
    flat = {
        "model": "huggyllama/llama-13b", "gpu": "rtx-4090", "load_in_4bit": True, "bnb_4bit_use_double_quant": True,
        "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16", "lora_r": 16, "lora_alpha": 32,
        "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"],
    }  # fmt: skip
    nested = {
        "model": "huggyllama/llama-13b", "gpu": "rtx-4090",
        "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"]},
    }  # fmt: skip
    assert plan(Request.parse(flat)).to_dict() == plan(Request.parse(nested)).to_dict()

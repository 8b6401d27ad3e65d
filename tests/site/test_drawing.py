"""The pictures' geometry."""

import ast
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from app.drawing.card import by_cause, draw_card, in_order
from app.drawing.heatmap import powers_of_two, shade, with_own
from app.drawing.nf4 import draw_nf4, nf4_levels
from app.drawing.scale import percent_of, ticks
from app.drawing.scatter import draw_scatter
from app.drawing.timeline import draw_timeline
from planner.ledger import PHASES, Cause, Line
from planner.units import GIB


def line(name: str, gib: float, cause: Cause, *alive_in: str) -> Line:
    alive_in = alive_in or PHASES
    return Line(
        name=name, bytes=round(gib * GIB), cause=cause, alive_in=alive_in, formula="f", evidence="exact", source="s"
    )


LINES = (
    line("weights", 4, "weights"),
    line("norms", 0.5, "weights"),
    line("logits", 3, "logits", "loss"),
    line("adapters", 1, "adapters"),
    line("layer", 2, "activations", "backward"),
)


def test_segments_are_laid_end_to_end_and_the_rest_ends_at_what_is_likely() -> None:
    picture = draw_card(LINES, "loss", 20 * GIB, (8 * GIB, 9 * GIB, 10 * GIB))
    edge = 0.0
    for segment in picture.segments:
        assert abs(segment.x - edge) < 0.01
        edge = segment.x + segment.width
    assert abs(picture.rest_x - edge) < 0.01
    assert abs(picture.rest_x + picture.rest_width - picture.likely_x) < 0.01
    assert picture.low_x < picture.likely_x < picture.high_x < picture.usable_x < 100
    assert picture.over_width == 0


def test_only_lines_alive_then_are_drawn_resident_causes_first() -> None:
    assert [entry.name for _, entry in in_order(LINES, "loss")] == ["weights", "norms", "adapters", "logits"]
    assert by_cause(LINES, "loss") == {"weights": 4.5 * GIB, "adapters": GIB, "logits": 3 * GIB}


def test_a_run_that_is_too_large_reaches_over_the_usable_line() -> None:
    picture = draw_card(LINES, "loss", 4 * GIB, (8 * GIB, 9 * GIB, 10 * GIB))
    assert abs(picture.usable_x + picture.over_width - picture.likely_x) < 0.01
    assert picture.free_bytes == 0
    assert picture.high_x <= 100


def test_causes_without_room_for_a_name_have_none() -> None:
    picture = draw_card(LINES, "loss", 80 * GIB, (8 * GIB, 9 * GIB, 10 * GIB))
    assert picture.labels == ()


def test_columns_stack_to_their_phase_and_the_peak_is_marked() -> None:
    timeline = draw_timeline(LINES, "loss", 9 * GIB)
    loss = next(column for column in timeline.columns if column.phase == "loss")
    assert [column.phase for column in timeline.columns if column.is_peak] == ["loss"]
    assert loss.bytes == sum(block.bytes for block in loss.blocks)
    assert min(column.top for column in timeline.columns) == loss.top
    assert timeline.usable_y is not None
    assert timeline.usable_y < loss.top


def test_a_usable_line_far_above_the_step_is_not_drawn() -> None:
    assert draw_timeline(LINES, "loss", 80 * GIB).usable_y is None


def test_ticks_are_round_and_few() -> None:
    assert [tick.label for tick in ticks(24 * GIB)] == ["0", "4", "8", "12", "16", "20"]
    for gib in (1, 5, 8, 16, 23.5, 48, 80, 192, 700):
        assert 2 <= len(ticks(round(gib * GIB))) <= 6


@given(st.integers(0, 2**200))
def test_an_axis_has_at_most_six_ticks_whatever_its_end(whole_bytes: int) -> None:
    marks = ticks(whole_bytes)
    assert len(marks) <= 6
    assert all(0 <= tick.at <= 96 for tick in marks)


def test_percentages_are_never_negative_or_divided_by_nothing() -> None:
    assert percent_of(-5, 100) == 0
    assert percent_of(5, 0) == 0


def test_shades_and_axes_of_the_map() -> None:
    assert [shade(part, 100) for part in (0, 9, 10, 99, 100, 500)] == [0, 0, 1, 9, 9, 9]
    assert powers_of_two(512, 4096) == (512, 1024, 2048, 4096)
    assert with_own((1, 2, 4), 3) == (1, 2, 3, 4)


def test_what_is_predicted_right_lies_on_the_diagonal() -> None:
    rows = [(GIB, GIB, "allocated", "a"), (10 * GIB, 9 * GIB, "process", "b"), (0, GIB, "allocated", "dropped")]
    scatter = draw_scatter(rows)
    assert [point.y for point in scatter.points] == [50, 100]
    assert scatter.points[1].label == "b: −10.00 %"
    assert [tick.label for tick in scatter.upwards] == ["−10 %", "−5 %", "0", "+5 %", "+10 %"]
    assert "2" in [tick.label for tick in scatter.across]
    assert draw_scatter([]).points == ()


def test_nf4s_levels_are_bitsandbytes_table() -> None:
    spec = find_spec("bitsandbytes")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "functional.py").read_text(encoding="utf-8")
    table = source.partition('if typename == "nf4":')[2].partition("data = ")[2].partition("]")[0] + "]"
    for ours, theirs in zip(nf4_levels(), ast.literal_eval(table), strict=True):
        assert abs(ours - theirs) < 2e-7  # their offset has seven digits


def test_nf4s_levels_stand_on_the_curve_and_closer_where_weights_are_many() -> None:
    picture = draw_nf4()
    places = [level.x for level in picture.levels]
    gaps = [after - before for before, after in pairwise(places)]
    assert (places[0], places[7], places[-1]) == (0, 50, 100)
    assert max(level.height for level in picture.levels) == 100
    assert min(gaps) == min(gaps[6:9])
    assert max(gaps) in (gaps[0], gaps[-1])

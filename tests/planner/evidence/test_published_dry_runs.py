"""Published runs on the virtual card: the table says what the records say, and the records hold its claims."""

from collections.abc import Callable
from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.evidence.publications.published import published_runs
from planner.evidence.published_dry_runs import report
from planner.evidence.published_dry_runs.compared import compared, measured_runs
from planner.evidence.published_dry_runs.differences import explanation
from planner.evidence.published_dry_runs.environments import RELEASES, releases_of
from planner.evidence.published_dry_runs.harness.pool import SeededPool
from planner.evidence.published_dry_runs.settings import SCHEDULES, published_settings


def test_the_committed_table_is_written_from_the_committed_records() -> None:
    assert report.REPORT_FILE.read_text(encoding="utf-8") == "\n\n".join(report.lines()) + "\n"


def test_a_setting_that_both_evidence_files_hold_reads_the_same_in_both() -> None:
    published = {run.id: run for run in published_runs()}
    shared = [setting for setting in published_settings() if setting.id in published]
    assert len(shared) == 49
    for setting in shared:
        run, document = published[setting.id], setting.document
        training = run.request.training
        assert setting.measured["peak_allocated"] == run.bytes
        both = setting.measured.keys() & run.also.keys()
        assert {name: setting.measured[name] for name in both} == {name: run.also[name] for name in both}
        assert (training.per_device_train_batch_size, training.max_length) == (document["batch"], document["length"])
        assert (training.attn_implementation, run.request.lora.r) == (document["attention"], document["rank"])


def test_every_setting_names_an_environment_with_every_release_pinned() -> None:
    for publication in {setting.document["releases"] for setting in published_settings()}:
        assert {"torch", "transformers", "peft", "bitsandbytes"} <= RELEASES[publication].keys()
        assert not [name for name in releases_of(publication) if name.startswith("nvidia")]


def test_a_raced_setting_ran_under_all_schedules_and_one_without_a_race_comes_out_the_same_under_any() -> None:
    for row in compared():
        assert row.record.stepped >= 1
        if row.setting.is_raced:
            assert len(row.record.outcomes) == SCHEDULES
        else:
            assert all(len(set(values)) == 1 for values in row.record.bytes.values())


def test_every_run_ends_as_on_the_real_card() -> None:
    assert [row.setting.id for row in compared() if not row.is_right] == []


def test_what_the_step_adds_is_within_a_thousandth_of_the_measured_peak_in_every_t4_run() -> None:
    for row in measured_runs():
        if row.setting.document["card"] == "t4":
            nearest = min(abs(added - row.added_measured) for added in row.added)
            assert nearest <= 0.001 * row.setting.measured["peak_allocated"], row.setting.id


@pytest.mark.parametrize("moment", ["peak_allocated", "peak_reserved"])
def test_a_measured_figure_lies_in_the_range_or_near_it_or_its_distance_is_explained(moment: str) -> None:
    far = [row for row in measured_runs() if not row.holds(moment)]
    assert [row.setting.id for row in far if explanation(row) is None] == []


def test_every_difference_that_stays_is_explained() -> None:
    differing = [row for row in measured_runs() if any(map(row.distance, ("peak_allocated", "peak_reserved")))]
    assert [row.setting.id for row in differing if explanation(row) is None] == []


@given(st.lists(st.integers(0, 10**9), max_size=40), st.integers(0, 2**32))
def test_a_seed_gives_one_order_and_every_copy_arrives_before_it_is_used(sizes: list[int], seed: int) -> None:
    def order() -> list[tuple[str, int]]:
        happened: list[tuple[str, int]] = []
        pool = SeededPool(seed)
        copies = [pool.submit(_asks(happened, index), size) for index, size in enumerate(sizes)]
        for index, copy in enumerate(copies):
            assert copy.result() == index
            happened.append(("made", index))
        return happened

    first = order()
    assert first == order()
    assert sorted(index for what, index in first if what == "asked") == list(range(len(sizes)))
    assert all(first.index(("asked", index)) < first.index(("made", index)) for index in range(len(sizes)))


def test_a_copy_that_fails_raises_where_it_is_waited_for() -> None:
    def fail() -> None:
        raise OSError("no such tensor")

    pool = SeededPool(0)
    copy = pool.submit(fail, 1)
    assert isinstance(copy, Future)
    with pytest.raises(OSError, match="no such tensor"):
        copy.result()


def _asks(happened: list[tuple[str, int]], index: int) -> Callable[[], int]:
    def ask() -> int:
        happened.append(("asked", index))
        return index

    return ask

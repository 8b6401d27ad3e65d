"""The records of the evidence matrix."""

import json

import pytest

from planner.evidence.measured import records

MEASUREMENT = {
    "instrument": "dry-run", "outcome": "ok", "peak_allocated_bytes": 1000, "peak_reserved_bytes": 1100,
    "smallest_capacity_bytes": 1020, "phases": [], "steps": 3, "tokens_per_micro_batch": 512,
    "device": {"name": "a card"}, "versions": {}, "request": {},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    row = {"id": "one", "why": "to show", "options": ["--find-smallest"], "date": "2026-11-23", "seconds": 9.0}
    rows = [row | {"measurement": MEASUREMENT}, row | {"id": "two", "measurement": None, "error": "broke"}]
    (tmp_path / "measured-dry-run.jsonl").write_text("\n".join(json.dumps(each) for each in rows))
    return tmp_path


def test_a_record_knows_what_the_allocator_needed_beyond_the_tensors(folder):
    (record,) = records("dry-run", folder)
    assert record.reserved_over_allocated == pytest.approx(1.10)
    assert record.smallest_over_allocated == pytest.approx(1.02)


def test_failures_are_no_evidence(folder):
    assert [record.id for record in records("dry-run", folder)] == ["one"]


def test_an_instrument_that_was_not_run_has_no_records(folder):
    assert records("cuda", folder) == ()


def test_what_was_not_read_has_no_ratio(folder):
    bare = MEASUREMENT | {"peak_reserved_bytes": None, "smallest_capacity_bytes": None}
    row = {"id": "one", "why": "", "options": [], "date": "2026-11-23", "measurement": bare}
    (folder / "measured-cpu.jsonl").write_text(json.dumps(row))
    (record,) = records("cpu", folder)
    assert record.reserved_over_allocated is None
    assert record.smallest_over_allocated is None


def test_the_committed_dry_runs_reserve_no_less_than_they_allocate():
    assert all((record.reserved_over_allocated or 1) >= 1 for record in records("dry-run"))

"""Published runs on several cards beside the formulas."""

from planner.evidence.several_cards import FILE, predicted_bytes, report, rows


def test_the_committed_report_is_what_the_program_writes() -> None:
    assert FILE.read_text(encoding="utf-8") == report()


def test_full_fine_tuning_under_fsdp_is_met() -> None:
    full = [row for row in rows() if row["request"].get("method") == "full"]
    assert len(full) == 2
    assert all(abs(predicted_bytes(row) / row["bytes"] - 1) < 0.0005 for row in full)

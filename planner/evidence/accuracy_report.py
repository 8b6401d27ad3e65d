"""`python -m planner.evidence.accuracy_report`: write reports/accuracy.md and print it. No torch."""

import sys
from collections.abc import Sequence
from pathlib import Path

from planner.evidence.accuracy import Ending, Errors, Prediction, by_source, endings, left_out, predictions, processes
from planner.evidence.markdown import table
from planner.evidence.publications.published import PublishedRun
from planner.evidence.published_dry_runs.report import claims
from planner.units import MIB

REPORT_FILE = Path(__file__).parent / "reports" / "accuracy.md"

# Mean absolute error in per cent against the process total of the 41 nf4 runs that fitcheck published: sdpa or
# flash, then eager. Other tools as scored in November 2026 from their sources; each was given what it accepts.
_PEERS = (
    ("fitcheck, T4 profile (fitted to 29 of the runs)", 3.4, 4.0),
    ("fitcheck, default", 6.2, 8.6),
    ("fitscout", 17.4, 20.6),
    ("canifinetune, less its 5 % safety", 21.4, 21.3),
    ("loggetta, against the allocator's peak", 26.6, 22.0),
    ("llmcalculator", 29.3, 35.8),
    ("peft-doctor", 36.8, 41.6),
    ("train-in-silence", 37.3, 40.3),
    ("Unsloth Studio (models its own kernels)", 38.3, 21.3),
    ("tinyforge (plans a chunked loss)", 45.8, 51.3),
    ("gpu_poor", 48.9, 24.8),
    ("ml-memguard", 54.3, 44.7),
    ("ftuneai", 56.0, 45.5),
    ("training_hub, expected", 58.1, 61.9),
    ("fm-training-estimator", 61.4, 66.6),
    ("MiaoDX", 267.0, 238.0),
)


_LOADERS = (
    "A process keeps the holes that loading left. These runs loaded with transformers 5.0's threads and a peft that "
    "keeps its cache, or in host memory and then moved; the plan plays transformers 5.23 and peft 0.21, which load one "
    "parameter at a time and empty the cache."
)


def report() -> str:
    """The whole report as Markdown."""
    rows, refused = predictions()
    parts = [
        "# How right the formulas are",
        "Written by `make accuracy`; nothing here is typed by hand but the other tools' figures.",
        "## Published runs, by formula alone",
        table(("source and metric", "runs", "median", "worst", "more than 3 % under"), map(_errors, by_source(rows))),
        _processes(rows),
        "Not planned: " + ("; ".join(f"{name}: {reason}" for name, reason in refused) or "none") + ".",
        "## Published runs by dry run, with the releases of each",
        "\n".join(f"* {claim}" for claim in claims()),
        "## Beside other tools",
        _peers(rows),
        "## Runs known only by their end",
        _endings(),
        "## Rows that no Request expresses",
        table(("reason", "rows"), ((reason, str(count)) for reason, count in left_out().items())),
        "## Every run",
        table(("run", "model", "measured MiB", "predicted MiB", "error"), map(_line, rows)),
    ]
    return "\n\n".join(parts) + "\n"


def _processes(rows: Sequence[Prediction]) -> str:
    above = sum(row.above_high for row in rows)
    lines = [
        f"{found.name}: {found.runs} runs, median {found.median:.2%}, worst {found.worst:+.2%}, "
        f"{found.under} more than 5 % under, {above} above `high`."
        for found in processes(rows)
    ]
    return "\n\n".join([*lines, _LOADERS]) if lines else "No run read its process."


def _peers(rows: Sequence[Prediction]) -> str:
    ours = tuple(_mean_error(rows, eager) for eager in (False, True))
    lines = [("**Fitproof, formula, `likely`, loaded as the runs were**", *(f"**{value:.1f}**" for value in ours))]
    lines += [(name, f"{sdpa}", f"{eager}") for name, sdpa, eager in _PEERS]
    return table(("tool", "sdpa or flash, %", "eager, %"), lines)


def _mean_error(rows: Sequence[Prediction], eager: bool) -> float:
    errors = [row.process_error for row in rows if _is_nf4(row.run) and _is_eager(row.run) == eager]
    known = [abs(error) for error in errors if error is not None]
    return 100 * sum(known) / len(known)


def _endings() -> str:
    rows = [
        (run.id, "survived" if run.survived else "out of memory", run.verdict.replace("_", " "), _judged(run))
        for run in endings()
    ]
    return (
        table(("run", "what happened", "our verdict", ""), rows)
        + "\n\n"
        + "\n".join(f"* {doubt}" for doubt in dict.fromkeys(doubt for run in endings() for doubt in run.doubts))
    )


def _judged(run: Ending) -> str:
    if run.false_fits:
        return "false fits"
    return "false refusal" if run.false_refusal else ""


def _errors(errors: Errors) -> tuple[str, ...]:
    return errors.name, str(errors.runs), f"{errors.median:.2%}", f"{errors.worst:+.2%}", str(errors.under)


def _line(row: Prediction) -> tuple[str, ...]:
    measured, predicted = row.run.bytes / MIB, row.plan.peak_allocated_bytes / MIB
    error = f"{row.allocated_error:+.2%}"
    return row.run.id, str(row.run.request.model), f"{measured:,.1f}", f"{predicted:,.1f}", error


def _is_nf4(run: PublishedRun) -> bool:
    return run.request.quantization is not None and run.request.quantization.load_in_4bit


def _is_eager(run: PublishedRun) -> bool:
    return run.request.training.attn_implementation == "eager"


if __name__ == "__main__":
    text = report()
    REPORT_FILE.write_text(text, encoding="utf-8")
    sys.stdout.write(text)

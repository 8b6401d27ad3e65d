"""`python -m planner.probe.recording.score`: dry runs of published training runs, beside what was measured.

Each run in `planner/evidence/published.jsonl` is dry-run with the installed releases, as far as they can be told to do
as those did that it was measured with: the loss of transformers 4, a model moved from host memory, a cache that is
kept. What that predicts is appended to `planner/evidence/score.jsonl`; `--table` prints the records without running
anything.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from planner.evidence.loaders import habits_of
from planner.evidence.published import PublishedRun, published_runs
from planner.evidence.scores import SCORES_FILE, Prediction, Score, predictions, scores, summary
from planner.probe.__main__ import be_quiet
from planner.probe.devices.virtual_card import insert_any_card
from planner.probe.options import Options
from planner.probe.processes.forked import in_fork

# fitcheck measured the second of two steps; the Trainer's peak over many is that of any step after the first.
STEPS = 2


def predict(run: PublishedRun) -> Prediction:
    """Dry-run one published setting in a fork of this process."""
    from planner.probe.recording.habits import habitual_outcome  # noqa: PLC0415  # torch comes after its card

    habits = habits_of(run)[0]
    outcome = in_fork(
        lambda: habitual_outcome(run.request, Options(steps=STEPS), habits, older_loss=_by_transformers_4(run))
    )
    reserved_bytes = max(phase.peak_reserved_bytes or 0 for phase in outcome.phases)
    return Prediction(
        id=run.id,
        peak_allocated_bytes=max(phase.peak_allocated_bytes for phase in outcome.phases),
        peak_reserved_bytes=reserved_bytes,
        reserved_range_bytes=(reserved_bytes, reserved_bytes),
    )


def can_be_followed(run: PublishedRun) -> bool:
    """Whether the loss of the run's release is known here.

    Until 4.45 models cast their logits to float32 in their own forward, which lets the 16-bit ones go; the installed
    models leave that to the loss, and keep them.
    """
    major, minor = (int(part) for part in run.versions["transformers"].split(".")[:2])
    return (major, minor) >= (4, 46)


def _by_transformers_4(run: PublishedRun) -> bool:
    return run.versions["transformers"].startswith("4.")


def table(rows: Sequence[Score]) -> str:
    """One line for each run: measured and predicted MiB, and the error in percent."""
    lines = [f"{'run':22} {'setting':58} {'allocated':>10} {'error':>8} {'reserved':>9} {'error':>8}"]
    lines += [
        f"{row.run.id:22} {setting_of(row.run):58} {row.run.bytes / 2**20:10.1f} {row.allocated_error:+8.3%} "
        f"{_reserved_columns(row)}"
        for row in rows
    ]
    return "\n".join([*lines, "", *summary(rows)])


def _reserved_columns(row: Score) -> str:
    if row.reserved_error is None:
        return f"{'-':>9} {'-':>8}"
    return f"{row.measured_reserved_mib:9.0f} {row.reserved_error:+8.2%}"


def setting_of(run: PublishedRun) -> str:
    """What tells runs apart."""
    training = run.request.training
    kind = run.request.quantization.bnb_4bit_quant_type if run.request.quantization else run.request.method
    model = str(run.request.model).rsplit("/", 1)[-1]
    attention = training.attn_implementation or ""
    return f"{model} {kind} {attention} {training.per_device_train_batch_size}x{training.max_length}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict what is asked for, then print the table."""
    program = "python -m planner.probe.recording.score"
    parser = argparse.ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="print the committed records, run nothing")
    parser.add_argument("--only", default="", help="runs whose id contains this")
    parser.add_argument("--records", type=Path, default=SCORES_FILE, help="where predictions are kept")
    options = parser.parse_args(arguments)
    if not options.table:
        be_quiet()
        insert_any_card()
        _predict_missing(options.records, options.only, print)
    print(table(scores(options.records)))  # noqa: T201  # the product of this program
    return 0


def _predict_missing(records: Path, only: str, say: Callable[[str], None]) -> None:
    """Run what can be followed and has no record yet. Each record is written as it comes: a stopped program goes on."""
    done = {prediction.id for prediction in predictions(records)}
    for run in published_runs():
        if only in run.id and run.id not in done and can_be_followed(run):
            prediction = predict(run)
            with records.open("a", encoding="utf-8") as file:
                file.write(json.dumps(prediction.document()) + "\n")
            say(f"{run.id}: {prediction.peak_allocated_bytes / 2**20:.1f} MiB allocated")


if __name__ == "__main__":
    sys.exit(main())

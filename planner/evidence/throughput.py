"""`python -m planner.evidence.throughput`: fit the shares of a card's limits, and say how well runs that were held back
are met.

Two numbers are fitted, by least squares of the relative error of time: the shares of tensor cores and of bandwidth. A
group is all runs of one model and method. Each is held back in turn, and predicted with what the others were fitted
to; the range is that of measured over predicted of all runs so held back, and its coverage is told with the group's
own runs left out of the range too. Runs with kernels of their own are shown, and nothing is fitted to them.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

from planner.answer.plan import plan
from planner.evidence.markdown import table
from planner.gpu import Gpu
from planner.request.schema import Request
from planner.throughput.rate import FITTED_FILE, Fitted, micro_batch_seconds
from planner.throughput.work import Work, work_of

REPORT_FILE = Path(__file__).parent / "reports" / "throughput.md"


@dataclass(frozen=True, slots=True)
class Run:
    """One published run and its work."""

    id: str
    group: str
    tokens_per_second: float
    stock_kernels: bool
    work: Work
    gpu: Gpu

    @property
    def seconds(self) -> float:
        """Of one micro-batch, as measured."""
        return self.work.tokens / self.tokens_per_second


Shares = tuple[float, float]


def published_runs() -> list[Run]:
    """Every run of `throughput.jsonl`."""
    lines = files("planner.evidence.publications").joinpath("throughput.jsonl").read_text(encoding="utf-8").splitlines()
    return [_run(json.loads(line)) for line in lines]


def _run(row: Mapping[str, Any]) -> Run:
    planned = plan(Request.parse(row["request"]))
    assert planned.model.decoder is not None  # noqa: S101 (the catalogue's, known)
    work = work_of(planned.model, planned.model.decoder, planned.recipe, planned.gpu, planned.lines)
    group = f"{row['model']}, {row['method']}"
    return Run(row["id"], group, row["tokens_per_second"], row["stock_kernels"], work, planned.gpu)


def fit(runs: Sequence[Run]) -> Shares:
    """The shares that meet these runs' times best, each run's error counted in parts of its own time."""
    rows = [
        (
            micro_batch_seconds(Work(run.work.tokens, run.work.flops, 0), run.gpu, 1.0, 1.0) / run.seconds,
            micro_batch_seconds(Work(run.work.tokens, 0, run.work.moved_bytes), run.gpu, 1.0, 1.0) / run.seconds,
        )
        for run in runs
    ]
    a, b, c = (sum(x * y for x, y in pairs) for pairs in (
        [(first, first) for first, _ in rows], rows, [(second, second) for _, second in rows]
    ))  # fmt: skip
    p, q = sum(first for first, _ in rows), sum(second for _, second in rows)
    determinant = a * c - b * b
    return determinant / (p * c - q * b), determinant / (q * a - p * b)


def over(runs: Sequence[Run], shares: Shares) -> list[float]:
    """Measured tokens per second over predicted, of each run."""
    return [micro_batch_seconds(run.work, run.gpu, *shares) / run.seconds for run in runs]


def held_back(groups: Mapping[str, Sequence[Run]]) -> dict[str, list[float]]:
    """Of each group, measured over predicted where the shares were fitted to the others."""
    return {
        name: over(runs, fit([run for other, rest in groups.items() if other != name for run in rest]))
        for name, runs in groups.items()
    }


def coverage(held: Mapping[str, Sequence[float]]) -> tuple[int, int]:
    """How many runs lie inside the range of the other groups, and of how many."""
    inside = 0
    for name, found in held.items():
        others = [ratio for other, ratios in held.items() if other != name for ratio in ratios]
        inside += sum(min(others) <= ratio <= max(others) for ratio in found)
    return inside, sum(map(len, held.values()))


def report() -> tuple[Fitted, str]:
    """What was fitted, and the page that shows it."""
    runs = published_runs()
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.stock_kernels:
            groups[run.group].append(run)
    stock = [run for found in groups.values() for run in found]
    shares, held = fit(stock), held_back(groups)
    ratios = [ratio for found in held.values() for ratio in found]
    inside, of = coverage(held)
    miss = median(abs(1 / ratio - 1) for ratio in ratios)
    fitted = Fitted(
        tensor_cores=round(shares[0], 4),
        bandwidth=round(shares[1], 4),
        over_low=round(min(ratios), 4),
        over_high=round(max(ratios), 4),
        runs=len(stock),
        capabilities=tuple(sorted({run.gpu.compute_capability for run in stock if run.gpu.compute_capability})),
        least_tokens=min(run.work.tokens for run in stock),
        source=f"{len(stock)} published runs on A100 cards; a group held back is met to {miss:.1%} at the median",
    )
    replaced = [run for run in runs if not run.stock_kernels]
    rows = [
        (name, str(len(found)), f"{median(found):.3f}", f"{min(found):.3f}", f"{max(found):.3f}")
        for name, found in sorted(held.items())
    ]
    others = over(replaced, shares)
    page = [
        "# Tokens per second: predicted beside published",
        "",
        "Written by `python -m planner.evidence.throughput`.",
        "",
        f"Reached of the tensor cores {shares[0]:.1%}, of the bandwidth {shares[1]:.1%}: two numbers, fitted to "
        f"{len(stock)} runs. With each group held back in turn, the error is {miss:.1%} at the median, and {inside} of "
        f"{of} runs lie inside the range of the other groups' runs. Measured over predicted, of groups held back:",
        "",
        table(("group", "runs", "median", "lowest", "highest"), rows),
        "",
        f"{len(replaced)} runs with fused kernels of fms-acceleration, which no plan here knows and nothing is fitted "
        f"to, were {median(others):.3f} times as fast as predicted at the median ({min(others):.3f} to "
        f"{max(others):.3f}).",
    ]
    return fitted, "\n".join(page) + "\n"


def main() -> int:
    """Write both files."""
    fitted, page = report()
    FITTED_FILE.write_text(json.dumps(asdict(fitted), indent=2) + "\n", encoding="utf-8")
    REPORT_FILE.write_text(page, encoding="utf-8")
    sys.stdout.write(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())

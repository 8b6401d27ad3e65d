"""The report of `fitproof dry-run` as one page that needs nothing else: style and drawing are inside."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.cli.answer import VERDICTS
from app.cli.dry_run.running import headline
from app.drawing.bars import Row, draw_bars
from app.drawing.curve import HEIGHT, WIDTH, draw_curve
from app.folders import house_folder
from app.templating import gib, size
from planner.errors import FieldProblem, InvalidRequestError


def write_page(report: Mapping[str, Any], file: Path) -> None:
    """Write the page.

    Raises:
        InvalidRequestError: the file cannot be written.
    """
    try:
        file.write_text(page(report), encoding="utf-8")
    except OSError as error:
        problem = FieldProblem("--html", f"{file} cannot be written: {error.strerror}")
        raise InvalidRequestError("The report has no place.", [problem]) from None


def page(report: Mapping[str, Any]) -> str:
    """The page as HTML."""
    css = house_folder("static") / "css"
    environment = Environment(
        loader=FileSystemLoader(house_folder("templates")), undefined=StrictUndefined, autoescape=True, trim_blocks=True
    )
    environment.filters |= {"size": size, "gib": gib}
    worst = next((p for p in report["processes"] if p["process_id"] == report["worst_process_id"]), None)
    curve = draw_curve(worst["curve"], worst["card"]["total_bytes"]) if worst else None
    return environment.get_template("reports/dry_run.html").render(
        report=report,
        worst=worst,
        curve=curve,
        ranks=draw_bars([_rank(process, worst) for process in report["processes"]], worst["card"]["total_bytes"])
        if worst
        else None,
        width=WIDTH,
        height=HEIGHT,
        headline=headline(report, worst),
        verdicts={key: word for key, (word, _) in VERDICTS.items()},
        style="".join((css / name).read_text(encoding="utf-8") for name in ("site.css", "answer.css")),
    )


def _rank(process: Mapping[str, Any], worst: Mapping[str, Any]) -> Row:
    """One rank's bytes at its peak: tensors, what torch holds beside them, the context."""
    allocated_bytes = process["peak_allocated_bytes"]
    parts = {
        "allocated": allocated_bytes,
        "reserved": max(0, process["peak_reserved_bytes"] - allocated_bytes),
        "context": process["card"]["context_bytes"],
    }
    is_worst = process["process_id"] == worst["process_id"]
    return Row(f"rank {process['rank']}{', the worst' if is_worst else ''}", parts, marked=is_worst)

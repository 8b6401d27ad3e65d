"""The answer to an inference question in the terminal."""

from typing import Any

from rich.text import Text

from app.cli.answer import VERDICTS
from app.cli.terminal import console, table
from planner.units import format_gib


def show(answer: dict[str, Any]) -> None:
    """Print `answer`, the document of `POST /api/v1/inference`."""
    out = console()
    word, style = VERDICTS[answer["verdict"]]
    recorded = answer["recorded"]
    modelled = "" if recorded else " (modelled)"
    required, spare = answer["required_bytes"], answer["headroom_bytes"]
    about = f"{answer['model']} on {answer['gpu']['name']}, {answer['engine']}{modelled}"
    out.print(Text.assemble((word, style), f": {about}"))
    rest = f"{format_gib(spare)} to spare" if spare >= 0 else f"{format_gib(-spare)} short"
    span = f"{format_gib(required['low'])} to {format_gib(required['high'])}"
    out.print(f"needs {format_gib(required['likely'])} ({span}) of {format_gib(answer['usable_bytes'])} usable: {rest}")
    if answer["host_bytes"]:
        out.print(f"and {format_gib(answer['host_bytes'])} of host memory, where the cache is")
    limits = answer["limits"]
    made_for = f" of the {limits['made_for']:,} it was made for" if limits["made_for"] else ""
    out.print(f"fits up to {limits['context']:,} tokens{made_for}, or {limits['batch']:,} sequences of this context")
    if recorded:
        out.print(Text(f"{recorded['sentence']}.", style="dim"))
    out.print()
    rows = table("what", ">bytes", "while", "evidence")
    for line in sorted(answer["lines"], key=lambda line: -line["bytes"]):
        if answer["peak_phase"] in line["alive_in"]:
            rows.add_row(line["name"], format_gib(line["bytes"], 3), ", ".join(line["alive_in"]), line["evidence"])
    out.print(rows)

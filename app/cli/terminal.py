"""Printing: JSON for programs, plain tables for people."""

import sys
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json
from rich import box
from rich.console import Console
from rich.table import Table


def console() -> Console:
    """Standard output: coloured and as wide as the terminal, or plain and wide enough where it is not one."""
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=not sys.stdout.isatty())


def print_json(document: Any) -> None:
    """Print `document` as JSON, indented as people read it and programs do not mind."""
    sys.stdout.write(to_json(document, indent=2).decode() + "\n")


def table(*headings: str) -> Table:
    """A quiet table. A heading that begins with `>` is of a column of numbers."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        made.add_column(heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left")
    return made


def print_rows(headings: Sequence[str], rows: Sequence[Sequence[str]], total: int) -> None:
    """Print rows, and how many more there are."""
    out = console()
    if not rows:
        out.print("Nothing matches; use fewer or shorter words.")
        return
    made = table(*headings)
    for row in rows:
        made.add_row(*row)
    out.print(made)
    if total > len(rows):
        out.print(f"{total - len(rows)} more; say --limit {total}, or add words.")

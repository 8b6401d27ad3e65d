"""Printing: JSON for programs, plain tables for people."""

import sys
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json
from rich import box
from rich.console import Console
from rich.table import Table


class _Console(Console):
    """Rich ends the program with status 1 when its reader is gone, which would read as "does not fit"."""

    def on_broken_pipe(self) -> None:
        """Leave it to the group of commands."""
        raise BrokenPipeError


def console() -> Console:
    """Standard output: coloured and as wide as the terminal, or plain and wide enough where it is not one."""
    terminal = sys.stdout.isatty()
    return _Console(width=None if terminal else 120, highlight=False, soft_wrap=not terminal)


def print_json(document: Any) -> None:
    """Print `document` as JSON, indented as people read it and programs do not mind. In UTF-8 whatever the locale."""
    sys.stdout.flush()
    sys.stdout.buffer.write(to_json(document, indent=2) + b"\n")
    sys.stdout.buffer.flush()


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

"""The terminal's commands in a thread of their own: browser tests leave an event loop running in the main one."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from click.testing import Result
from typer import Typer
from typer.testing import CliRunner


def invoke(app: Typer, words: list[str], **more: Any) -> Result:
    """What `fitproof WORDS` answers."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(CliRunner().invoke, app, words, **more).result()

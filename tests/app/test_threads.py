"""What goes wrong in a thread reaches whoever waits for it, and no attribute of a shared class holds a lock."""

import ast
import asyncio
from pathlib import Path

import pytest

from app.threads import AnsweringExecutor

ROOT = Path(__file__).parents[2]


def test_an_iterator_that_ends_in_a_thread_is_an_error_and_not_a_wait_for_ever() -> None:
    async def ask() -> None:
        with AnsweringExecutor(1) as pool:
            asyncio.get_running_loop().set_default_executor(pool)
            async with asyncio.timeout(10):
                await asyncio.to_thread(next, iter(()))

    with pytest.raises(RuntimeError, match="iterator ended"):
        asyncio.run(ask())


def test_no_class_uses_the_cached_property_that_locks_everybody_out() -> None:
    """Python 3.11's holds one lock per attribute for all instances of a class."""
    users = [
        path
        for package in ("app", "planner")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "functools"
        if any(name.name == "cached_property" for name in node.names)
    ]
    assert users == []

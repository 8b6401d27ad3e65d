"""A process that forks a child for each call: pristine, whatever the tests do in their own."""

import os
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from planner.probe.processes.forked import in_fork

_calls: list[Connection] = []


def start() -> None:
    """Fork the helper; it ends when this process does."""
    here, there = Pipe()
    if os.fork() == 0:
        here.close()
        _serve(there)
    there.close()
    _calls.append(here)


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns or raises in a child of the helper. Both must be picklable."""
    _calls[0].send((function, arguments))
    result, error = _calls[0].recv()
    if error is not None:
        raise error
    return result


def _serve(calls: Connection) -> None:
    try:
        while True:
            function, arguments = calls.recv()
            try:
                calls.send((in_fork(lambda: function(*arguments)), None))  # noqa: B023  # called at once
            except Exception as error:
                calls.send((None, error))
    except (EOFError, OSError):
        os._exit(0)

"""Whose turn it is to write: the threads of one process wait in line instead of racing for SQLite's lock.

SQLite lets a writer that finds the file locked sleep and try again, for longer each time (sqlite3_busy_timeout), so
among many writers one may never be awake at the right moment.
"""

import threading
from collections import deque


class Turn:
    """A lock that is handed to the longest waiter."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._taken = False

    def take(self, patience_seconds: float) -> bool:
        """Wait in line; False where it took longer than `patience_seconds`."""
        with self._guard:
            if not self._taken:
                self._taken = True
                return True
            mine = threading.Event()
            self._waiting.append(mine)
        if mine.wait(patience_seconds):
            return True
        with self._guard:
            if mine.is_set():
                # Handed over at the last moment.
                return True
            self._waiting.remove(mine)
            return False

    def give(self) -> None:
        """Hand it to the next in line."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False

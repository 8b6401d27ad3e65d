"""What a person sees while the program runs: one line per step, and on a terminal a line that lives between them."""

import sys
import threading

from fitproof_bootstrap import ranks

_GIB = 1 << 30
# Often enough to see a model load, seldom enough to cost nothing.
_SECONDS = 0.5
_CLEAR = "\r\033[K"


class Progress:
    """Lines of the first rank, on stderr; other ranks are quiet."""

    def __init__(self, torch, prefix):
        self.torch = torch
        self.prefix = prefix
        self.over = threading.Event()

    @property
    def quiet(self):
        """Whether another rank speaks. A process learns its rank when its group forms, as late as that may be."""
        return ranks.place()[0] != 0

    def live(self, moment):
        """On a terminal, rewrite one line until the end. `moment` tells the phase and the step."""
        if not sys.stderr.isatty():
            return
        threading.Thread(target=self._watch, args=(moment,), daemon=True).start()

    def _watch(self, moment):
        while not self.over.wait(_SECONDS):
            if not self.quiet:
                self._write(f"{_CLEAR}{self.prefix}{moment()}: {self._sizes()}")

    def step(self, number):
        """The end of an optimizer step."""
        if self.quiet:
            return
        start = _CLEAR if sys.stderr.isatty() else ""
        cuda = self.torch.cuda
        peaks = (
            f"{cuda.max_memory_allocated() / _GIB:.2f} GiB allocated, {cuda.max_memory_reserved() / _GIB:.2f} reserved"
        )
        self._write(f"{start}{self.prefix}step {number}: at most {peaks}\n")

    def end(self):
        """Leave the terminal's line empty."""
        if not self.quiet and not self.over.is_set() and sys.stderr.isatty():
            self._write(_CLEAR)
        self.over.set()

    def _sizes(self):
        cuda = self.torch.cuda
        return f"{cuda.memory_allocated() / _GIB:.2f} GiB allocated, {cuda.memory_reserved() / _GIB:.2f} reserved"

    @staticmethod
    def _write(text):
        sys.stderr.write(text)
        sys.stderr.flush()

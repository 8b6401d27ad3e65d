"""Watches one process of the program: its optimizer steps, what ends it, and what torch's allocator held meanwhile."""

import atexit
import os
import sys
import threading
import time
import traceback

from fitproof_bootstrap import cards, ranks, readings, saving
from fitproof_bootstrap.progress import Progress

# Ends a program whose own threads keep it alive after the steps that matter.
GRACE_SECONDS = 10
# torch's memory history is a ring; a 70B model's three steps make some 200,000 events.
HISTORY_ENTRIES = 2_000_000
_watching = []


def watch(torch, run, folder):
    """Begin once CUDA is initialized: a process that only launches others stays as it is."""
    recorder = Recorder(torch, run, folder)
    _watching.append(recorder)
    recorder.watch_the_end()
    if run["scratch"]:
        saving.redirect(torch, "save", run)
    torch.cuda._lazy_call(recorder.begin)


def of_this_process():
    """The recorder of the torch that this process imported."""
    return _watching[-1]


class Recorder:
    """One process's story. `steps` holds a reading per optimizer step; `marks` the moments a phase began."""

    def __init__(self, torch, run, folder):
        self.torch = torch
        self.run = run
        self.folder = folder
        self.steps = []
        self.marks = []
        self.out_of_memory = None
        self.optimizer = None
        self.engine = False
        self.written = False
        self.process_id = os.getpid()
        self.progress = Progress(torch, run["progress_prefix"])

    def begin(self):
        """Record allocations and wait for steps."""
        self.process_id = os.getpid()
        torch = self.torch
        # Who frees a block is of no interest but to those who look at the snapshot themselves.
        context = "all" if self.run["snapshot"] else "alloc"
        torch.cuda.memory._record_memory_history(max_entries=HISTORY_ENTRIES, stacks="python", context=context)
        torch._C._cuda_attach_out_of_memory_observer(self._refused)
        self._mark(readings.BEFORE_BACKWARD)
        self.progress.live(lambda: f"{self.marks[-1]['phase']}, step {self.marks[-1]['step']}")
        self._mark_backward()
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        register_optimizer_step_pre_hook(self._before_step)
        register_optimizer_step_post_hook(self._after_step)

    def _mark(self, phase):
        self.marks.append({"time_us": int(time.time() * 1e6), "phase": phase, "step": len(self.steps) + 1})

    def _mark_backward(self):
        """`Tensor.backward` looks `torch.autograd.backward` up when it is called."""
        original = self.torch.autograd.backward

        def backward(*args, **kwargs):
            self._mark("backward")
            try:
                return original(*args, **kwargs)
            finally:
                self._mark("forward")

        self.torch.autograd.backward = backward

    def _before_step(self, optimizer, *_):
        if self.optimizer is None:
            self.optimizer = optimizer
        if not self.engine:
            self._mark("optimizer")

    def _after_step(self, optimizer, *_):
        """The step of the first optimizer that stepped is the program's."""
        if optimizer is self.optimizer and not self.engine:
            self._read_step()

    def begin_engine_step(self):
        """DeepSpeed's engine makes the steps from now on, whatever optimizers it calls."""
        self.engine = True
        self._mark("optimizer")

    def end_engine_step(self):
        """The engine's step was made."""
        self._read_step()

    def _read_step(self):
        """Read its peaks; end the program after the last step that matters."""
        if self.written:
            os._exit(0)
        ranks.let_go_of_collectives(self.torch)
        cuda = self.torch.cuda
        self.steps.append(
            {"peak_allocated_bytes": cuda.max_memory_allocated(), "peak_reserved_bytes": cuda.max_memory_reserved()}
        )
        self._mark("forward")
        saving.begin()
        self.progress.step(len(self.steps))
        if self._enough():
            self._write("stepped")
            timer = threading.Timer(GRACE_SECONDS, os._exit, [0])
            timer.daemon = True
            timer.start()
            raise SystemExit(0)
        cuda.reset_peak_memory_stats()

    def _enough(self):
        """The asked number of steps, or two in a row with the same peaks."""
        wanted = self.run["steps"]
        if wanted:
            return len(self.steps) >= wanted
        repeated = len(self.steps) >= 2 and self.steps[-1] == self.steps[-2]
        return repeated or len(self.steps) >= self.run["most_steps"]

    def _refused(self, device, asked_bytes, allowed_bytes, free_bytes):
        """torch's observer of failed allocations; the program may catch the error and go on with less."""
        stack = [(frame.filename, frame.lineno, frame.name) for frame in traceback.extract_stack()[:-1]]
        self.out_of_memory = {
            "device": device,
            "requested_bytes": asked_bytes,
            "allowed_bytes": allowed_bytes,
            "free_bytes": free_bytes,
            "steps_before": len(self.steps),
            "stack": stack,
        }

    def watch_the_end(self):
        """Write the report whichever way the process ends; an uncaught error says how."""
        before = sys.excepthook

        def hook(kind, error, trace):
            if isinstance(error, self.torch.cuda.OutOfMemoryError) or self.out_of_memory is not None:
                self._write("out_of_memory", message=str(error))
            else:
                self._write("failed", message=f"{kind.__name__}: {cards.said_of(error)}")
            before(kind, error, trace)

        sys.excepthook = hook
        atexit.register(self._write, "ended")

    def _write(self, outcome, message=None):
        """Write this process's report, once. A forked child of a recorded process writes none."""
        if self.written or os.getpid() != self.process_id:
            return
        self.written = True
        self.progress.end()
        readings.write(self, outcome, message)

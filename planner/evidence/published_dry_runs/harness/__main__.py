"""`python -m harness < job.json`: published settings of one model under several schedules, a line of JSON for each.

A job is `{"values": folder, "loads": [{"settings": […], "config": …, "checkpoint": folder, "schedules": [seed, …]}]}`;
settings of one load have the same model in the same way. Everything is imported once. Each schedule loads in a process
of its own, and each setting steps in a fork of that one: as if it had loaded by itself, for the price of one load.
"""

import contextlib
import functools
import importlib
import importlib.util
import json
import os
import pickle
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .hollow import hollow_checkpoint
from .requests import Moments, ask_again
from .schedule import replay_threads


def main() -> int:
    """Run the job on standard input."""
    job = json.load(sys.stdin)
    torch.cuda.init()  # bitsandbytes of some releases does so when it is imported, others do not
    # A real card's context does not survive a fork, so torch refuses to use one there; the virtual card's does.
    torch.cuda._is_in_bad_fork = lambda: False
    true_whole_numbers(Path(job["values"]))
    return 0 if all(map(run_load, job["loads"])) else 1


def run_load(load: dict[str, Any]) -> bool:
    """Every schedule of one load, and an empty line when all is told; whether it came to its end."""
    harness = importlib.import_module(f".{load['settings'][0]['harness']}", __package__)
    checkpoint = str(hollow_checkpoint(Path(load["checkpoint"]), load["config"], harness.DTYPE))
    asked: dict[str, Any] = {}
    for seed in load["schedules"]:
        with tempfile.TemporaryFile() as told:
            schedule = Schedule(harness, seed, asked, told)
            if not in_a_fork(functools.partial(schedule.run, load["settings"], checkpoint)):
                return False
            told.seek(0)
            asked.update(unpickled(told))
    print(flush=True)  # noqa: T201
    return True


@dataclass
class Schedule:
    """One order of the loader's threads. `asked` has what settings asked of the allocator; `told` takes what is new."""

    harness: Any
    seed: int
    asked: dict[str, Any]
    told: Any

    def run(self, settings: list[dict[str, Any]], checkpoint: str) -> None:
        """Load once in this order, then step each setting, or ask again what it asked before."""
        replay_threads(self.seed)
        reached: dict[str, int] = {}
        model = self.harness.loaded(settings[0], checkpoint, reached)
        for setting in settings:
            # A setting that ran out of memory asked for less than it would have: another schedule may get further.
            again = functools.partial(self.ask_again, setting, model, dict(reached))
            if setting["id"] in self.asked and in_a_fork(again):
                continue
            if not in_a_fork(functools.partial(self.step, setting, model, dict(reached))):
                raise RuntimeError(f"{setting['id']} broke off; what it said stands above.")

    def step(self, setting: dict[str, Any], model: Any, reached: dict[str, int]) -> None:
        """Take the steps, and tell what they asked. Out of memory is an answer."""
        moments = Moments(reached, model)
        message = None
        try:
            self.harness.stepped(model, setting, moments)
        except torch.OutOfMemoryError as error:
            message = str(error)
        pickle.dump((setting["id"], moments.requests() | {"is_whole": message is None}), self.told)
        self.told.flush()
        self.answer(setting, reached, message, stepped=True)

    def ask_again(self, setting: dict[str, Any], model: Any, reached: dict[str, int]) -> None:
        """Ask what the steps asked. Raises RuntimeError where only the steps can tell how it goes on."""
        message, requests = None, self.asked[setting["id"]]
        try:
            ask_again(requests, reached, model)
        except torch.OutOfMemoryError as error:
            message = str(error)
        if message is None and not requests["is_whole"]:
            raise RuntimeError("This schedule gets further than the recorded one, so the steps are taken.")
        self.answer(setting, reached, message, stepped=False)

    def answer(self, setting: dict[str, Any], reached: dict[str, int], message: str | None, *, stepped: bool) -> None:
        """Print the line."""
        line = {"id": setting["id"], "schedule": self.seed, "stepped": stepped, "bytes": reached}
        line |= {"outcome": "completed"} if message is None else {"outcome": "oom", "message": message}
        print(json.dumps(line), flush=True)  # noqa: T201  # the answer


def in_a_fork(work: Callable[[], None]) -> bool:
    """Do it in a fork of this process; whether it came to its end."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):  # this process must not return into the loop that made it
            try:
                work()
                status = 0
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
        os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def unpickled(answers: Any) -> Iterator[Any]:
    """Everything that the forks left."""
    with contextlib.suppress(EOFError):
        while True:
            yield pickle.load(answers)  # noqa: S301  # written by our own forks


def true_whole_numbers(folder: Path) -> None:
    """Have whole numbers and booleans on the virtual card computed truly, by the package in this folder."""
    spec = importlib.util.spec_from_file_location(
        "values", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise FileNotFoundError(folder)
    values = sys.modules["values"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(values)
    values.install()


if __name__ == "__main__":
    sys.exit(main())

"""Leaves torch's compiler at home: nothing is compiled here, and importing torch._dynamo takes a fifth of a cold run.

`TORCHDYNAMO_DISABLE` is only asked once torch._dynamo is there, and decorators fetch it: transformers marks functions
for the compiler, bitsandbytes compiles what only a processor runs, and torch keeps checkpointing, its optimizers and
what it knows of the meta device out of graphs. Without a compiler each of them hands back the function it was given.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_NAME = "torch._dynamo"
# What transformers/masking_utils.py and torch/utils/checkpoint.py ask for; both stand on nothing else of the package.
_ALONE = ("_trace_wrapped_higher_order_op", "config")


def leave_compiler_at_home() -> None:
    """For the rest of this process. torch is imported; where its compiler is too, nothing is changed."""
    if _NAME in sys.modules:
        return
    sys.modules[_NAME] = _StandIn()
    torch = sys.modules["torch"]
    torch.compile = _as_given  # type: ignore[attr-defined]  # as TORCHDYNAMO_DISABLE has it answer
    vars(torch).setdefault("_inductor", _NothingGenerated("torch._inductor"))
    for name in _ALONE:
        with suppress(ImportError):  # of a torch in which it stands on its package: who asks for it will fetch that
            importlib.import_module(f"{_NAME}.{name}")
    sys.meta_path.insert(0, _Submodules())


class _StandIn(ModuleType):
    """The decorators; any other attribute loads the real module, from then on."""

    def __init__(self) -> None:
        super().__init__(_NAME)
        self.__path__ = [str(Path(str(sys.modules["torch"].__file__)).with_name("_dynamo"))]
        self.allow_in_graph = self.assume_constant_result = self.disable = _as_given
        self.graph_break = _nothing

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # code that scans all modules for their files
            raise AttributeError(name)
        return getattr(_real(), name)


class _NothingGenerated(ModuleType):
    """Stands in for torch._inductor: a snapshot of the allocator asks whether it has generated code to name."""

    def __getattr__(self, name: str) -> Any:
        if name == "codecache" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


class _Submodules(MetaPathFinder, Loader):
    """Has the package imported before its parts: they do not stand alone."""

    def find_spec(self, name: str, _: Sequence[str] | None, __: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(f"{_NAME}."):
            return None
        _real()
        return ModuleSpec(name, self) if name in sys.modules else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """It was, when its package was imported."""


def _real() -> ModuleType:
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Submodules)]
    if isinstance(sys.modules[_NAME], _StandIn):
        del sys.modules[_NAME]
    return importlib.import_module(_NAME)


def _nothing(*_: Any, **__: Any) -> None:
    """Where no graph is made none is broken: torch's optimizers ask for it around each step."""


def _as_given(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """The decorator, with or without arguments of its own."""
    return _as_given if function is None else function

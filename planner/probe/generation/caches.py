"""What `generate` is told of its cache, and quanto's one CUDA kernel of its own, which no dry run can build."""

import importlib
import importlib.util
from typing import Any

import torch

from planner.errors import FieldProblem, InvalidRequestError
from planner.probe.training.hqq import INSTALL as INSTALL_HQQ
from planner.serving.generation_cache import CacheConfig
from planner.serving.request import Inference

_INSTALL_QUANTO = "install optimum-quanto: pip install --no-deps optimum-quanto==0.2.7 ninja"


def cache_options(asked: Inference) -> dict[str, Any]:
    """The arguments of `generate` that choose the cache; none for the one it has by itself.

    Raises:
        InvalidRequestError: the library that quantizes is not here.
    """
    config = asked.quantized_cache
    if config is None:
        chosen = asked.cache_implementation
        return {} if chosen == "dynamic" else {"cache_implementation": chosen}
    if config.backend == "hqq":
        _require("hqq", INSTALL_HQQ)
        _let_transformers_see_hqq()
    if config.backend == "quanto":
        _require("optimum.quanto", _INSTALL_QUANTO)
        _stand_in_for_unpacking()
    return {"cache_implementation": "quantized", "cache_config": _written(config)}


def _written(config: CacheConfig) -> dict[str, Any]:
    return {"backend": config.backend} if config.backend == "fp8" else config.model_dump()


def _require(module: str, install: str) -> None:
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise InvalidRequestError("This cache needs a library.", [FieldProblem("cache_config.backend", install)])


def _let_transformers_see_hqq() -> None:
    """A virtual card has transformers imported without hqq, which training's dry runs do not need (virtual_card.py)."""
    cache_utils: Any = importlib.import_module("transformers.cache_utils")
    cache_utils.is_hqq_available = lambda: True
    cache_utils.HQQQuantizer = importlib.import_module("hqq.core.quantize").Quantizer
    optimize: Any = importlib.import_module("hqq.core.optimize")
    optimize.torch = _TorchWithInfinity()


def _stand_in_for_unpacking() -> None:
    """On a virtual card: allocate what quanto's kernel does, which is compiled by nvcc where it is first used.

    Source: optimum-quanto 0.2.7 library/extensions/cuda/unpack.cu, allocate_output: 8/bits times the first dimension.
    """
    extension = importlib.import_module("optimum.quanto.library.extensions.cuda").ext
    extension._lib = _Unpacking  # what `Extension.lib` returns once it is built


class _TorchWithInfinity:
    """torch for hqq's optimizer: the first best error is infinite, so that there is a second round, as on a card.

    A virtual card asks each float as 1, which is not less than another (planner/probe/values/float_predicates.py).
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def tensor(*_: object, **__: object) -> "_Infinity":
        return _Infinity()


class _Infinity:
    def __gt__(self, _: object) -> bool:
        return True


class _Unpacking:
    @staticmethod
    def unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
        rows, *rest = packed.shape
        return packed.new_empty((rows * (8 // bits), *rest))

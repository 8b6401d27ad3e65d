"""Write the census of the catalogue: build each model on the meta device and list every tensor.

    python -m planner.probe.recording.census [MODEL_ID ...]

Without ids it writes all of them. It reads `planner/catalog/models.toml`, builds the class that the row names with
the installed transformers, and writes `planner/catalog/census/PUBLISHER.json`. A model whose total differs from the
row's `params` is an error, and nothing is written for it.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from planner.probe.devices.virtual_card import insert_no_card

insert_no_card()  # torch's CUDA build is imported next, with or without NVIDIA's libraries

import torch
import transformers
from torch import nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import MergeModulelist, build_glob_alternation
from transformers.initialization import no_tie_weights
from transformers.modeling_utils import local_torch_dtype
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from planner.catalog.generated import CENSUS_FOLDER, census_file, write_group
from planner.catalog.model_rows import ModelRow, model_catalog
from planner.errors import CatalogError, FitproofError
from planner.tensors.inventory import Census, Role, TensorGroup, total_params

_INDEX = re.compile(r"(?<=\.)\d+(?=\.|$)")


def build_on_meta(row: ModelRow) -> nn.Module:
    """Build the row's class from the row's config; class defaults fill what the config does not state.

    Weights are not tied yet: so the quantizer finds the model when it looks for the last module, which it leaves alone
    (modeling_utils.py get_init_context, quantizers/base.py get_keys_to_not_convert).
    """
    kind = getattr(transformers, row.architecture)
    config = kind.config_class(**{key: value for key, value in row.config.items() if key != "model_type"})
    with torch.device("meta"), local_torch_dtype(torch.bfloat16, kind.__name__), no_tie_weights():
        model: nn.Module = kind(config)
    return model


def census_of(model: Any) -> Census:
    """List every parameter once, tied ones under the name they are first met, equal ones of all layers together.

    Behind them come the buffers. The model's weights are tied when this returns.
    """
    skipped = HfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
    model.tie_weights()
    head = model.get_output_embeddings()
    always, of_float16 = (_float32_names(model, dtype) for dtype in (torch.bfloat16, torch.float16))
    converted = [step for each in get_model_conversion_mapping(model) for step in getattr(each, "operations", ())]
    merges = any(isinstance(step, MergeModulelist) for step in converted)
    groups: Counter[TensorGroup] = Counter()
    for name, tensor in model.named_parameters():
        path, _, leaf = name.rpartition(".")
        owner = model.get_submodule(path)
        role: Role = "head" if owner is head and leaf == "weight" else _role(path, leaf, owner, tensor)
        quantizable = leaf == "weight" and _becomes_4bit(owner) and should_convert_module(path, skipped)
        kept = {"keeps_float32": name in always, "keeps_float32_of_float16": name in of_float16 - always}
        kept["stacked_in_checkpoint"] = role == "expert" and tensor.dim() == 3 and not merges
        groups[_one(name, role, tensor, quantizable=quantizable, **kept)] += 1
    for name, tensor in model.named_buffers():
        groups[_one(name, "buffer", tensor, keeps_float32=name in always)] += 1
    return tuple(replace(group, count=count) for group, count in groups.items())


def _one(name: str, role: Role, tensor: torch.Tensor, **flags: bool) -> TensorGroup:
    group = TensorGroup(name=_INDEX.sub("*", name), role=role, shape=tuple(tensor.shape), count=1)
    return replace(group, **flags)  # type: ignore[arg-type]  # flags are none but the group's own


def _becomes_4bit(module: nn.Module) -> bool:
    """The rule of transformers/integrations/bitsandbytes.py, replace_with_bnb_linear: no subclass but Conv1D."""
    return isinstance(module, Conv1D) or type(module) is nn.Linear


def _float32_names(model: Any, dtype: torch.dtype) -> set[str]:
    """Parameters and buffers that a load in 16-bit `dtype` leaves in float32, by transformers/core_model_loading.py.

    They match `_keep_in_fp32_modules_strict`, in a float16 load the weaker `_keep_in_fp32_modules` too (GPT-OSS's
    norms, DeepSeek-V3.2's indexer), or the model's own code creates them in float32.
    """
    plan = model._get_dtype_plan(dtype)
    matches = build_glob_alternation(list(plan))[0].search if plan else lambda _: None
    tensors = chain(model.named_parameters(), model.named_buffers())
    return {name for name, tensor in tensors if matches(name) or tensor.dtype == torch.float32}


def _role(path: str, leaf: str, owner: nn.Module, tensor: nn.Parameter) -> Role:
    """What a tensor is for, from the module that owns it."""
    kind, last = type(owner).__name__, path.rpartition(".")[2]
    if isinstance(owner, nn.Embedding):
        return "embedding"
    if "Norm" in kind:
        return "norm"
    if "Experts" in kind or (tensor.dim() == 3 and "expert" in path):
        return "expert"
    if "Router" in kind or last in ("gate", "router"):
        return "router"
    if isinstance(owner, nn.Linear | Conv1D):
        return "bias" if leaf == "bias" else "linear"
    return "other"


def counted(row: ModelRow) -> Census:
    """Build one row's census.

    Raises:
        CatalogError: the tensors do not add up to the row's `params`.
    """
    census = census_of(build_on_meta(row))
    if total_params(census) != row.params:
        raise CatalogError(
            f"models.toml, row {row.id}: params says {row.params:,} but {row.architecture} has "
            f"{total_params(census):,}; correct params or the config"
        )
    return census


def write(rows: Iterable[ModelRow], folder: Path = CENSUS_FOLDER) -> Iterator[tuple[str, int]]:
    """Write the census of `rows` into their publishers' files, keeping other models there; yield what was written.

    Raises:
        CatalogError: see `counted`; the rows before the faulty one are written.
    """
    folder.mkdir(exist_ok=True)
    for row in rows:
        file = census_file(row.id, folder)
        models = json.loads(file.read_text(encoding="utf-8"))["models"] if file.is_file() else {}
        census = counted(row)
        models[row.id] = [write_group(group) for group in census]
        file.write_text(_document(models), encoding="utf-8")
        yield row.id, len(census)


def _document(models: Mapping[str, list[list[Any]]]) -> str:
    """JSON with one tensor group per line, so that a change of the library reads as a change of lines."""
    head = {
        "generated_by": "python -m planner.probe.recording.census",
        "versions": {"torch": torch.__version__.partition("+")[0], "transformers": transformers.__version__},
        "group": (
            "name, role, shape, count, flags: q what bitsandbytes quantizes, f stays float32, h does in float16, "
            "s is stacked in the checkpoint"
        ),
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    blocks = [
        f"{json.dumps(model_id)}: [\n" + ",\n".join(json.dumps(group) for group in models[model_id]) + "\n]"
        for model_id in sorted(models, key=str.casefold)
    ]
    return "\n".join(["{", *lines, '"models": {', ",\n".join(blocks), "}", "}", ""])


def main(ids: list[str]) -> int:
    """Write the named models, or all; print one line each."""
    catalog = model_catalog()
    try:
        for model_id, groups in write([catalog.find(name) for name in ids] or catalog.rows.values()):
            sys.stdout.write(f"{model_id}: {groups} groups\n")
    except FitproofError as error:
        sys.stderr.write(f"{error.title}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Where a run's weights come from: made up on the device, a real checkpoint, or a hollow one for a virtual card."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from transformers import PretrainedConfig

from planner.probe.checkpoint.header import StoredTensor, header_of, stored_tensors
from planner.probe.checkpoint.hollow import write_hollow_checkpoint
from planner.probe.lifecycle import memory_folder, temporary_folder
from planner.probe.load import build_skeleton, model_class_of, torch_dtype
from planner.probe.options import Options
from planner.recipe import Recipe


@contextmanager
def checkpoint_of(recipe: Recipe, config: PretrainedConfig, options: Options) -> Iterator[str]:
    """What `load_model` is to load: as the options say, but for a dry run a hollow checkpoint's folder."""
    if options.instrument != "dry-run":
        yield options.weights
        return
    # safetensors touches a byte of each tensor, and a disk would read megabytes of holes ahead.
    with temporary_folder(memory_folder()) as folder:
        write_hollow_checkpoint(folder, config, made_up(config, recipe))
        yield str(folder)


def made_up(config: PretrainedConfig, recipe: Recipe) -> Sequence[StoredTensor]:
    """The tensors that a checkpoint of this model has, in the dtype that the recipe loads them in."""
    skeleton = build_skeleton(model_class_of(config), config)
    return tuple(header_of(stored_tensors(skeleton, torch_dtype(recipe.model_dtype))))

"""What the program saves goes to a scratch folder: a checkpoint of a dry run is noise, and must replace none of theirs.

A Trainer's output folder is moved from the start, so that rotating checkpoints deletes none of theirs. torch.save and
safetensors are moved from the first optimizer step on: what a script writes before, it reads again. Logs and other
files that the program writes by itself go where it says. A Trainer uploads nothing.
"""

import functools
import os
import sys

_MARK = "fitproof: "
_begun = False


def scratch_path(run, path):
    """Where `path` is in the scratch folder, which is made; anything but a path, as an open file, is left alone."""
    if not isinstance(path, (str, os.PathLike)):
        return path
    scratch = run["scratch"]
    whole = os.path.abspath(os.fspath(path))
    if os.path.commonpath([whole, scratch]) == scratch:
        return whole
    moved = os.path.join(scratch, whole.lstrip(os.sep))
    os.makedirs(os.path.dirname(moved), exist_ok=True)
    return moved


def begin():
    """From now on what is saved is noise: the first optimizer step was made."""
    global _begun  # noqa: PLW0603  # one process has one training
    _begun = True


def redirect(module, name, run):
    """Let `module.name`, whose second argument is a path, write to the scratch folder once steps were made."""
    original = getattr(module, name)

    @functools.wraps(original)
    def save(*args, **kwargs):
        if _begun:
            args = (*args[:1], *(scratch_path(run, path) for path in args[1:2]), *args[2:])
            kwargs = {
                key: scratch_path(run, value) if key in ("f", "filename") else value for key, value in kwargs.items()
            }
        return original(*args, **kwargs)

    setattr(module, name, save)


def move_output(training_args, run):
    """Let transformers' TrainingArguments, and what others make of them, put out into the scratch folder."""
    original = training_args.TrainingArguments.__post_init__

    @functools.wraps(original)
    def settle(self, *args, **kwargs):
        original(self, *args, **kwargs)
        if self.output_dir is not None:
            self.output_dir = scratch_path(run, self.output_dir)
        if self.push_to_hub:
            self.push_to_hub = False
            sys.stderr.write(f"{_MARK}nothing is pushed to the hub\n")

    training_args.TrainingArguments.__post_init__ = settle

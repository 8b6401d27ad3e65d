"""What `fitproof dry-run` puts into a person's own program: the virtual card, a recorder, and weights without bytes.

The program's environment is not ours, so this package needs nothing but Python 3.9 and its standard library, and does
nothing in a process that never imports torch. FITPROOF_DRY_RUN names the run's folder; its `run.json` says the rest.
"""

import contextlib
import importlib.abc
import importlib.machinery
import json
import os
import sys

FOLDER_VARIABLE = "FITPROOF_DRY_RUN"


def prepare():
    """Watch for the imports that matter, where this process belongs to a dry run."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return
    with open(os.path.join(folder, "run.json"), encoding="utf-8") as file:
        run = json.load(file)
    if run["ranks"]:
        from fitproof_bootstrap import ranks

        run["ranks"] = ranks.fewer_than_the_world(run)
        ranks.wait_if_not_needed(run, folder)
    if "RANK" in os.environ:
        from fitproof_bootstrap import room

        room.refuse_a_world_too_large(run)
    sys.meta_path.insert(0, _Finder(run, folder))
    _tell_of_errors(folder)


def _tell_of_errors(folder):
    """Let an error that ends a program without torch be told too; with torch, the recorder writes more, and first."""
    before = sys.excepthook

    def hook(kind, error, trace):
        from fitproof_bootstrap import readings

        if not os.path.exists(os.path.join(folder, f"process-{os.getpid()}.json")):
            # On a full disk the program's own traceback has to do.
            with contextlib.suppress(OSError):
                readings.save(folder, readings.who("failed", f"{kind.__name__}: {error}"))
        before(kind, error, trace)

    sys.excepthook = hook


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that we prepare where Python would, and wraps their loaders."""

    def __init__(self, run, folder):
        self.loaders = {
            "torch": _TorchLoader,
            "torch.distributed.distributed_c10d": _GroupsLoader,
            "torch.distributed.rendezvous": _RendezvousLoader,
            "huggingface_hub.file_download": _HubLoader,
            "deepspeed.runtime.engine": _DeepSpeedLoader,
            "deepspeed.runtime.zero.stage_1_and_2": _DeepSpeedLoader,
            "deepspeed.runtime.zero.stage3": _DeepSpeedLoader,
            "deepspeed.runtime.zero.utils": _DeepSpeedLoader,
        }
        if run["scratch"]:
            self.loaders["transformers.training_args"] = _ArgumentsLoader
            self.loaders["safetensors.torch"] = _SafetensorsLoader
        self.run = run
        self.folder = folder

    def find_spec(self, name, path=None, target=None):
        """Answer any number of times: datasets looks for torch before it imports it."""
        wrap = self.loaders.get(name)
        if wrap is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = wrap(spec, self.run, self.folder)
        return spec


class _Loader(importlib.abc.Loader):
    """A module's own loader, with something done before and after."""

    def __init__(self, spec, run, folder):
        self.loader = spec.loader
        self.spec = spec
        self.run = run
        self.folder = folder

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        """Leave it to the module's own loader."""
        return self.loader.create_module(spec)

    def load(self, module):
        """Run the module as its own loader does."""
        module.__spec__.loader = self.loader
        self.loader.exec_module(module)


class _TorchLoader(_Loader):
    """Loads the virtual card, then torch, then what watches it."""

    def exec_module(self, module):
        """Import torch on the card."""
        from fitproof_bootstrap import cards, recorder

        cards.insert(self.run, os.path.dirname(next(iter(self.spec.submodule_search_locations))))
        self.load(module)
        cards.tell_the_truth(self.run)
        recorder.watch(module, self.run, self.folder)


class _GroupsLoader(_Loader):
    """Loads torch's groups of processes, and lets them form without the ranks that do not run."""

    def exec_module(self, module):
        """Import them, changed where a group is made."""
        from fitproof_bootstrap import ranks

        self.load(module)
        ranks.let_groups_form(module, self.run, self.folder)


class _RendezvousLoader(_Loader):
    """Loads what ranks meet by."""

    def exec_module(self, module):
        """Import it, changed where it would wait."""
        from fitproof_bootstrap import ranks

        self.load(module)
        ranks.do_not_wait_for_ranks(module, self.run)


class _HubLoader(_Loader):
    """Loads the hub's downloads, and lets weights come without their bytes."""

    def exec_module(self, module):
        """Import them, changed in one place."""
        from fitproof_bootstrap import hub

        self.load(module)
        hub.make_hollow(module, self.run)
        if self.run["offline"]:
            hub.make_up_what_is_missing(module, self.run)


class _ArgumentsLoader(_Loader):
    """Loads transformers' TrainingArguments, whose output goes to the scratch folder."""

    def exec_module(self, module):
        """Import them, changed where they settle."""
        from fitproof_bootstrap import saving

        self.load(module)
        saving.move_output(module, self.run)


class _SafetensorsLoader(_Loader):
    """Loads safetensors, whose files go to the scratch folder after the first step."""

    def exec_module(self, module):
        """Import it, changed where it writes."""
        from fitproof_bootstrap import saving

        self.load(module)
        saving.redirect(module, "save_file", self.run)


class _DeepSpeedLoader(_Loader):
    """Loads a module of DeepSpeed, whose engine makes the steps."""

    def exec_module(self, module):
        """Import it, changed where ranks and gradients are asked."""
        from fitproof_bootstrap import zero

        self.load(module)
        zero.CHANGES[module.__name__](module)

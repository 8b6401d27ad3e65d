"""What `fitproof dry-run` puts into a person's own program: the virtual card before torch, a recorder after it.

The program's environment is not ours, so this package needs nothing but Python 3.9 and its standard library, and does
nothing in a process that never imports torch. FITPROOF_DRY_RUN names the run's folder; its `run.json` says the rest.
"""

import importlib.abc
import importlib.machinery
import json
import os
import sys

FOLDER_VARIABLE = "FITPROOF_DRY_RUN"


def prepare():
    """Watch for the import of torch, where this process belongs to a dry run."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder and "torch" not in sys.modules:
        sys.meta_path.insert(0, _TorchFinder(folder))


class _TorchFinder(importlib.abc.MetaPathFinder):
    """Finds torch where Python would, and wraps its loader."""

    def __init__(self, folder):
        self.folder = folder

    def find_spec(self, name, path=None, target=None):
        """Answer for `torch` alone, once."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _TorchLoader(spec.loader, self.folder, spec.submodule_search_locations)
        return spec


class _TorchLoader(importlib.abc.Loader):
    """Loads the virtual card, then torch, then what watches it."""

    def __init__(self, loader, folder, locations):
        self.loader = loader
        self.folder = folder
        self.site = os.path.dirname(next(iter(locations)))

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        """Leave it to torch's own loader."""
        return self.loader.create_module(spec)

    def exec_module(self, module):
        """Import torch on the card."""
        from fitproof_bootstrap import cards, recorder

        with open(os.path.join(self.folder, "run.json"), encoding="utf-8") as file:
            run = json.load(file)
        cards.insert(run, self.site)
        module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        cards.tell_the_truth(run)
        recorder.watch(module, run, self.folder)

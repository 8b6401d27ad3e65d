"""Python imports this at start, because `fitproof dry-run` puts its folder first on PYTHONPATH.

It prepares the import of torch, then lets a `sitecustomize` of the user's own environment run, if there is one.
"""

import importlib.machinery
import importlib.util
import os
import sys

import fitproof_bootstrap

fitproof_bootstrap.prepare()

_here = os.path.dirname(os.path.abspath(__file__))
_rest = [folder for folder in sys.path if os.path.abspath(folder or ".") != _here]
_spec = importlib.machinery.PathFinder.find_spec("sitecustomize", _rest)
if _spec is not None and _spec.loader is not None:
    _spec.loader.exec_module(importlib.util.module_from_spec(_spec))

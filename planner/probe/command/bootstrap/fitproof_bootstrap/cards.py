"""The virtual card under this process's torch: built for the torch found here, by the Python that has Fitproof."""

import ctypes
import importlib.util
import json
import os
import subprocess
import sys

from fitproof_bootstrap import refusal

_state = None


def insert(run, site):
    """Load the card's libraries where torch's loader finds them: a library that is loaded already wins by its soname.

    `site` is the folder torch was found in. Returns the library that holds the cards' state.
    """
    built = _built(run, site)
    os.environ.update(built["environment"])
    for library in built["libraries"]:
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    global _state  # noqa: PLW0603  # one process has one card set
    _state = ctypes.CDLL(built["state"])
    return _state


def read(device):
    """Bytes of one card as the card itself counted them, by torch's number for it (planner/probe/card/src/card.h)."""
    kinds = {"device": 0, "managed": 1, "pinned": 2}
    for name in ("card_peak_bytes", "card_context_bytes", "card_free_bytes", "card_used_bytes"):
        getattr(_state, name).restype = ctypes.c_uint64
    peaks = {name: _state.card_peak_bytes(device, kind) for name, kind in kinds.items()}
    context_bytes = _state.card_context_bytes(device)
    held_bytes = _state.card_used_bytes(device, kinds["device"]) + context_bytes
    return {
        "total_bytes": held_bytes + _state.card_free_bytes(device),
        "context_bytes": context_bytes,
        "peak_used_bytes": peaks["device"] + context_bytes,
        "peak_pinned_bytes": peaks["pinned"],
        "peak_managed_bytes": peaks["managed"],
    }


def said_of(error):
    """What the card said of the call that `error` names, where it refused that; else the error's own words."""
    _state.card_refusal.restype = ctypes.c_char_p
    refused = _state.card_refusal().decode()
    name = refused.partition(" pretend ")[2].partition(":")[0]
    return refused if name and name in str(error) else str(error)


def tell_the_truth(run):
    """Make whole numbers and booleans on the card true (planner/probe/values), under a name of our own."""
    values = _package("fitproof_values", run["values_folder"])
    values.install(seed=run["seed"], routing=run["routing"])


def _built(run, site):
    """Ask for libraries that fit the torch in `site`; they are kept, so only the first process of a kind waits."""
    command = [*run["card_builder"], site]
    done = subprocess.run(command, capture_output=True, text=True, env=refusal.fitproofs_environment(run), check=False)
    if done.returncode != 0:
        refusal.refuse(run, done.stderr.strip())
    return json.loads(done.stdout.splitlines()[-1])


def _package(name, folder):
    spec = importlib.util.spec_from_file_location(
        name, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
